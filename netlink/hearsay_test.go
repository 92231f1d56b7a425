package netlink

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"flexphone/netlink/internal/link"
)

var (
	prefixP = netip.MustParsePrefix("2001:db8:1::/64")
	prefixQ = netip.MustParsePrefix("2001:db8:2::/64")
	routerA = netip.MustParseAddr("fe80::a")
	routerB = netip.MustParseAddr("fe80::b")
)

// TestHearsay plays what routers say, a letter each: time in seconds, router,
// what, with "-" before what ends; and what is known then and two seconds later.
func TestHearsay(t *testing.T) {
	for _, tt := range []struct {
		name, said, now, soon string
	}{
		{"nothing", "", "", ""},
		{"one router", "0aP 200aP", "P", "P"},
		{"another prefix instead", "0aP 200aQ", "P Q", "Q P"},
		{"and back", "0aP 200aQ 400aP", "P Q", "P Q"},
		{"another one as well", "0aP 200aP 200aQ", "P Q", "P Q"},
		{"two routers in turn", "0aP 1bQ 200aP 201bQ 400aP", "P Q", "P Q"},
		{"two routers in turn, the other way", "0bQ 1aP 201bQ 202aP", "Q P", "Q P"},
		{"two routers, one says another", "0aP 0bQ 100aR", "P Q R", "Q R P"},
		{"another prefix instead, again and again", "0aP 2aQ 4aQ 6aQ", "Q P", "Q P"},
		{"in two packets", "0aP 0aQ 200aP 200aQ", "P Q", "P Q"},
		{"in two packets, between them", "0aP 0aQ 200aP", "P Q", "P Q"},
		{"taken back", "0aP 0aQ 200a-P", "Q", "Q"},
		{"taken back by one of two", "0aP 0bP 200a-P", "P", "P"},
		{"run out", "0aP 1000bQ", "Q", "Q"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Unix(1_800_000_000, 0)
			now := begin
			var h hearsay[string]
			for _, word := range strings.Fields(tt.said) {
				digits := strings.TrimRight(word, "abPQR-")
				seconds := 0
				for _, d := range digits {
					seconds = 10*seconds + int(d-'0')
				}
				now = begin.Add(time.Duration(seconds) * time.Second)
				router, what, life := routerA, word[len(digits)+1:], 600*time.Second
				if word[len(digits)] == 'b' {
					router = routerB
				}
				if ended, ok := strings.CutPrefix(what, "-"); ok {
					what, life = ended, 0
				}
				h.say(now, router, life, what)
			}
			if got := strings.Join(h.known(now), " "); got != tt.now {
				t.Errorf("known is %q; want %q", got, tt.now)
			}
			if got := strings.Join(h.known(now.Add(2*time.Second)), " "); got != tt.soon {
				t.Errorf("soon known is %q; want %q", got, tt.soon)
			}
			// It says when it will be different.
			for d := h.deadline(now); !d.IsZero() && d.Sub(now) < time.Hour; d = h.deadline(d) {
				before, after := h.known(d.Add(-1)), h.known(d)
				if slices.Equal(before, after) && d.Sub(now) > staleAfter+staleWait {
					t.Errorf("nothing is different at %v", d.Sub(begin))
				}
			}
		})
	}
	t.Run("for good", func(t *testing.T) {
		now := time.Unix(1_800_000_000, 0)
		var h hearsay[netip.Prefix]
		h.say(now, routerA, -1, prefixP)
		h.say(now.Add(2*time.Second), routerA, -1, prefixQ) // a first advertisement of many
		if _, _, out, gone := h.standing(now.Add(time.Hour), prefixP, routerA); !out || gone {
			t.Errorf("two seconds later: left out %v, gone %v", out, gone)
		}
		h.say(now.Add(staleAfter), routerA, -1, prefixQ)
		if _, _, _, gone := h.standing(now.Add(staleAfter+staleWait-1), prefixP, routerA); gone {
			t.Error("gone at once")
		}
		if known, by, out, gone := h.standing(now.Add(staleAfter+staleWait), prefixP, routerA); !known || !by || !out || !gone {
			t.Errorf("known %v, by this router %v, left out %v, gone %v", known, by, out, gone)
		}
	})
	t.Run("whatever a link says", func(t *testing.T) {
		now := time.Unix(1_800_000_000, 0)
		var h hearsay[int]
		for i := range 10 * maxHearsay {
			h.say(now, netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)}), -1, i, i+1000)
		}
		if len(h.said) > maxHearsay {
			t.Errorf("%d sayings are kept", len(h.said))
		}
	})
}

