#!/bin/sh
# flash.sh IMAGE DEVICE [FORCE]: writes the image to an SD card or USB disk.
# Everything on it is lost, so it refuses what could be the wrong one: not a
# whole disk, in use, or not removable. FORCE=1 lets a fixed disk pass; one that
# is in use, never. FLASH_SYS and FLASH_PROC are for the tests.
set -eu
. "$(dirname "$0")/common.sh"
sys=${FLASH_SYS:-/sys} proc=${FLASH_PROC:-/proc}

image=$1 device=$2 force=${3:-}
[ -n "$device" ] || die "which device? make flash DEVICE=/dev/… (lsblk shows them)"
[ -r "$image" ] || die "$image is not there; run make image first"
device=$(readlink -f "$device")
name=${device#/dev/}
[ -d "$sys/block/$name" ] || die "$device is a partition or has no entry in $sys/block: name the whole disk"

# The disk, its partitions, and what is stacked on them.
for dir in "$sys/block/$name" "$sys/block/$name/$name"*; do
	[ -d "$dir" ] || continue
	part=${dir##*/}
	! grep -q -e "^[0-9]* [0-9]* $(cat "$dir/dev") " -e " - [^ ]* /dev/$part " "$proc/self/mountinfo" || die "/dev/$part is mounted: unmount it first"
	! grep -q "^/dev/$part[[:space:]]" "$proc/swaps" || die "/dev/$part is swap in use"
	for holder in "$dir"/holders/*; do
		[ ! -e "$holder" ] || die "/dev/$part is in use by ${holder##*/}"
	done
done
# A built-in card reader calls its disk fixed, but says that it is an SD card.
removable=$(cat "$sys/block/$name/removable")
[ "$(cat "$sys/block/$name/device/type" 2>/dev/null)" != SD ] || removable=1
if [ "$removable" != 1 ] && [ "$force" != 1 ]; then
	die "$device ($(cat "$sys/block/$name/device/model" 2>/dev/null | xargs)) is not removable; if it is the right one: make flash DEVICE=$device FORCE=1"
fi
have=$(($(cat "$sys/block/$name/size") * 512)) want=$(stat -c %s "$image")
[ "$have" -ge "$want" ] || die "$device has $have bytes, the image $want"

[ -b "$device" ] || die "$device is not a block device"
# wipefs opens it exclusively: the kernel itself refuses a disk that anything
# has claimed. What is interrupted from here on leaves no old file system behind.
need wipefs util-linux
wipefs -q -a "$device" || die "$device is in use"
say "writing $image to $device"
dd if="$image" of="$device" bs=4M conv=fsync,nocreat status=none
sync
cmp -n "$want" "$image" "$device" || die "$device does not hold what was written"
say "done; $device can be removed"
