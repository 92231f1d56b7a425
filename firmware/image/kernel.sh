#!/bin/sh
# kernel.sh DIR: builds the qemu-virt kernel into a folder of the cache and
# makes DIR a link to it. The folder is named by the hash of everything that
# goes into it, so an unchanged kernel is never built twice, and a folder that
# is there is whole: it gets its name by one rename, at the end.
set -eu
. "$(dirname "$0")/common.sh"

out=$1
config=$here/kernel/virt.config
deb=$(fetch all linux-source-6.1)
version=$(basename "$deb" .deb)
compiler=$(aarch64-linux-gnu-gcc --version | head -n 1)

key=$( (echo "$version $compiler $epoch"; cat "$config" "$0") | sha256sum | cut -c 1-16)
dir=$cache/kernel/virt-$key
mkdir -p "$cache/kernel"

build() {
	[ -e "$dir/version" ] && return
	say "kernel: building $version (several minutes; kept in $dir)"
	work=$cache/kernel/work-$key
	rm -rf "$work"
	mkdir -p "$work/deb" "$work/src" "$work/o"
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/deb"
	tar -x -C "$work/src" --strip-components=1 -f "$work/deb/usr/src/linux-source-6.1.tar.xz"
	rm -rf "$work/deb"

	# The same bytes on every machine.
	export KBUILD_BUILD_TIMESTAMP="@$epoch" KBUILD_BUILD_USER=flexphone KBUILD_BUILD_HOST=flexphone KBUILD_BUILD_VERSION=1
	kmake() { make -s -C "$work/src" O="$work/o" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- "$@"; }

	KCONFIG_ALLCONFIG=$config kmake allnoconfig
	grep -E '^CONFIG_' "$config" | while read -r line; do
		grep -qxF "$line" "$work/o/.config" || die "kernel: $line is in $config but Kconfig dropped it: a dependency is missing"
	done
	kmake -j"${JOBS:-$(nproc)}" Image.gz modules >"$work/log" 2>&1 || {
		tail -n 40 "$work/log" >&2
		die "kernel: build failed; the whole log is $work/log"
	}

	# The same layout as stock.sh makes of a packaged kernel.
	new=$work/new
	mkdir "$new"
	kmake INSTALL_MOD_PATH="$new" INSTALL_MOD_STRIP=1 modules_install >>"$work/log" 2>&1
	rm -f "$new"/lib/modules/*/build "$new"/lib/modules/*/source
	cp "$work/o/arch/arm64/boot/Image.gz" "$new/image"
	cp "$work/o/.config" "$new/config"
	kmake kernelrelease >"$new/release"
	echo "$version" >"$new/version"
	mv "$new" "$dir"
	rm -rf "$work"
}
locked kernel build
mkdir -p "$(dirname "$out")"
ln -sfn "$dir" "$out"
