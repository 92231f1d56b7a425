#!/bin/sh
# kernel-tests.sh: runs the unit tests that need a kernel of their own, with its
# GPIO simulator and input devices, in a guest of qemu-virt: those of hal,
# netlink and the sound card's ring. Prints what `go test -v` prints; make image
# BOARD=qemu-virt comes first.
#
# The tests come in an initramfs beside the image's own, and are run in the
# image's root instead of its init.
set -eu
. "$(dirname "$0")/common.sh"

image=$(cd "$here/../../build/qemu-virt" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
need qemu-system-aarch64 qemu-system-arm cpio cpio
sysroot=$("$here/sysroot.sh" arm64)

mkdir -p "$work/tree/testbed/tests"
cd "$here/../.."
for package in hal/cdev hal/gpio hal/evdev hal/sim netlink audio/portaudio; do
	COMPILE="test -c" "$here/program.sh" arm64 "$sysroot" "$work/tree/testbed/tests/$(echo "$package" | tr / .)" "./$package"
done
cat >"$work/tree/testbed/start" <<'SH'
#!/bin/sh
# Instead of the image's init.
b() { /bin/busybox "$@"; }
b mount -t proc proc /root/proc
b mount -t sysfs sysfs /root/sys
b mount -t tmpfs tmpfs /root/tmp
b mount -t tmpfs tmpfs /root/run
while read -r module; do
	b insmod "/root/lib/modules/$module.ko"
done </root/lib/modules/list
b ip link set lo up
b mkdir /root/tmp/tests
b mount --bind /testbed/tests /root/tmp/tests
for file in /testbed/tests/*; do
	name=${file##*/}
	cd /root/tmp
	if HOME=/tmp b chroot /root "/tmp/tests/$name" -test.v -test.short -test.timeout=4m -test.run="$(b cat /proc/cmdline | b sed -n 's/.*tests=\([^ ]*\).*/\1/p')" -test.skip=Fuzz; then
		echo "ok  	$name in the guest"
	else
		echo "FAIL	$name in the guest"
	fi
done
echo "the guest's tests are over"
b poweroff -f
SH
chmod +x "$work/tree/testbed/start"
cp "$image/initrd" "$work/initrd"
truncate -s %4 "$work/initrd" # where archives may meet
(cd "$work/tree" && find testbed | sort | cpio -o -H newc --owner=0:0 --quiet) >>"$work/initrd"
cp --sparse=always "$image/disk.img" "$work/disk.img"

timeout "${LIMIT:-420}" qemu-system-aarch64 -M virt -cpu cortex-a53 -smp 2 -m 768 -nodefaults -no-user-config -display none -no-reboot \
	-serial stdio -monitor none -kernel "$image/boot/kernel" -dtb "$image/boot/board.dtb" -initrd "$work/initrd" \
	-append "$(cat "$image/cmdline") tests=${TESTS:-.}" \
	-drive if=none,id=disk,format=raw,file="$work/disk.img" -device virtio-blk-device,drive=disk -device virtio-rng-device </dev/null |
	tr -d '\r' | tee "$work/log"
grep -q "tests are over" "$work/log" || { echo "FAIL	kernel-tests: the guest did not come to its end"; exit 1; }
! grep -q "^FAIL" "$work/log"
