#!/bin/sh
# root.sh ARCH SYSROOT PROGRAM DATA MODULES OUT: lays out the read-only
# root file system and packs it into OUT. DATA is the empty data
# partition, from which a phone that lost its own makes a new one. MODULES is a folder
# that modules.sh made; they are loaded at the start.
set -eu
. "$(dirname "$0")/common.sh"

arch=$1 sysroot=$2 program=$3 data=$4 modules=$5 out=$6
cross "$arch"
need mksquashfs squashfs-tools
tree=$out.tree
rm -rf "$tree"
mkdir -p "$tree"
cp -R "$here/root/." "$tree/"
cd "$tree"
mkdir -p bin lib/modules proc sys dev run tmp data root var/log

# busybox, under the names that the start scripts call, and no others.
cp "$sysroot/bin/busybox" bin/
for name in dd dmesg e2fsck init insmod mkdir mkfifo mount mv reboot rm sh sleep sync tail tee umount; do
	case $name in
	e2fsck) cp "$sysroot/sbin/e2fsck.static" sbin/e2fsck ;;
	init | reboot) ln -s ../bin/busybox "sbin/$name" ;;
	*) ln -s busybox "bin/$name" ;;
	esac
done

# The program and every library that it or another library names.
# libgcc_s is loaded by libc when a thread is cancelled, which PortAudio does.
install -m 755 "$program" bin/flexphone
needed() { "$prefix-readelf" -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
queue="$loader libgcc_s.so.1 $(needed bin/flexphone)"
while [ -n "$queue" ]; do
	next=
	for name in $queue; do
		[ -e "lib/$name" ] && continue
		file=$(find "$sysroot/lib" "$sysroot/usr/lib" -name "$name" | head -n 1)
		[ -n "$file" ] || die "the program needs $name, which no package of the sysroot has"
		cp -L "$file" "lib/$name"
		chmod 755 "lib/$name"
		next="$next $(needed "lib/$name")"
	done
	queue=$next
done

mkdir -p usr/share/phone
cp --sparse=always "$data" usr/share/phone/data.ext4

rmdir lib/modules
cp -R "$modules" lib/modules
echo root:x:0:0::/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
ln -s ../run/resolv.conf etc/resolv.conf

cd "$here"
rm -f "$out"
(
	unset SOURCE_DATE_EPOCH # mksquashfs takes it, or the options, not both
	mksquashfs "$tree" "$out" -noappend -no-progress -quiet -all-root -no-xattrs -no-exports \
		-comp zstd -Xcompression-level 22 -b 256K -mkfs-time "$epoch" -all-time "$epoch" >/dev/null
)
rm -rf "$tree"
