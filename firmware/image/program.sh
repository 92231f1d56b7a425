#!/bin/sh
# program.sh ARCH SYSROOT OUT [PACKAGE]: cross-compiles the phone's program.
set -eu
. "$(dirname "$0")/common.sh"

arch=$1 sysroot=$2 out=$3 package=${4:-./firmware}
cross "$arch"

# The sysroot's name changes with its packages, and is part of CGO_CFLAGS: Go's
# build cache watches these, but not PKG_CONFIG_*.
export GOOS=linux GOARCH="$goarch" GOARM="${goarm:-}" CGO_ENABLED=1 CC="$prefix-gcc"
export CGO_CFLAGS="-O2 -g0 -I$sysroot/usr/include -ffile-prefix-map=$sysroot=/"
export CGO_LDFLAGS="-O2 -L$sysroot/usr/lib/$triplet -Wl,-rpath-link=$sysroot/usr/lib/$triplet -lasound -lm -lpthread"
export PKG_CONFIG_SYSROOT_DIR="$sysroot" PKG_CONFIG_LIBDIR="$sysroot/usr/lib/$triplet/pkgconfig:$sysroot/usr/share/pkgconfig"
export GOFLAGS="-trimpath -buildvcs=false"

# netgo, osusergo: names are resolved and users found without libc's plug-ins,
# which the image does not have. nolibopusfile: no Ogg files.
cd "$here/../.."
go ${COMPILE:-build} -tags image,netgo,osusergo,nolibopusfile \
	-ldflags "-s -w -buildid= -extldflags '-Wl,--build-id=none -Wl,--as-needed -Wl,--gc-sections -Wl,-z,relro,-z,now'" \
	-o "$out" "$package"