// TestOrderOfIPv6 plays advertisements, and looks at which address comes first.
func TestOrderOfIPv6(t *testing.T) {
	p, q := netip.MustParsePrefix("2001:db8:1::5/64"), netip.MustParsePrefix("2001:db8:2::5/64")
	lan := netip.MustParsePrefix("fd00::5/64")
	order := func(addrs ...heldAddress) (out []netip.Prefix) {
		return sight6{running: true, routed: true, addrs: addrs}.usable()
	}
	held := func(a netip.Prefix, six standing6) heldAddress { return heldAddress{prefix: a, six: six} }
	for _, tt := range []struct {
		name string
		p, q standing6
		want netip.Prefix
	}{
		{"no difference", standing6{}, standing6{}, p},
		{"the first is left out", standing6{heard: true, leftOut: true}, standing6{heard: true}, q},
		{"the first is left out by the router in use", standing6{heard: true, inUse: true, leftOut: true}, standing6{heard: true}, q},
		{"the second is of the router in use", standing6{heard: true}, standing6{heard: true, inUse: true}, q},
		{"the second alone was heard of", standing6{}, standing6{heard: true}, q},
		{"the second was told later", standing6{age: time.Minute}, standing6{age: 2 * time.Second}, q},
		{"the second was told in the same breath", standing6{age: time.Minute}, standing6{age: time.Minute - 1}, p},
		{"both were heard of, when does not count", standing6{heard: true, age: time.Minute}, standing6{heard: true}, p},
	} {
		if got := order(held(p, tt.p), held(q, tt.q)); got[0] != tt.want || len(got) != 2 {
			t.Errorf("%s: %v", tt.name, got)
		}
		if got := order(held(lan, standing6{inUse: true, heard: true}), held(q, tt.q), held(p, tt.p)); got[0] != tt.want || got[2] != lan {
			t.Errorf("%s, beside a local one: %v", tt.name, got)
		}
	}
}

// raOf builds a router advertisement to all hosts of the link, with lifetimes in
// seconds.
func raOf(router netip.Addr, life uint32, dns []netip.Addr, prefixes ...netip.Prefix) []byte {
	b := make([]byte, ipv6Header+raHeader)
	b[0], b[6], b[7] = 0x60, protoICMPv6, 255
	copy(b[8:], router.AsSlice())
	copy(b[24:], netip.MustParseAddr("ff02::1").AsSlice())
	b[ipv6Header], b[ipv6Header+4], b[ipv6Header+6], b[ipv6Header+7] = typeRA, 64, 0x07, 0x08
	for _, p := range prefixes {
		o := make([]byte, 32)
		o[0], o[1], o[2], o[3] = raPrefix, 4, byte(p.Bits()), 0x80|raAutonomic
		binary.BigEndian.PutUint32(o[4:], life)
		binary.BigEndian.PutUint32(o[8:], life)
		copy(o[16:], p.Addr().AsSlice())
		b = append(b, o...)
	}
	if len(dns) > 0 {
		o := make([]byte, 8)
		o[0], o[1] = raDNS, byte(1+2*len(dns))
		binary.BigEndian.PutUint32(o[4:], life)
		for _, a := range dns {
			o = append(o, a.AsSlice()...)
		}
		b = append(b, o...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Header))
	sum := link.Checksum(uint32(len(b)-ipv6Header)+protoICMPv6, b[8:40])
	binary.BigEndian.PutUint16(b[ipv6Header+2:], ^link.Checksum(uint32(sum), b[ipv6Header:]))
	return b
}

func TestParseRA(t *testing.T) {
	good := raOf(routerA, 600, []netip.Addr{simAddr6}, prefixP, prefixQ)
	says, err := parseRA(good)
	if want := []saidPrefix{{prefixP, 600 * time.Second}, {prefixQ, 600 * time.Second}}; err != nil || says.router != routerA || !slices.Equal(says.prefixes, want) {
		t.Errorf("read as %+v, %v", says, err)
	}
	if says, err := parseRA(raOf(routerA, lifeForever, nil, prefixP)); err != nil || says.prefixes[0].valid >= 0 {
		t.Errorf("for ever is read as %+v, %v", says, err)
	}
	for _, at := range []int{0, 6, 7, 8, ipv6Header, ipv6Header + 1, ipv6Header + raHeader + 1} {
		b := slices.Clone(good)
		b[at] ^= 0xff
		if says, err := parseRA(b); err == nil {
			t.Errorf("with byte %d changed: %+v", at, says)
		}
	}
}

func FuzzRouterAdvertisement(f *testing.F) {
	f.Add(raOf(routerA, 600, []netip.Addr{simAddr6}, prefixP, prefixQ))
	f.Add(raOf(routerB, lifeForever, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		says, err := parseRA(b)
		if err != nil {
			return
		}
		var again []byte
		for _, p := range says.prefixes { // each may have its own lifetime
			life := lifeForever
			if p.valid >= 0 {
				life = uint32(p.valid / time.Second)
			}
			one, err := parseRA(raOf(says.router, life, nil, p.prefix))
			if err != nil || one.router != says.router || !slices.Equal(one.prefixes, []saidPrefix{p}) {
				t.Errorf("%+v became %+v, %v (%x)", p, one, err, again)
			}
			if !isHost6(p.prefix.Addr()) {
				t.Errorf("prefix %v", p.prefix)
			}
		}
	})
}

func TestRouterInUse(t *testing.T) {
	none, a, b := netip.Addr{}, routerA, routerB
	type list = []netip.Addr
	for _, tt := range []struct {
		was                netip.Addr
		routers, answering list
		want               netip.Addr
	}{
		{none, nil, nil, none}, {a, nil, nil, none}, {none, list{a, b}, nil, a}, {b, list{a, b}, nil, b},
		{b, list{a, b}, list{b}, b}, {b, list{a, b}, list{a}, a}, {b, list{a, b}, list{a, b}, b}, {b, list{a}, nil, a},
	} {
		if got := routerInUse(tt.was, tt.routers, tt.answering); got != tt.want {
			t.Errorf("of %v, %v answer, was %v: %v; want %v", tt.routers, tt.answering, tt.was, got, tt.want)
		}
	}
}
