#!/bin/sh
# build.sh BOARD OUT: makes the image of a board, and says what each part weighs.
#
#	OUT/flexphone      the program
#	OUT/root.squashfs  the root file system
#	OUT/boot/          what the boot partition holds
#	OUT/initrd         the initramfs, which not every board needs
#	OUT/cmdline        the kernel's command line
#	OUT/disk.img       what is flashed
#	OUT/manifest       every package in it, and the hash of every part
set -eu
. "$(dirname "$0")/common.sh"

board=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
# The board's data, of boards/, as variables.
need go golang
recipe=$(cd "$here/../.." && GOFLAGS=-trimpath go run ./firmware/image/recipe "$board") || exit 1
eval "$recipe"

sysroot=$("$here/sysroot.sh" "$arch")
if [ -z "${PROGRAM:-}" ]; then
	"$here/program.sh" "$arch" "$sysroot" "$out/flexphone"
else
	cp "$PROGRAM" "$out/flexphone"
fi

rm -rf "$out/boot"
mkdir -p "$out/boot/extlinux"
case $kernel in
built) "$here/kernel.sh" "$out/kernel" ;;
*) "$here/stock.sh" "$arch" "$kernel" "$out/kernel" ;;
esac
cp "$out/kernel/image" "$out/boot/kernel"
if [ -n "$overlay" ]; then
	"$here/virt-dtb.sh" "$here/kernel/$overlay.dts" "$out/boot/board.dtb"
else
	for file in $dtb; do cp "$out/kernel/dtbs/$file" "$out/boot/"; done
fi
"$here/modules.sh" "$out/kernel" "$out/modules" $modules
"$here/modules.sh" "$out/kernel" "$out/initrd.modules" $initrd_modules
"$here/initrd.sh" "$arch" "$sysroot" "$out/initrd.modules" "$out/initrd"
"$here/data.sh" "$out/data.ext4"
"$here/root.sh" "$arch" "$sysroot" "$out/flexphone" "$out/data.ext4" "$out/modules" "$out/root.squashfs"

# quiet: a serial line is slow; errors are still printed.
echo "console=$console root=PARTUUID=50584c46-02 rootfstype=squashfs ro rootwait quiet panic=5" >"$out/cmdline"
{
	echo "default phone"
	echo "label phone"
	echo "	kernel /kernel"
	# A kernel that can mount the root by itself starts sooner without.
	[ -z "$initrd_modules" ] || { cp "$out/initrd" "$out/boot/initrd"; echo "	initrd /initrd"; }
	case $overlay$dtb in
	*" "*) echo "	fdtdir /" ;;
	*) echo "	fdt /$(ls "$out/boot" | grep dtb)" ;;
	esac
	echo "	append $(cat "$out/cmdline")"
} >"$out/boot/extlinux/extlinux.conf"
[ "$boot_by" != raspberry ] || "$here/raspberry.sh" "$out/cmdline" "$out/boot"
"$here/disk.sh" "$out/boot" "$out/root.squashfs" "$out/data.ext4" "$boot_mib" "$out/disk.img"

{
	echo "board $board"
	cat "$out/kernel/version" "$sysroot/packages"
	(cd "$out" && find boot -type f | sort | xargs sha256sum flexphone root.squashfs disk.img)
} >"$out/manifest"

# The sum counts what a phone must hold: the compressed kernel and root.
size() { stat -c %s "$1"; }
row() { printf '%-30s %6d.%d KiB\n' "$1" $(($2 / 1024)) $(($2 * 10 / 1024 % 10)); }
{
	[ -z "$initrd_modules" ] || row "initrd" "$(size "$out/initrd")"
	row "kernel ($(cat "$out/kernel/release"))" "$(size "$out/boot/kernel")"
	row "root (squashfs)" "$(size "$out/root.squashfs")"
	row "kernel + root" $(($(size "$out/boot/kernel") + $(size "$out/root.squashfs")))
} | tee "$out/sizes" >&2
say "$out/disk.img is ready"
