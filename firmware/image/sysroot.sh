#!/bin/sh
# sysroot.sh ARCH: prints the folder that holds Debian's libraries for ARCH:
# headers and static archives for the cross compiler, shared ones for the
# image. Nothing is installed on this machine. The folder is named by the
# packages in it.
set -eu
. "$(dirname "$0")/common.sh"

arch=$1
cross "$arch"
# libc6-dev is left out: the cross compiler brings its own.
packages="libc6 libgcc-s1 libasound2 libasound2-dev libopus-dev libspeexdsp-dev portaudio19-dev busybox-static e2fsck-static"
debs=$(fetch "$arch" $packages)
key=$( (echo "$debs" | xargs -n 1 basename; cat "$0") | sha256sum | cut -c 1-16)
dir=$cache/sysroot/$arch-$key

unpack() {
	[ -d "$dir" ] && return
	new=$dir.new
	rm -rf "$new"
	mkdir -p "$new"
	for deb in $debs; do
		dpkg-deb -x "$deb" "$new"
	done
	echo "$debs" | xargs -n 1 basename -s .deb >"$new/packages"
	lib=$new/usr/lib/$triplet

	# What is linked into the program itself: without the shared library, the
	# linker takes the archive.
	rm -f "$lib"/libopus.so* "$lib"/libportaudio.so* "$lib"/libspeexdsp.so*

	# PortAudio without JACK, which would drag in its client library, C++ and a
	# database. A backend that says it has nothing is skipped.
	cat >"$new/nojack.c" <<-'C'
		int PaJack_Initialize(void **api, int index) { *api = 0; return 0; }
	C
	"$prefix-gcc" -Os -c -o "$new/nojack.o" "$new/nojack.c"
	"$prefix-ar" d "$lib/libportaudio.a" pa_jack.o
	"$prefix-ar" rD "$lib/libportaudio.a" "$new/nojack.o"
	rm "$new/nojack.c" "$new/nojack.o"
	mv "$new" "$dir"
}
locked sysroot unpack
echo "$dir"
