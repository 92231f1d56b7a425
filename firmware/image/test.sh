#!/bin/sh
# test.sh: what an image must be. Two builds of qemu-virt from different folders,
# that of build/qemu-virt and another, are the same bytes and small enough, and
# flash.sh writes to the right disk and to no other. FULL=1 compiles everything
# anew for the second build, which takes minutes. The kernel is the cached one, which kernel.sh makes reproducible.
set -eu
. "$(dirname "$0")/common.sh"

most_kib=14336 # 14 MiB: kernel and root of qemu-virt, as they are flashed
tmp=$(mktemp -d)
loop=
cleanup() {
	[ -z "$loop" ] || losetup -d "$loop" || true
	rm -rf "$tmp"
}
trap cleanup EXIT
failed=0
pass() { echo "ok      $*"; }
fail() {
	echo "FAILED  $*"
	failed=1
}

# ---- the same bytes, and how many

copy() {
	mkdir -p "$1"
	tar -C "$here/../.." --exclude=./build --exclude=./.git -c . | tar -C "$1" -x
}
first=$(cd "$here/../.." && pwd) second=$tmp/another-place/phone
[ -e "$first/build/qemu-virt/manifest" ] || die "there is no image of qemu-virt; run: make image BOARD=qemu-virt"
copy "$second"
start=$(date +%s)
(
	[ -z "${FULL:-}" ] || export GOCACHE="$tmp/gocache"
	umask 077
	export TZ=Asia/Tokyo LC_ALL=C.UTF-8
	"$second/firmware/image/build.sh" qemu-virt "$second/build/qemu-virt" >"$tmp/log" 2>&1
) || { tail -n 20 "$tmp/log"; die "the second build failed"; }
echo "the second build: $(($(date +%s) - start)) s"
for file in flexphone boot/kernel boot/board.dtb boot/extlinux/extlinux.conf initrd root.squashfs data.ext4 disk.img manifest; do
	if cmp "$first/build/qemu-virt/$file" "$second/build/qemu-virt/$file"; then
		pass "two builds give the same $file ($(sha256sum <"$first/build/qemu-virt/$file" | cut -c 1-16))"
	else
		fail "two builds give different bytes of $file"
	fi
done
cat "$first/build/qemu-virt/sizes"
sum=$(sed -n 's/^kernel + root *\([0-9]*\)\..*/\1/p' "$first/build/qemu-virt/sizes")
if [ "$sum" -lt "$most_kib" ]; then
	pass "kernel + root are $sum KiB; $most_kib may be"
else
	fail "kernel + root are $sum KiB; $most_kib may be"
fi

# ---- flashing: a /sys and /proc of our own say what the disk is

image=$first/build/qemu-virt/disk.img
if [ "$(id -u)" = 0 ]; then
	truncate -s 256M "$tmp/card"
	loop=$(losetup --find --show "$tmp/card" 2>/dev/null) || loop=
fi
name=${loop:-/dev/nodisk}
name=${name#/dev/}

# disk REMOVABLE SIZE-IN-MIB: makes them anew.
disk() {
	rm -rf "$tmp/sys" "$tmp/proc"
	mkdir -p "$tmp/sys/block/$name/${name}p1/holders" "$tmp/sys/block/$name/holders" "$tmp/sys/block/$name/device" "$tmp/proc/self"
	echo "$1" >"$tmp/sys/block/$name/removable"
	echo $(($2 * 2048)) >"$tmp/sys/block/$name/size"
	echo 250:0 >"$tmp/sys/block/$name/dev"
	echo 250:1 >"$tmp/sys/block/$name/${name}p1/dev"
	echo "Test Disk" >"$tmp/sys/block/$name/device/model"
	echo "22 1 8:1 / / rw - ext4 /dev/root rw" >"$tmp/proc/self/mountinfo"
	echo "Filename Type Size Used Priority" >"$tmp/proc/swaps"
}
within=
flash() { FLASH_SYS=$tmp/sys FLASH_PROC=$tmp/proc $within "$here/flash.sh" "$@" >"$tmp/out" 2>&1; }
# refuses WHY ARGUMENT ...: for that reason, and not a byte is written.
refuses() {
	why=$1
	shift
	before=$([ -z "$loop" ] || sha256sum <"$tmp/card")
	if flash "$@"; then
		fail "flash.sh wrote: $why"
	elif ! grep -q "$why" "$tmp/out"; then
		fail "flash.sh refused for another reason than \"$why\": $(cat "$tmp/out")"
	elif [ "$before" != "$([ -z "$loop" ] || sha256sum <"$tmp/card")" ]; then
		fail "flash.sh refused, and wrote all the same: $why"
	else
		pass "flash.sh refuses: $(sed -n 's/^image: //p' "$tmp/out" | sed "s|$tmp|…|g")"
	fi
}
disk 1 256
refuses "which device" "$image" ""
refuses "not there" "$tmp/none.img" "/dev/$name"
refuses "name the whole disk" "$image" "/dev/${name}p1"
echo "36 22 250:1 / /mnt rw - vfat /dev/${name}p1 rw" >>"$tmp/proc/self/mountinfo"
refuses "is mounted" "$image" "/dev/$name" 1
disk 1 256
echo "/dev/${name}p1 partition 1 0 -2" >>"$tmp/proc/swaps"
refuses "swap in use" "$image" "/dev/$name" 1
disk 1 256
mkdir "$tmp/sys/block/$name/${name}p1/holders/dm-0"
refuses "in use by dm-0" "$image" "/dev/$name" 1
disk 0 256
refuses "not removable" "$image" "/dev/$name"
disk 1 64
refuses "the image" "$image" "/dev/$name"
disk 1 256
mkdir -p "$tmp/sys/block/null/holders"
cp -R "$tmp/sys/block/$name/." "$tmp/sys/block/null/"
refuses "not a block device" "$image" /dev/null

if [ -n "$loop" ]; then
	# writes WHAT REMOVABLE TYPE FORCE: onto a card that holds something else.
	writes() {
		dd if=/dev/urandom of="$loop" bs=1M count=200 conv=fsync status=none
		disk "$2" 256
		[ -z "$3" ] || echo "$3" >"$tmp/sys/block/$name/device/type"
		if flash "$image" "$loop" "$4" && cmp -n "$(stat -c %s "$image")" "$image" "$tmp/card"; then
			pass "flash.sh writes to $1, which then holds every byte of the image"
		else
			fail "flash.sh did not write to $1: $(cat "$tmp/out")"
		fi
	}
	mkfs.ext4 -q "$loop"
	mkdir "$tmp/mnt"
	# mounted COMMAND …: runs it while the card is mounted, in a mount namespace of its
	# own: a copy that another program makes of the machine's would keep it mounted.
	mounted() {
		unshare --mount --propagation private sh -c 'mount -o ro "$0" "$1" || exit 125; shift
			result=0; "$@" || result=$?; umount "$0"; exit $result' "$loop" "$tmp/mnt" "$@"
	}
	if mounted true 2>/dev/null; then
		disk 1 256 # /proc says nothing of it: the kernel knows
		within=mounted
		refuses "is in use" "$image" "$loop" 1
		within=
	else
		echo "not run: flash.sh and a disk that is mounted (no mount namespaces, or no mounting, here)"
	fi
	writes "a removable disk" 1 "" ""
	writes "an SD card in a reader that calls it fixed" 0 SD ""
	writes "a fixed disk with FORCE=1" 0 "" 1
else
	echo "not run: flash.sh writing to a disk (no loop device here)"
fi
exit $failed
