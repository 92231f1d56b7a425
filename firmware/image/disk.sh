#!/bin/sh
# disk.sh BOOT ROOT DATA BOOT_MIB OUT: puts the folder BOOT, the squashfs ROOT and
# the empty file system DATA into one disk image, as it is flashed.
#
#	1 MiB  partition table; some boards' loaders lie here
#	p1     boot: kernel, device tree, loader's settings (FAT)
#	p2     root: squashfs, mounted read-only
#	p3     data: key, lease, settings, crash reports (ext4)
#
# The table is an MBR, since the boot ROMs of small boards read no other. Its
# number is fixed, and names the root: root=PARTUUID=50584c46-02.
set -eu
. "$(dirname "$0")/common.sh"

boot=$1 root=$2 data=$3 boot_mib=$4 out=$5
need sfdisk fdisk mkfs.fat dosfstools mcopy mtools
root_mib=48
[ "$(stat -c %s "$root")" -le $((root_mib << 20)) ] || die "the root file system is larger than its partition of $root_mib MiB"

new=$out.new
rm -f "$new" "$new.p1"
data_mib=$(($(stat -c %s "$data") >> 20))
truncate -s $((1 + boot_mib + root_mib + data_mib))M "$new"
sfdisk -q "$new" <<-TABLE
	label: dos
	label-id: 0x50584c46
	start=1MiB, size=${boot_mib}MiB, type=c, bootable
	start=$((1 + boot_mib))MiB, size=${root_mib}MiB, type=83
	start=$((1 + boot_mib + root_mib))MiB, size=${data_mib}MiB, type=83
TABLE

truncate -s "${boot_mib}M" "$new.p1"
mkfs.fat --invariant -i 50584c46 -n BOOT "$new.p1" >/dev/null
(
	cd "$boot"
	find . -mindepth 1 -exec touch -h -d "@$epoch" {} +
	find . -mindepth 1 -type d | sort | while read -r d; do mmd -i "$new.p1" "::$d"; done
	find . -type f | sort | while read -r f; do mcopy -m -i "$new.p1" "$f" "::$f"; done
)

# put FILE MIB: copies what is not zero to its place.
put() { dd if="$1" of="$new" bs=1M seek="$2" conv=notrunc,sparse status=none; }
put "$new.p1" 1
put "$root" $((1 + boot_mib))
put "$data" $((1 + boot_mib + root_mib))
rm "$new.p1"
mv "$new" "$out"
