package udp

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A path takes both kinds of addresses also where the loopback interface is down,
// as it is on a phone: in a network namespace that is new, in a program that has not
// looked before.
func TestBothKindsWithoutLoopback(t *testing.T) {
	if os.Getenv("FLEXPHONE_ALONE") == "" {
		alone := exec.Command(os.Args[0], "-test.run=^TestBothKindsWithoutLoopback$", "-test.v")
		alone.Env = append(os.Environ(), "FLEXPHONE_ALONE=yes")
		alone.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		}
		if out, err := alone.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	// From the first address on 127.0.0.1 is an address that the kernel does not have.
	if out, err := exec.Command("ip", "address", "add", "192.0.2.1/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p, err := Open(t.Context(), netip.Addr{}, PortRange{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []*Conn{p.rtp, p.rtcp} {
		if got := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); got != netip.IPv6Unspecified() {
			t.Errorf("bound to %v; want ::, which takes IPv4 as well", got)
		}
	}
}
