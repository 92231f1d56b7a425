package wire

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"flexphone/internal/pass"
)

// MaxBody bounds every CBOR body, in bytes: a registration with eight IPv6
// addresses takes 200, and a datagram must fit into one packet.
const MaxBody = 1024

// codec holds the modes of encoding and decoding, made once.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// modes returns the one codec. Encoding is deterministic (RFC 8949, section
// 4.2.1). Decoding knows no tags and no indefinite lengths, allows no key
// twice, and skips keys that it does not know, so that later versions can add
// some.
var modes = sync.OnceValue(func() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  4,
		MaxArrayElements: 16,
		MaxMapPairs:      32,
	}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return codec{enc, dec}
})

// The structs below are the bodies as they are sent: maps with small integers
// for keys, which doc.go lists.

type registrationBody struct {
	MAC      []byte   `cbor:"1,keyasint"`
	Addrs    [][]byte `cbor:"2,keyasint"`
	SIP      uint16   `cbor:"3,keyasint,omitempty"`
	SIPS     uint16   `cbor:"4,keyasint,omitempty"`
	Sequence uint64   `cbor:"5,keyasint"`
	Lifetime uint32   `cbor:"6,keyasint"` // seconds
	Token    string   `cbor:"14,keyasint,omitempty"`
	Next     []byte   `cbor:"15,keyasint,omitempty"`
	Peers    [][]byte `cbor:"16,keyasint,omitempty"`
	Padding  []byte   `cbor:"23,keyasint,omitempty"`
	Reach    uint8    `cbor:"18,keyasint,omitempty"`

	Heard [][]uint32 `cbor:"40,keyasint,omitempty"`
}

// roomPerPeer is how long the announcement of a move is for each whom it names, at
// least. To an address that has not answered yet the server says no more than three
// times what came from there (RFC 9146, section 6): so that is enough for the receipt,
// the other end's row in it, and the notification that the other end has moved as well.
// In bytes, on the wire: 45 about each message and 20 of its header, a row of up to 150,
// and 45 for a ping.
const roomPerPeer = 128

type receiptBody struct {
	Sequence  uint64    `cbor:"5,keyasint"`
	Number    string    `cbor:"7,keyasint,omitempty"`
	Expiry    int64     `cbor:"9,keyasint"` // milliseconds of Unix time
	Reflexive []byte    `cbor:"12,keyasint"`
	Port      uint16    `cbor:"13,keyasint"`
	Peers     []rowBody `cbor:"17,keyasint,omitempty"`
	Beside    []uint16  `cbor:"19,keyasint,omitempty"`
	Also      []byte    `cbor:"41,keyasint,omitempty"`
	referralBody
}

// besideOf reads a Beside. What cannot be read is none: the announcement was taken all
// the same.
func besideOf(ports []uint16, also []byte) Beside {
	if len(ports) < 3 {
		return Beside{}
	}
	b := Beside{STUN: [2]uint16(ports), Relay: ports[2]}
	if a, err := addrOf(also); err == nil && b.Relay != 0 {
		b.Also = a
	}
	return b
}

func (b Beside) ports() []uint16 {
	if b.STUN == [2]uint16{} && b.Relay == 0 {
		return nil
	}
	return []uint16{b.STUN[0], b.STUN[1], b.Relay}
}

type passBody struct {
	Pass []byte `cbor:"37,keyasint"`
}

// EncodePass returns p as the body of the answer to POST /pair.
func EncodePass(p pass.Pass) ([]byte, error) { return encode("pass", passBody{p.Bytes()}) }

// DecodePass reads the body of the answer to POST /pair.
func DecodePass(b []byte) (pass.Pass, error) {
	var body passBody
	if err := decode("pass", b, &body); err != nil {
		return pass.Pass{}, err
	}
	p, ok := pass.Of(body.Pass)
	if !ok {
		return pass.Pass{}, fmt.Errorf("wire: decode pass: %d bytes: %w", len(body.Pass), ErrInvalid)
	}
	return p, nil
}

