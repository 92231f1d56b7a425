package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"flexphone/testbed"
)

func TestMain(m *testing.M) {
	code, done, err := testbed.Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// Every step of the story is as it should be; what it says is what happened.
func TestStory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	bed, err := testbed.New(ctx, testbed.Config{Pages: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	}()
	var told bytes.Buffer
	s := &teller{out: &told, bed: bed}
	err = s.tell(ctx)
	if err != nil {
		s.sayLogs()
	}
	t.Logf("%s", &told)
	if err != nil {
		t.Fatal(err)
	}
	// What is typed afterwards is done.
	s.one.Mark()
	for _, line := range []string{"101 off", "101 7", "101 on"} {
		if err := s.act(ctx, line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, state := range []string{"dialing", "standby"} {
		if _, err := s.one.Await(ctx, "state", "state", state); err != nil {
			t.Error(err)
		}
	}
	for _, line := range []string{"", "101", "103 off", "101 x"} {
		if err := s.act(ctx, line); err == nil {
			t.Errorf("%q was done", line)
		}
	}
}

// ordinary makes the namespace of the test as any machine is: it has a loopback, and a network
// that leads nowhere, without which Chromium speaks to nobody.
func ordinary(t *testing.T) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "lan0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "lan1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if lan, err := netlink.LinkByName("lan0"); err == nil {
			_ = netlink.LinkDel(lan) // else it ends with the namespace
		}
	})
	for _, name := range []string{"lo", "lan0", "lan1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err == nil && name == "lan0" {
			err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 99, 2), Mask: net.CIDRMask(24, 32)}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A browser of the machine outside, which has no route into the story, calls 101 at the
// address that is said, and both hear each other. When the story is over nobody listens there.
func TestBrowserOutside(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	ordinary(t)
	files, err := openDoors()
	if err != nil {
		t.Fatal(err)
	}
	d, err := doorsOf(files)
	if err != nil {
		t.Fatal(err)
	}
	bed, err := testbed.New(ctx, testbed.Config{Pages: true, TURN: d.port()})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = bed.Close() // the test has failed already
		}
	}()
	words, err := testbed.Speech("numbers")
	if err != nil {
		t.Fatal(err)
	}
	page, err := bed.AddBrowserOutside(ctx, words)
	if errors.Is(err, testbed.ErrNoBrowser) {
		t.Skip(err)
	}
	var told bytes.Buffer
	s := &teller{out: &told, bed: bed}
	if err := errors.Join(err, s.arrive(ctx), s.letIn(ctx, d)); err != nil {
		t.Fatal(err)
	}
	site := regexp.MustCompile(`http://127\.0\.0\.1:\d+/call/101\?link=\w+`).FindString(told.String())
	if err := errors.Join(page.Load(ctx, site), page.PlainVoice(ctx)); err != nil {
		t.Fatalf("%q: %v\n%s", site, err, told.String())
	}
	if err := s.callOfPage(ctx, page, "you"); err != nil {
		text, _ := page.Text(ctx, "main")
		s.sayLogs()
		t.Fatalf("%v; the page says %q\n%s", err, text, told.String())
	}
	t.Logf("%s", &told)
	closed = true
	if err := bed.Close(); err != nil {
		t.Error(err)
	}
	for _, l := range []net.Listener{d.pages, d.turn} {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Errorf("%v listens after the story", l.Addr())
		}
	}
}
