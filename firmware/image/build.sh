#!/bin/sh
# build.sh BOARD OUT: makes the image of a board, and says what each part weighs.
#
#	OUT/flexphone      the program
#	OUT/root.squashfs  the root file system
#	OUT/boot/          what the boot partition holds
#	OUT/disk.img       what is flashed
#	OUT/manifest       every package in it, and the hash of every part
set -eu
. "$(dirname "$0")/common.sh"

board=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
recipe=$here/recipes/$board
[ -r "$recipe" ] || die "no recipe for the board $board; there are: $(ls "$here/recipes" | xargs)"
overlay= dtb=
. "$recipe"

sysroot=$("$here/sysroot.sh" "$arch")
if [ -z "${PROGRAM:-}" ]; then
	"$here/program.sh" "$arch" "$sysroot" "$out/flexphone"
else
	cp "$PROGRAM" "$out/flexphone"
fi

rm -rf "$out/boot"
mkdir -p "$out/boot/extlinux"
case $kernel in
built)
	"$here/kernel.sh" "$out/kernel"
	cp "$out/kernel/Image.gz" "$out/boot/Image.gz"
	image=Image.gz
	"$here/virt-dtb.sh" "$here/kernel/$overlay.dts" "$out/boot/board.dtb"
	;;
*) die "$recipe: kernel=$kernel is not known" ;;
esac

"$here/data.sh" "$out/data.ext4"
"$here/root.sh" "$arch" "$sysroot" "$out/flexphone" "$out/data.ext4" "$out/kernel/modules" "$out/root.squashfs" $modules

# quiet: a serial line is slow; errors are still printed.
echo "console=$console root=PARTUUID=50584c46-02 rootfstype=squashfs ro rootwait quiet panic=5" >"$out/cmdline"
cat >"$out/boot/extlinux/extlinux.conf" <<-CONF
	default phone
	label phone
		kernel /$image
		fdt /board.dtb
		append $(cat "$out/cmdline")
CONF
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
	row "kernel ($(cat "$out/kernel/release"))" "$(size "$out/boot/$image")"
	row "root (squashfs)" "$(size "$out/root.squashfs")"
	row "kernel + root" $(($(size "$out/boot/$image") + $(size "$out/root.squashfs")))
} | tee "$out/sizes" >&2
say "$out/disk.img is ready"
