package store

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"flexphone/registry-client/wire"
)

// Whatever a record says, its slot says the same, and nothing of what it said
// before.
func TestSlab(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	now := time.Unix(1_700_000_000, 0)
	stays := []Stay{{Addrs: []netip.Addr{four, six}, From: now.Add(-time.Hour), Until: now}}
	s := slabs{extras: map[rowID]extra{}}
	var ids []rowID
	records := []record{
		{},
		{Owner: key(1), Number: "0101", Addrs: []netip.Addr{four}, Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: 1 << 60, Since: 1, Expiry: 2, Released: 3},
		{Number: "lobby", Addrs: []netip.Addr{six}, Trail: trailOf(now, nil)},
		{Number: "99999999", Addrs: []netip.Addr{four, six}, Trail: trailOf(now, stays)},
		{Addrs: []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}, Trail: trailOf(time.Unix(0, 0), stays)},
		{Addrs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}, Trail: trailOf(time.Unix(1<<33, 0), stays)},
		{Trail: "\x80\x00"}, {Trail: "\xff"}, {Trail: "\xff\xff\xff\xff\xff\xff"}, // not as they are written
	}
	for i := range records {
		records[i].MAC = mac(i)
		id, _ := s.add(mac(i))
		ids = append(ids, id)
		if e := s.get(id); !e.gone {
			t.Errorf("a new slot says %+v", e)
		}
	}
	for range 2 {
		for i := range records {
			for _, id := range ids { // each one in each slot
				r := records[i]
				r.MAC = mac(int(id))
				s.put(id, &r)
				if e := s.get(id); e.gone || !reflect.DeepEqual(e.record, r) {
					t.Errorf("%+v; want %+v", e.record, r)
				}
			}
		}
	}
	for _, id := range ids {
		s.put(id, nil)
		if e := s.get(id); !e.gone || !reflect.DeepEqual(e.record, record{}) {
			t.Errorf("what is gone says %+v", e)
		}
	}
	if len(s.extras) > 0 {
		t.Errorf("%d extras are left", len(s.extras))
	}
	if size := unsafe.Sizeof(slot{}); size > 128 {
		t.Errorf("a slot has %d bytes", size)
	}
}
