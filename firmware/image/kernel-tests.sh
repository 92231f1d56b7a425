#!/bin/sh
# kernel-tests.sh: runs the unit tests that need a kernel of their own, with its
# GPIO simulator and input devices, or a clock that may be set, in a guest of
# qemu-virt: those of hal, netlink, registry-client and the sound card's ring. Prints what `go test -v` prints; make image
# BOARD=qemu-virt comes first.
#
# The tests come in an initramfs beside the image's own, with the programs that
# they start (test-tools.sh), and are run in the image's root instead of its
# init, with a file system in memory laid over it. PACKAGES="netlink" and
# TESTS=REGEXP choose among them.
set -eu
. "$(dirname "$0")/common.sh"

image=$(cd "$here/../../build/qemu-virt" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
need qemu-system-aarch64 qemu-system-arm cpio cpio
sysroot=$("$here/sysroot.sh" arm64)
tools=$("$here/test-tools.sh")

mkdir -p "$work/tree/testbed/tests"
cd "$here/../.."
for package in ${PACKAGES:-hal/cdev hal/gpio hal/evdev hal/display hal/sim netlink netlink/voice netlink/prefer netlink/linklocal netlink/internal/link registry-client audio/portaudio}; do
	COMPILE="test -c" "$here/program.sh" arm64 "$sysroot" "$work/tree/testbed/tests/$(echo "$package" | tr / .)" "./$package"
done
cat >"$work/tree/testbed/start" <<'SH'
#!/bin/sh
# Instead of the image's init.
b() { /bin/busybox "$@"; }
while read -r module; do
	b insmod "/root/lib/modules/$module.ko"
done </root/lib/modules/list
b ip link set lo up
b mkdir /memory /here
b mount -t tmpfs tmpfs /memory
b mkdir /memory/files /memory/work
# Over the root as switch_root does it: where the root is another than that of the
# mount namespace (chroot), Linux makes no user namespaces, and netlink's tests
# want some.
b mount -t overlay -o lowerdir=/testbed/tools:/root,upperdir=/memory/files,workdir=/memory/work overlay /here
b mount -t proc proc /here/proc
b mount -t sysfs sysfs /here/sys
b mount -t tmpfs tmpfs /here/tmp
b mount -t tmpfs tmpfs /here/run
b mount --move /root/dev /here/dev
b mkdir -p /here/dev/pts /here/tmp/tests /here/usr/bin
b mount -t devpts devpts /here/dev/pts
b mount --bind /testbed/tests /here/tmp/tests
b cp /testbed/run /here/tmp/run
cd /here
b mount --move . /
exec /bin/busybox chroot . /bin/busybox sh /tmp/run
SH
cat >"$work/tree/testbed/run" <<'SH'
/bin/busybox --install -s /usr/bin
export FLEXPHONE_OWN_MACHINE=1 HOME=/tmp PATH=/bin:/sbin:/usr/sbin:/usr/bin
tests=$(sed -n 's/.*tests=\([^ ]*\).*/\1/p' /proc/cmdline)
cd /tmp
for file in tests/*; do
	name=${file##*/}
	if "./$file" -test.v -test.short -test.timeout=1h -test.run="$tests" -test.skip='^(Fuzz.*|TestSoundThroughJack|TestCardThatDiesAndComesBack)$'; then # whose JACK is the host's
		echo "ok  	$name in the guest"
	else
		echo "FAIL	$name in the guest"
	fi
done
echo "the guest's tests are over"
poweroff -f
SH
chmod +x "$work/tree/testbed/start"
cp -R "$tools" "$work/tree/testbed/tools"
cp "$image/initrd" "$work/initrd"
truncate -s %4 "$work/initrd" # where archives may meet
(cd "$work/tree" && find testbed | sort | cpio -o -H newc --owner=0:0 --quiet) >>"$work/initrd"
cp --sparse=always "$image/disk.img" "$work/disk.img"

timeout "${LIMIT:-3600}" qemu-system-aarch64 -M virt -cpu cortex-a53 -smp 2 -m 768 -nodefaults -no-user-config -display none -no-reboot \
	-serial stdio -monitor none -kernel "$image/boot/kernel" -dtb "$image/boot/board.dtb" -initrd "$work/initrd" \
	-append "$(cat "$image/cmdline") tests=${TESTS:-.}" \
	-drive if=none,id=disk,format=raw,file="$work/disk.img" -device virtio-blk-device,drive=disk -device virtio-rng-device </dev/null |
	tr -d '\r' | tee "$work/log"
grep -q "tests are over" "$work/log" || { echo "FAIL	kernel-tests: the guest did not come to its end"; exit 1; }
! grep -q "^FAIL" "$work/log"
