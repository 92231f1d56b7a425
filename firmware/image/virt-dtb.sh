#!/bin/sh
# virt-dtb.sh OVERLAY.dts OUT.dtb: the device tree of QEMU's virt machine with
# our keypad laid over it. QEMU puts the real size of its memory in at the start.
set -eu
. "$(dirname "$0")/common.sh"

need qemu-system-aarch64 qemu-system-arm dtc device-tree-compiler
# Two processors, as the guests are started; no random seeds, which would make
# every build another one.
qemu-system-aarch64 -M virt,dtb-randomness=off,dumpdtb="$2.base" -cpu cortex-a53 -smp 2 -m 256 -nic none -nographic >/dev/null 2>&1
dtc -q -@ -I dts -O dtb -o "$2.overlay" "$1"
fdtoverlay -i "$2.base" -o "$2" "$2.overlay"
rm "$2.base" "$2.overlay"
