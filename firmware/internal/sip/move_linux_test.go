package sip_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/sip"
)

// inNamespace runs the calling test again in a user and network namespace of
// its own, so that it needs no root and leaves nothing behind. It reports
// whether the caller is the copy inside.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("IN_TEST_NAMESPACE") != "" {
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (Debian package iproute2)")
	}
	cmd := exec.CommandContext(patience(t), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "IN_TEST_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skip("this kernel forbids user namespaces")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// An estate is two phones with addresses of their own, which the kernel
// delivers by itself: each address is the preferred source towards the other.
type estate struct {
	t    *testing.T
	a, b netip.Addr
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	e := &estate{t: t}
	e.moveA("10.1.0.1")
	e.moveB("10.2.0.1")
	return e
}

// moveA takes A's address away and gives it another one.
func (e *estate) moveA(to string) { e.a = e.move(e.a, to); e.routes() }

func (e *estate) moveB(to string) { e.b = e.move(e.b, to); e.routes() }

func (e *estate) move(from netip.Addr, to string) netip.Addr {
	e.t.Helper()
	if from.IsValid() {
		ip(e.t, "addr", "del", from.String()+"/32", "dev", "lo")
		ip(e.t, "route", "flush", from.String(), "table", "local")
	}
	ip(e.t, "addr", "add", to+"/32", "dev", "lo")
	return netip.MustParseAddr(to)
}

// routes lets packets to the one address come from the other one.
func (e *estate) routes() {
	e.t.Helper()
	if e.a.IsValid() && e.b.IsValid() {
		ip(e.t, "route", "replace", "local", e.a.String(), "dev", "lo", "table", "local", "src", e.b.String())
		ip(e.t, "route", "replace", "local", e.b.String(), "dev", "lo", "table", "local", "src", e.a.String())
	}
}

func (e *estate) media(at netip.Addr, port uint16) sip.LocalMedia {
	return media.NewCall().With(media.Local{Addr: at, Port: port, Codecs: codecs})
}

// TestCallOutlivesAddress: the address that a call was made from is gone, and
// the call goes on from another one; first the caller's, then the callee's,
// then both at once.
func TestCallOutlivesAddress(t *testing.T) {
	t.Parallel() // it waits most of the time
	if !inNamespace(t) {
		return
	}
	everywhere := func(c *sip.Config) { c.Listen = netip.Addr{} }
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			e := newEstate(t)
			defer func() {
				ip(t, "addr", "del", e.a.String()+"/32", "dev", "lo")
				ip(t, "addr", "del", e.b.String()+"/32", "dev", "lo")
			}()
			a, b := newPhone(t, userA, everywhere), newPhone(t, userB, everywhere)
			port := func(p *phone) uint16 { return way(p).Addr.Port() }
			to := way(b)
			to.Addr = netip.AddrPortFrom(e.b, port(b))
			ca, err := a.Invite(patience(t), to, e.media(e.a, 4000))
			must(t, err)
			cb := b.isCalled()
			must(t, cb.Answer(e.media(e.b, 5000)))
			expect(t, ca, sip.Established, "")
			expect(t, cb, sip.Established, "")
			at := func(c *sip.Call, want netip.Addr, from *phone) {
				t.Helper()
				ev := expect(t, c, sip.Changed, "")
				if ev.Media.Remote.Addr() != want || c.Peer().Addr != netip.AddrPortFrom(want, port(from)) {
					t.Errorf("media to %v, peer at %v, want %v", ev.Media.Remote, c.Peer().Addr, want)
				}
			}

			e.moveA("10.1.0.2")
			must(t, ca.Update(patience(t), e.media(e.a, 4000)))
			expect(t, ca, sip.Changed, "")
			at(cb, e.a, a)

			e.moveB("10.2.0.2")
			must(t, cb.Update(patience(t), e.media(e.b, 5000)))
			expect(t, cb, sip.Changed, "")
			at(ca, e.b, b)

			e.moveA("10.1.0.3")
			e.moveB("10.2.0.3")
			updated := make(chan error, 1)
			go func() { updated <- ca.Update(patience(t), e.media(e.a, 4000)) }()
			must(t, ca.Retarget(netip.AddrPortFrom(e.b, port(b)))) // as B's row says
			if err := <-updated; err != nil {                      // refused before we knew of the row
				must(t, ca.Update(patience(t), e.media(e.a, 4000)))
			}
			expect(t, ca, sip.Changed, "")
			at(cb, e.a, a)
			must(t, cb.Update(patience(t), e.media(e.b, 5000)))
			expect(t, cb, sip.Changed, "")
			at(ca, e.b, b)

			e.moveA("10.1.0.4") // BYE from an address that the peer has never heard of
			must(t, ca.Hangup(patience(t)))
			expect(t, ca, sip.Ended, sip.ReasonHangup)
			expect(t, cb, sip.Ended, sip.ReasonHangup)
		})
	}
}

// TestPeerVanishes: nothing that is sent to A arrives any more, and nothing
// says so. B tries by another connection too, and gives up.
func TestPeerVanishes(t *testing.T) {
	t.Parallel() // it waits most of the time
	if !inNamespace(t) {
		return
	}
	e := newEstate(t)
	everywhere := func(c *sip.Config) { c.Listen = netip.Addr{} }
	a, b := newPhone(t, userA, everywhere), newPhone(t, userB, everywhere, sip.HurryStall)
	to := b.pinned()
	to.Addr = netip.AddrPortFrom(e.b, to.Addr.Port())
	ca, err := a.Invite(patience(t), to, e.media(e.a, 4000))
	must(t, err)
	cb := b.isCalled()
	must(t, cb.Answer(e.media(e.b, 5000)))
	expect(t, ca, sip.Established, "")
	expect(t, cb, sip.Established, "")

	was := e.a
	e.moveA("10.1.0.2")
	ip(t, "link", "add", "pit", "type", "veth", "peer", "name", "bottom") // what goes in never comes out
	ip(t, "link", "set", "pit", "up")
	ip(t, "link", "set", "bottom", "up")
	ip(t, "neigh", "add", was.String(), "lladdr", "02:00:5e:00:53:01", "dev", "pit", "nud", "permanent")
	ip(t, "route", "add", was.String(), "dev", "pit", "src", e.b.String())
	if err := cb.Update(patience(t), e.media(e.b, 5002)); err == nil {
		t.Error("a phone that is not there agrees")
	}
	must(t, ca.Update(patience(t), e.media(e.a, 4000))) // it comes back by itself
	expect(t, ca, sip.Changed, "")
	expect(t, cb, sip.Changed, "")
	must(t, cb.Update(patience(t), e.media(e.b, 5002)))
	must(t, cb.Hangup(patience(t)))
	for {
		ev, err := ca.Next(patience(t))
		must(t, err)
		if ev.Kind == sip.Ended {
			break
		}
	}
}
