package sockets

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// inNamespace is set in a network namespace that has eight ports to give.
const inNamespace = "SOCKETS_TEST_NAMESPACE"

// A port that is free for TCP alone is not taken: another one is.
func TestBothFindsAPair(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		if out, err := exec.Command("unshare", "-Urn", "true").CombinedOutput(); err != nil {
			t.Skipf("no network namespace: %v: %s", err, out)
		}
		cmd := exec.Command("unshare", "-Urn", "sh", "-ec",
			`ip link set lo up; echo 40000 40007 >/proc/sys/net/ipv4/ip_local_port_range; exec "$0" -test.run '^TestBothFindsAPair$'`, os.Args[0])
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a network namespace: %v\n%s", err, out)
		}
		return
	}
	// Half of those that this kernel chooses first for a TCP listener: odd ones of
	// the lower half.
	taken, err := net.ListenPacket("udp", "127.0.0.1:40001")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for range 20 {
		tcp, udp, err := Both(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp.Addr().String() != udp.LocalAddr().String() {
			t.Errorf("TCP at %v, UDP at %v; want one port", tcp.Addr(), udp.LocalAddr())
		}
		tcp.Close()
		udp.Close()
	}
}

// What is taken is said, and nothing stays open.
func TestBothTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.LocalAddr().String()
	if _, _, err := Both(t.Context(), address); err == nil || !strings.Contains(err.Error(), "listen on UDP "+address) {
		t.Errorf("Both(%s) = %v; want it to say that UDP is taken", address, err)
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("TCP stayed open: %v", err)
	}
	defer tcp.Close()
	taken.Close()
	if _, _, err := Both(t.Context(), address); err == nil || !strings.Contains(err.Error(), "listen on TCP "+address) {
		t.Errorf("Both(%s) = %v; want it to say that TCP is taken", address, err)
	}
}
