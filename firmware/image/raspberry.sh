#!/bin/sh
# raspberry.sh CMDLINE BOOT: what a Raspberry Pi's own loader wants on the boot
# partition. The loader itself is not free software: it is in Debian's package
# raspi-firmware of the section non-free-firmware, which /etc/apt must name, or
# in the folder RASPI_FIRMWARE. Without it the image is made all the same, and
# does not start until the files are copied onto its boot partition.
set -eu
. "$(dirname "$0")/common.sh"

cmdline=$1 boot=$2
# upstream_kernel: the device trees have the names of the kernel, not of its fork.
cat >"$boot/config.txt" <<-TEXT
	arm_64bit=1
	kernel=kernel
	initramfs initrd followkernel
	upstream_kernel=1
	enable_uart=1
	disable_splash=1
	boot_delay=0
TEXT
cp "$cmdline" "$boot/cmdline.txt"

from=${RASPI_FIRMWARE:-}
if [ -z "$from" ] && deb=$( (fetch all raspi-firmware) 2>/dev/null); then
	from=$boot.raspi
	rm -rf "$from"
	dpkg-deb -x "$deb" "$from"
	from=$from/usr/lib/raspi-firmware
fi
if [ -n "$from" ]; then
	# Of the Pi 3 and Zero 2, and of the Pi 4.
	for file in bootcode.bin start.elf fixup.dat start4.elf fixup4.dat; do
		[ -r "$from/$file" ] || die "the Raspberry Pi's loader is not whole: $from has no $file"
		cp "$from/$file" "$boot/"
	done
	rm -rf "$boot.raspi"
else
	say "this image does not start yet: the Raspberry Pi's loader is missing."
	say "Add non-free-firmware to the components in /etc/apt and build again, or name a folder: RASPI_FIRMWARE=…,"
	say "or copy bootcode.bin, start.elf, fixup.dat, start4.elf and fixup4.dat onto the flashed card's first partition."
fi