// A referralBody is a Referral; the zero one is left out.
type referralBody struct {
	Server string `cbor:"20,keyasint,omitempty"`
	Key    []byte `cbor:"21,keyasint,omitempty"`
}

func referralOf(r Referral) referralBody {
	if r == (Referral{}) {
		return referralBody{}
	}
	return referralBody{Server: r.Server, Key: r.Key[:]}
}

// referral returns what was sent, the zero Referral if there is none.
func (b referralBody) referral() (Referral, error) {
	if b.Server == "" && len(b.Key) == 0 {
		return Referral{}, nil
	}
	r := Referral{Server: b.Server}
	if len(b.Key) != len(r.Key) {
		return Referral{}, fmt.Errorf("wire: referral: key's fingerprint of %d bytes: %w", len(b.Key), ErrInvalid)
	}
	copy(r.Key[:], b.Key)
	return r, r.Validate()
}

type rowBody struct {
	MAC         []byte   `cbor:"1,keyasint"`
	Addrs       [][]byte `cbor:"2,keyasint"`
	SIP         uint16   `cbor:"3,keyasint,omitempty"`
	SIPS        uint16   `cbor:"4,keyasint,omitempty"`
	Sequence    uint64   `cbor:"5,keyasint"`
	Number      string   `cbor:"7,keyasint,omitempty"`
	Fingerprint []byte   `cbor:"8,keyasint"`
	Expiry      int64    `cbor:"9,keyasint"`
	Online      bool     `cbor:"10,keyasint"`
	Since       int64    `cbor:"11,keyasint"`
	Reach       uint8    `cbor:"18,keyasint,omitempty"`
	Name        string   `cbor:"31,keyasint,omitempty"`
	Open        bool     `cbor:"38,keyasint,omitempty"`
}

// noAddr stands in the row of a browser, which has none: the dummy address of RFC 7600.
// A phone of before takes no row without one.
var noAddr = netip.AddrFrom4([4]byte{192, 0, 0, 8})

// reachOf reads a reach. One of a later version takes links, too.
func reachOf(b uint8) Reach {
	if Reach(b) > ReachRelay {
		return ReachNAT
	}
	return Reach(b)
}

// EncodeRegistration returns r as the body of POST /rd. It refuses what
// Validate does.
func EncodeRegistration(r Registration) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	body := registrationBody{
		MAC: r.MAC[:], Addrs: addrBytes(r.Addrs), SIP: r.Ports.SIP, SIPS: r.Ports.SIPS,
		Sequence: r.Sequence, Lifetime: uint32(r.Lifetime / time.Second), Token: r.Token,
		Reach: uint8(r.Reach),
	}
	if r.Next != (Fingerprint{}) {
		body.Next = r.Next[:]
	}
	for _, p := range r.Peers {
		body.Peers = append(body.Peers, p[:])
	}
	for _, h := range r.Heard {
		body.Heard = append(body.Heard, h.figures())
	}
	b, err := encode("registration", body)
	if missing := roomPerPeer*len(r.Peers) - len(b); err == nil && missing > 0 {
		body.Padding = make([]byte, missing)
		b, err = encode("registration", body)
	}
	return b, err
}

