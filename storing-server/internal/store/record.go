package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flexphone/registry-client/wire"
)

// A record is a phone's row as it is kept: what was announced and when, from
// which the state at any moment follows. Nothing is written when a row
// expires.
type record struct {
	MAC      wire.MAC
	Owner    wire.Fingerprint
	Number   string
	Addrs    []netip.Addr
	Ports    wire.Ports
	Sequence uint64
	Since    moment // online without a gap, if it is online
	Expiry   moment
	Released moment // zero: not released
	Trail    trail  // where it was before
	Reach    wire.Reach
}

// A moment is a time as it is kept: milliseconds of Unix time. Zero is none.
type moment int64

func momentOf(t time.Time) moment { return moment(t.UnixMilli()) }

func (m moment) time() time.Time { return time.UnixMilli(int64(m)) }

// row returns what the record means at now.
func (r *record) row(now time.Time) wire.Row {
	row := wire.Row{
		MAC: r.MAC, Number: r.Number, Addrs: r.Addrs, Ports: r.Ports, Fingerprint: r.Owner,
		Sequence: r.Sequence, Expiry: r.Expiry.time(), State: wire.Online, Since: r.Since.time(), Reach: r.Reach,
	}
	if !r.online(now) {
		row.State, row.Since = wire.Offline, r.ended(now)
	}
	return row
}

// online reports whether the phone can be called at now.
func (r *record) online(now time.Time) bool { return r.Released == 0 && momentOf(now) < r.Expiry }

// body is a record on the disk: CBOR with the keys of package wire where it
// has them. Times are milliseconds of Unix time.
type body struct {
	MAC      []byte   `cbor:"1,keyasint"`
	Addrs    [][]byte `cbor:"2,keyasint"`
	SIP      uint16   `cbor:"3,keyasint,omitempty"`
	SIPS     uint16   `cbor:"4,keyasint,omitempty"`
	Sequence uint64   `cbor:"5,keyasint"`
	Number   string   `cbor:"7,keyasint,omitempty"`
	Owner    []byte   `cbor:"8,keyasint"`
	Expiry   int64    `cbor:"9,keyasint"`
	Since    int64    `cbor:"11,keyasint"`
	Reach    uint8    `cbor:"18,keyasint,omitempty"`
	Released int64    `cbor:"20,keyasint,omitempty"`
	Trail    []byte   `cbor:"21,keyasint,omitempty"`
}

var decoder = sync.OnceValue(func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 32,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
})

var encoder = sync.OnceValue(func() cbor.UserBufferEncMode {
	mode, err := cbor.EncOptions{}.UserBufferEncMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
})

// A recordEncoder encodes one record after the other, in the same memory. Its
// zero value is ready.
type recordEncoder struct {
	body body
	out  bytes.Buffer
}

// encode returns r as decodeRecord reads it, until it is called again.
func (e *recordEncoder) encode(r *record) ([]byte, error) {
	e.body = body{
		MAC: r.MAC[:], Addrs: e.body.Addrs[:0], SIP: r.Ports.SIP, SIPS: r.Ports.SIPS, Sequence: r.Sequence,
		Number: r.Number, Owner: r.Owner[:], Expiry: int64(r.Expiry), Since: int64(r.Since),
		Released: int64(r.Released), Trail: []byte(r.Trail), Reach: uint8(r.Reach),
	}
	for _, a := range r.Addrs {
		e.body.Addrs = append(e.body.Addrs, a.AsSlice())
	}
	e.out.Reset()
	if err := encoder().MarshalToBuffer(&e.body, &e.out); err != nil {
		return nil, fmt.Errorf("store: encode row %v: %w", r.MAC, err)
	}
	return e.out.Bytes(), nil
}

// encodeHolder returns who has a number: 6 bytes of MAC, or 8 of the time until
// which it rests, or nothing when it is free.
func encodeHolder(mac wire.MAC, rests int64) []byte {
	switch {
	case mac != wire.MAC{}:
		return append([]byte(nil), mac[:]...)
	case rests != 0:
		return binary.BigEndian.AppendUint64(nil, uint64(rests))
	}
	return nil
}

func decodeHolder(b []byte) (mac wire.MAC, rests int64, err error) {
	switch len(b) {
	case 0:
	case len(mac):
		copy(mac[:], b)
	case 8:
		rests = int64(binary.BigEndian.Uint64(b))
	default:
		err = fmt.Errorf("store: decode number: %d bytes", len(b))
	}
	return mac, rests, err
}

func decodeRecord(b []byte) (record, error) {
	var in body
	if err := decoder().Unmarshal(b, &in); err != nil {
		return record{}, fmt.Errorf("store: decode row: %w", err)
	}
	r := record{
		Number: in.Number, Ports: wire.Ports{SIP: in.SIP, SIPS: in.SIPS}, Sequence: in.Sequence,
		Since: moment(in.Since), Expiry: moment(in.Expiry), Released: moment(in.Released), Trail: trail(in.Trail), Reach: min(wire.Reach(in.Reach), wire.ReachRelay),
	}
	if len(in.MAC) != len(r.MAC) || len(in.Owner) != len(r.Owner) {
		return record{}, fmt.Errorf("store: decode row: MAC of %d bytes, owner of %d", len(in.MAC), len(in.Owner))
	}
	copy(r.MAC[:], in.MAC)
	copy(r.Owner[:], in.Owner)
	for _, raw := range in.Addrs {
		a, ok := netip.AddrFromSlice(raw)
		if !ok {
			return record{}, fmt.Errorf("store: decode row %v: address of %d bytes", r.MAC, len(raw))
		}
		r.Addrs = append(r.Addrs, a)
	}
	return r, nil
}
