#!/bin/sh
# stock.sh ARCH PACKAGE OUT: unpacks Debian's own kernel into a folder of the
# cache and makes OUT a link to it. PACKAGE is the one that depends on the
# newest, such as linux-image-armmp.
set -eu
. "$(dirname "$0")/common.sh"

arch=$1 package=$2 out=$3
need depmod kmod
deb=$(fetch "$arch" "$package")
newest=$(dpkg-deb -f "$deb" Depends | sed 's/ .*//')
deb=$(fetch "$arch" "$newest")
version=$(basename "$deb" .deb)
dir=$cache/kernel/$version

unpack() {
	[ -d "$dir" ] && return
	say "kernel: unpacking $version"
	new=$dir.new
	rm -rf "$new"
	mkdir -p "$new"
	dpkg-deb -x "$deb" "$new/deb"
	release=$(ls "$new/deb/lib/modules")
	image=$new/deb/boot/vmlinuz-$release
	case $arch in
	arm64) gzip -9n <"$image" >"$new/image" ;; # arm's own is compressed already
	*) mv "$image" "$new/image" ;;
	esac
	mv "$new/deb/boot/config-$release" "$new/config"
	mv "$new/deb/usr/lib/linux-image-$release" "$new/dtbs"
	mv "$new/deb/lib" "$new/lib"
	rm -rf "$new/deb"
	depmod -b "$new" "$release"
	echo "$release" >"$new/release"
	echo "$version" >"$new/version"
	mv "$new" "$dir"
}
locked kernel unpack
mkdir -p "$(dirname "$out")"
ln -sfn "$dir" "$out"