// DecodeRegistration reads and validates the body of POST /rd.
func DecodeRegistration(b []byte) (Registration, error) {
	var body registrationBody
	if err := decode("registration", b, &body); err != nil {
		return Registration{}, err
	}
	r := Registration{
		Ports:    Ports{SIP: body.SIP, SIPS: body.SIPS},
		Sequence: body.Sequence, Lifetime: time.Duration(body.Lifetime) * time.Second,
		Token: body.Token, Reach: reachOf(body.Reach),
	}
	if len(body.Next) != 0 && len(body.Next) != len(r.Next) {
		return Registration{}, fmt.Errorf("wire: decode registration: next key's fingerprint of %d bytes: %w", len(body.Next), ErrInvalid)
	}
	copy(r.Next[:], body.Next)
	var err error
	for _, b := range body.Peers {
		peer, err := macBytes(b)
		if err != nil {
			return Registration{}, fmt.Errorf("wire: decode registration: peer: %w", err)
		}
		r.Peers = append(r.Peers, peer)
	}
	for _, f := range body.Heard { // what cannot be read is left out: an address counts for more
		if h, ok := heardOf(f); ok && len(r.Heard) < MaxHeard {
			r.Heard = append(r.Heard, h)
		}
	}
	if r.MAC, err = macBytes(body.MAC); err != nil {
		return Registration{}, fmt.Errorf("wire: decode registration: %w", err)
	}
	if r.Addrs, err = parseAddrs(body.Addrs); err != nil {
		return Registration{}, fmt.Errorf("wire: decode registration: %w", err)
	}
	if err := r.Validate(); err != nil {
		return Registration{}, err
	}
	return r, nil
}

// EncodeReceipt returns r as the body of the answer to POST /rd.
func EncodeReceipt(r Receipt) ([]byte, error) {
	ip := r.Reflexive.Addr().Unmap().WithZone("")
	body := receiptBody{
		Sequence: r.Sequence, Number: r.Number, Expiry: r.Expiry.UnixMilli(),
		Reflexive: ip.AsSlice(), Port: r.Reflexive.Port(), Beside: r.Beside.ports(), referralBody: referralOf(r.Elsewhere),
	}
	if r.Beside.Relay != 0 {
		body.Also = r.Beside.Also.AsSlice()
	}
	for _, row := range r.Peers {
		body.Peers = append(body.Peers, bodyOf(row))
	}
	return encode("receipt", body)
}

// DecodeReceipt reads the body of the answer to POST /rd.
func DecodeReceipt(b []byte) (Receipt, error) {
	var body receiptBody
	if err := decode("receipt", b, &body); err != nil {
		return Receipt{}, err
	}
	ip, err := addrOf(body.Reflexive)
	if err != nil {
		return Receipt{}, fmt.Errorf("wire: decode receipt: %w", err)
	}
	if body.Number != "" && !ValidNumber(body.Number) {
		return Receipt{}, fmt.Errorf("wire: decode receipt: number %q: %w", clip(body.Number), ErrInvalid)
	}
	expiry, err := unixMilli(body.Expiry)
	if err != nil {
		return Receipt{}, fmt.Errorf("wire: decode receipt: %w", err)
	}
	r := Receipt{
		Reflexive: netip.AddrPortFrom(ip, body.Port), Number: body.Number,
		Expiry: expiry, Sequence: body.Sequence, Beside: besideOf(body.Beside, body.Also),
	}
	if to, err := body.referral(); err == nil { // else the announcement was taken all the same
		r.Elsewhere = to
	}
	for _, b := range body.Peers {
		// What cannot be read is left out: the announcement was taken all the same.
		if row, err := b.row(); err == nil && len(r.Peers) < MaxPeers {
			r.Peers = append(r.Peers, row)
		}
	}
	return r, nil
}

// EncodeRow returns r as the body of the answer to a lookup. Its times lose
// what is finer than a millisecond.
func EncodeRow(r Row) ([]byte, error) {
	return encode("row", bodyOf(r))
}

func bodyOf(r Row) rowBody {
	b := rowBody{
		MAC: r.MAC[:], Addrs: addrBytes(r.Addrs), SIP: r.Ports.SIP, SIPS: r.Ports.SIPS,
		Sequence: r.Sequence, Number: r.Number, Fingerprint: r.Fingerprint[:],
		Expiry: r.Expiry.UnixMilli(), Online: r.State == Online, Since: r.Since.UnixMilli(),
		Reach: uint8(r.Reach),
	}
	if IsBrowser(r.MAC) { // who does not know of browsers finds it offline
		b.Addrs, b.Online, b.Open, b.Name = addrBytes([]netip.Addr{noAddr}), false, r.State == Online, r.Name
	}
	return b
}

