#!/bin/sh
# initrd.sh ARCH SYSROOT MODULES OUT: packs busybox, MODULES and initrd/init into
# an initramfs.
set -eu
. "$(dirname "$0")/common.sh"

sysroot=$2 modules=$3 out=$4
need cpio cpio
tree=$out.tree
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/root"
cp -R "$modules" "$tree/modules"
cp "$here/initrd/init" "$tree/init"
cp "$sysroot/bin/busybox" "$tree/bin/busybox"
for name in cat dd insmod mount reboot sh switch_root umount usleep; do
	ln -s busybox "$tree/bin/$name"
done
find "$tree" -exec touch -h -d "@$epoch" {} +
(cd "$tree" && find . | sort | cpio -o -H newc --owner=0:0 --reproducible --quiet) | gzip -9n >"$out"
rm -rf "$tree"
