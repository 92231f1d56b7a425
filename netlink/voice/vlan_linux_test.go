package voice

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/isptest"
	"flexphone/netlink/internal/link"
)

// TestMissingCapability: who may not make a VLAN is told what that needs.
func TestMissingCapability(t *testing.T) {
	if !isptest.InNamespace(t) {
		return
	}
	isptest.New(t, isptest.Addr)
	runtime.LockOSThread() // and never unlocked: this thread is of no more use
	none := [2]unix.CapUserData{}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := makeVLAN("eth0", 42); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "needs "+link.CapAdmin) {
		t.Errorf("%v; want it to name %s", err, link.CapAdmin)
	}
}