// DecodeRow reads and validates the body of the answer to a lookup.
func DecodeRow(b []byte) (Row, error) {
	var body rowBody
	if err := decode("row", b, &body); err != nil {
		return Row{}, err
	}
	r, err := body.row()
	if err != nil {
		return Row{}, fmt.Errorf("wire: decode row: %w", err)
	}
	return r, nil
}

// row validates what body says.
func (body rowBody) row() (Row, error) {
	r := Row{
		Number: body.Number, Ports: Ports{SIP: body.SIP, SIPS: body.SIPS},
		Sequence: body.Sequence, State: Offline, Reach: reachOf(body.Reach),
	}
	if body.Online {
		r.State = Online
	}
	var err error
	if r.MAC, err = macBytes(body.MAC); err != nil {
		return Row{}, err
	}
	if r.Addrs, err = parseAddrs(body.Addrs); err == nil {
		err = validAddrs(r.Addrs)
	}
	if err != nil {
		return Row{}, err
	}
	if IsBrowser(r.MAC) {
		if body.Name != "" && !validName(body.Name) {
			return Row{}, fmt.Errorf("browser's name %q: %w", clip(body.Name), ErrInvalid)
		}
		r.Addrs, r.Name, r.State = nil, body.Name, Offline
		if body.Open {
			r.State = Online
		}
	}
	if len(body.Fingerprint) != len(r.Fingerprint) {
		return Row{}, fmt.Errorf("fingerprint of %d bytes: %w", len(body.Fingerprint), ErrInvalid)
	}
	copy(r.Fingerprint[:], body.Fingerprint)
	if r.Number != "" && !ValidNumber(r.Number) {
		return Row{}, fmt.Errorf("number %q: %w", clip(r.Number), ErrInvalid)
	}
	if r.Expiry, err = unixMilli(body.Expiry); err != nil {
		return Row{}, err
	}
	if r.Since, err = unixMilli(body.Since); err != nil {
		return Row{}, err
	}
	return r, nil
}

func encode(what string, v any) ([]byte, error) {
	b, err := modes().enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("wire: encode %s: %w", what, err)
	}
	return b, nil
}

func decode(what string, b []byte, v any) error {
	if len(b) > MaxBody {
		return fmt.Errorf("wire: decode %s: %d bytes, want at most %d: %w", what, len(b), MaxBody, ErrInvalid)
	}
	if err := modes().dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("wire: decode %s: %w: %w", what, ErrInvalid, err)
	}
	return nil
}

func macBytes(b []byte) (MAC, error) {
	var m MAC
	if len(b) != len(m) {
		return MAC{}, fmt.Errorf("MAC of %d bytes: %w", len(b), ErrInvalid)
	}
	copy(m[:], b)
	if !m.Valid() {
		return MAC{}, fmt.Errorf("MAC %v is not unicast: %w", m, ErrInvalid)
	}
	return m, nil
}

func addrBytes(addrs []netip.Addr) [][]byte {
	out := make([][]byte, len(addrs))
	for i, a := range addrs {
		out[i] = a.AsSlice()
	}
	return out
}

func parseAddrs(in [][]byte) ([]netip.Addr, error) {
	out := make([]netip.Addr, len(in))
	for i, b := range in {
		a, err := addrOf(b)
		if err != nil {
			return nil, err
		}
		out[i] = a
	}
	return out, nil
}

func addrOf(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("address of %d bytes: %w", len(b), ErrInvalid)
	}
	return a, nil
}

// unixMilli refuses times before 1970 and after the year 9999, which other
// encodings of a time cannot hold.
func unixMilli(ms int64) (time.Time, error) {
	const most = 253402300799999
	if ms < 0 || ms > most {
		return time.Time{}, fmt.Errorf("time %d: %w", ms, ErrInvalid)
	}
	return time.UnixMilli(ms), nil
}
