package wire

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A MAC and a fingerprint are text in JSON, also as the key of an object.
func TestJSON(t *testing.T) {
	m := MAC{2, 0, 0x5e, 0, 0x53, 1}
	text, err := json.Marshal(map[MAC]Fingerprint{m: {0xab}})
	if want := `{"02:00:5e:00:53:01":"ab` + strings.Repeat("0", 62) + `"}`; err != nil || string(text) != want {
		t.Errorf("JSON = %s, %v; want %s", text, err, want)
	}
	var back map[MAC]Fingerprint
	if err := json.Unmarshal(text, &back); err != nil || len(back) != 1 || back[m] != (Fingerprint{0xab}) {
		t.Errorf("%s is %v, %v", text, back, err)
	}
}

func sample() Registration {
	return Registration{
		MAC:   MAC{2, 0, 0x5e, 0, 0x53, 1},
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		Ports: Ports{SIP: 5060, SIPS: 5061}, Sequence: 17, Lifetime: time.Hour,
	}
}

func TestRegistrationRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Registration){
		"no MAC":                 func(r *Registration) { r.MAC = MAC{} },
		"multicast MAC":          func(r *Registration) { r.MAC[0] |= 1 },
		"no address":             func(r *Registration) { r.Addrs = nil },
		"nine addresses":         func(r *Registration) { r.Addrs = make([]netip.Addr, 9) },
		"the same twice":         func(r *Registration) { r.Addrs[1] = r.Addrs[0] },
		"loopback":               func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("127.0.0.1") },
		"loopback 6":             func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("::1") },
		"unspecified":            func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("0.0.0.0") },
		"multicast":              func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("224.0.0.1") },
		"multicast 6":            func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("ff02::1") },
		"broadcast":              func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("255.255.255.255") },
		"link-local 6":           func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("fe80::1") },
		"mapped":                 func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("::ffff:192.0.2.1") },
		"with a zone":            func(r *Registration) { r.Addrs[0] = netip.MustParseAddr("2001:db8::1%eth0") },
		"no port":                func(r *Registration) { r.Ports = Ports{} },
		"sequence zero":          func(r *Registration) { r.Sequence = 0 },
		"sequence too high":      func(r *Registration) { r.Sequence = MaxSequence + 1 },
		"no lifetime":            func(r *Registration) { r.Lifetime = 0 },
		"negative lifetime":      func(r *Registration) { r.Lifetime = -time.Second },
		"lifetime of a decade":   func(r *Registration) { r.Lifetime = 10 * MaxLifetime },
		"half a second more":     func(r *Registration) { r.Lifetime += time.Second / 2 },
		"a long token":           func(r *Registration) { r.Token = strings.Repeat("a", MaxToken+1) },
		"three peers":            func(r *Registration) { r.Peers = []MAC{{2, 1}, {2, 2}, {2, 3}} },
		"a multicast peer":       func(r *Registration) { r.Peers = []MAC{{1, 2}} },
		"nine calls":             func(r *Registration) { r.Heard = slices.Repeat([]Heard{{Opinion: 430}}, MaxHeard+1) },
		"a call of no opinion":   func(r *Registration) { r.Heard = []Heard{{}} },
		"a loss of all and more": func(r *Registration) { r.Heard = []Heard{{Opinion: 100, Lost: 1001}} },
		"half a millisecond":     func(r *Registration) { r.Heard = []Heard{{Opinion: 100, Delay: time.Millisecond / 2}} },
		"a call of two days":     func(r *Registration) { r.Heard = []Heard{{Opinion: 100, Length: 48 * time.Hour}} },
		"a token of controls":    func(r *Registration) { r.Token = "abc\r\n" },
	} {
		r := sample()
		spoil(&r)
		if _, err := EncodeRegistration(r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; want ErrInvalid", name, err)
		}
	}
}

// The bytes on the wire are fixed: another team's phone sends the same.
func TestRegistrationBytes(t *testing.T) {
	b, err := EncodeRegistration(sample())
	if err != nil {
		t.Fatal(err)
	}
	const want = "\xa6\x01\x46\x02\x00\x5e\x00\x53\x01" +
		"\x02\x82\x44\xc0\x00\x02\x07\x50\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x03\x19\x13\xc4\x04\x19\x13\xc5\x05\x11\x06\x19\x0e\x10"
	if string(b) != want {
		t.Errorf("body = %x; want %x", b, want)
	}
	if _, err := DecodeRegistration(append(b, 0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("trailing byte: %v; want ErrInvalid", err)
	}
	// A key that we do not know is skipped.
	later := "\xa7" + want[1:] + "\x18\x63\x01"
	if got, err := DecodeRegistration([]byte(later)); err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("with an unknown key: %+v, %v", got, err)
	}
}

// longestReceipt is one that tells as much as there can be to tell.
func longestReceipt() Receipt {
	r := Receipt{
		Reflexive: netip.MustParseAddrPort("[2001:db8::ffff]:65535"), Number: "12345678",
		Expiry: time.UnixMilli(253402300799999), Sequence: MaxSequence,
		Beside: Beside{STUN: [2]uint16{65534, 65535}, Relay: 65533},
	}
	for i := range MaxPeers {
		row := Row{
			MAC: MAC{2, byte(i)}, Ports: Ports{SIP: 5060, SIPS: 5061}, Sequence: MaxSequence, Number: "12345678",
			Fingerprint: Fingerprint{0xff}, Expiry: r.Expiry, Since: r.Expiry, State: Online,
		}
		for n := range MaxAddrs {
			row.Addrs = append(row.Addrs, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n)}))
		}
		r.Peers = append(r.Peers, row)
	}
	return r
}

// The receipt that tells the most fits into a body.
func TestReceiptOfPeers(t *testing.T) {
	b, err := EncodeReceipt(longestReceipt())
	if err != nil || len(b) > MaxBody {
		t.Fatalf("%d bytes, %v; want at most %d", len(b), err, MaxBody)
	}
	t.Logf("the longest receipt takes %d bytes", len(b))
	if got, err := DecodeReceipt(b); err != nil || !reflect.DeepEqual(got, longestReceipt()) {
		t.Errorf("%+v, %v", got, err)
	}
	// What is too much or cannot be read is left out, and the rest is believed.
	odd := longestReceipt()
	odd.Peers = append([]Row{{MAC: MAC{1}}}, append(odd.Peers, odd.Peers[0])...)
	for i := range odd.Peers {
		odd.Peers[i].Addrs = odd.Peers[i].Addrs[:min(1, len(odd.Peers[i].Addrs))]
	}
	if b, err = EncodeReceipt(odd); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeReceipt(b); err != nil || !reflect.DeepEqual(got.Peers, odd.Peers[1:1+MaxPeers]) || got.Sequence != odd.Sequence {
		t.Errorf("%+v, %v; want the two peers that can be read", got, err)
	}
}

// The announcement of a move is as long as the server needs to say all that follows from
// it to an address that has not answered yet: three times that.
func TestMovesAreLongEnough(t *testing.T) {
	const record, header, ping = 45, 20, 4
	for n := range MaxPeers + 1 {
		r := Registration{MAC: MAC{2, 9}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: Ports{SIP: 5060, SIPS: 5061}, Sequence: 1, Lifetime: time.Hour}
		receipt := longestReceipt()
		receipt.Peers = receipt.Peers[:n]
		said := record + ping
		for i := range n {
			r.Peers = append(r.Peers, MAC{2, byte(i)})
			receipt.Peers[i].Addrs = receipt.Peers[i].Addrs[:3] // IPv4, IPv6 and a temporary one
			row, err := EncodeRow(receipt.Peers[i])
			if err != nil {
				t.Fatal(err)
			}
			said += record + header + len(row)
		}
		b, err := EncodeReceipt(receipt)
		if err != nil {
			t.Fatal(err)
		}
		said += record + header + len(b)
		came, err := EncodeRegistration(r)
		if err != nil {
			t.Fatal(err)
		}
		if came := record + header + len(came); 3*came < said {
			t.Errorf("with %d peers %d bytes come, and %d would be said", n, came, said)
		}
		if got, err := DecodeRegistration(came); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%d peers: %+v, %v", n, got, err)
		}
	}
}

func TestProblem(t *testing.T) {
	long := Problem{Reason: ReasonStale, Detail: strings.Repeat("ü", MaxDetail), Sequence: 9}
	b, err := EncodeProblem(long)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeProblem(b)
	if err != nil || got.Reason != ReasonStale || got.Sequence != 9 || len(got.Detail) != MaxDetail {
		t.Errorf("problem = %+v, %v", got, err)
	}
}

// What is told of calls does not keep a phone from being registered: what cannot be
// read is left out, what a later version says beside it as well.
func TestHeard(t *testing.T) {
	r := sample()
	for range MaxHeard {
		r.Heard = append(r.Heard, Heard{Opinion: 500, Lost: 1000, Delay: time.Minute, Jitter: time.Minute, Length: 24 * time.Hour, Way: WayRelayed})
	}
	for i := range MaxAddrs {
		a := netip.MustParseAddr("2001:db8::1").As16()
		a[1], a[14] = 0xd0, byte(i)
		r.Addrs = append(r.Addrs[:i:i], netip.AddrFrom16(a))
	}
	r.Token = strings.Repeat("a", MaxToken)
	again(t, r, EncodeRegistration, DecodeRegistration)
	if b, err := EncodeRegistration(r); err != nil || len(b) > MaxBody/2 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	body := registrationBody{MAC: r.MAC[:], Addrs: addrBytes(r.Addrs), SIP: 5060, Sequence: 1, Lifetime: 60}
	body.Heard = [][]uint32{nil, {430, 0, 0, 0}, {99, 0, 0, 0, 0}, {1 << 16, 0, 0, 0, 0}, {430, 1<<16 + 1, 0, 0, 0},
		{430, 0, 1 << 31, 0, 0}, {430, 0, 0, 60001, 0}, {430, 0, 0, 0, 86401}, {430, 1, 2, 3, 4, 4, 9}, {431, 1, 2, 3, 4}, {432, 1, 2, 3, 4, 2}, {433, 1, 2, 3, 4, 1 << 31}}
	b, err := encode("registration", body)
	if err != nil {
		t.Fatal(err)
	}
	var want []Heard
	for i, way := range []Way{WayUnknown, WayUnknown, WayPunched, WayUnknown} {
		want = append(want, Heard{430 + uint16(i), 1, 2 * time.Millisecond, 3 * time.Millisecond, 4 * time.Second, way})
	}
	if got, err := DecodeRegistration(b); err != nil || !slices.Equal(got.Heard, want) {
		t.Errorf("%+v, %v; want %+v", got.Heard, err, want)
	}
	body.Heard = slices.Repeat([][]uint32{{430, 1, 2, 3, 4}}, MaxHeard+1)
	if b, err = encode("registration", body); err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeRegistration(b); err != nil || len(got.Heard) != MaxHeard {
		t.Errorf("%d calls, %v; want %d", len(got.Heard), err, MaxHeard)
	}
	wild := Heard{Opinion: 9, Lost: 2000, Delay: -time.Second, Jitter: time.Hour, Length: 90*time.Second + 1, Way: 200}
	if err := wild.Fit().Validate(); err != nil {
		t.Error(err)
	}
}

// FuzzBodies: what decodes encodes again, and then decodes to the same.
func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:5684", "192.0.2.1:99": "192.0.2.1:99", "registry.example": "registry.example:5684",
		"registry.example:1": "registry.example:1", "2001:db8::1": "[2001:db8::1]:5684", "[2001:db8::1]:7": "[2001:db8::1]:7",
		"": "", "a b": "", "host:0": "", "host:99999": "", "host:http": "", "http://x": "", "x\n": "",
	} {
		got, err := HostPort(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("HostPort(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// A referral says where, and to whom: one without the other is none.
func TestReferral(t *testing.T) {
	good := Referral{Server: "[2001:db8::1]:5684", Key: Fingerprint{1}}
	p := Problem{Reason: ReasonElsewhere, Detail: "there", Elsewhere: good}
	again(t, p, EncodeProblem, DecodeProblem)
	r := longestReceipt()
	r.Peers, r.Elsewhere = nil, Referral{Server: strings.Repeat("a", 253) + ":65535", Key: Fingerprint{1}}
	again(t, r, EncodeReceipt, DecodeReceipt)
	if b, err := EncodeReceipt(r); err != nil || len(b) > MaxBody {
		t.Errorf("receipt of %d bytes, %v; want at most %d", len(b), err, MaxBody)
	}
	for _, bad := range []Referral{{Server: "a:1"}, {Key: Fingerprint{1}}, {Server: "a", Key: Fingerprint{1}}, {Server: "a b:1", Key: Fingerprint{1}}} {
		b, err := EncodeProblem(Problem{Reason: ReasonElsewhere, Elsewhere: bad})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := DecodeProblem(b); err == nil {
			t.Errorf("%+v is %+v; want an error", bad, p)
		}
		if r.Elsewhere = bad; bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
		if b, err = EncodeReceipt(r); err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeReceipt(b); err != nil || got.Elsewhere != (Referral{}) {
			t.Errorf("receipt with %+v: %+v, %v; want it without", bad, got.Elsewhere, err)
		}
	}
}

func FuzzBodies(f *testing.F) {
	reg, _ := EncodeRegistration(sample())
	enrol := sample()
	enrol.Token, enrol.Next, enrol.Peers = "abcdef-ghjkmn", Fingerprint{7}, []MAC{{2, 9}, {2, 8}}
	rich, _ := EncodeRegistration(enrol)
	enrol.Heard = []Heard{{Opinion: 441, Lost: 12, Delay: 80 * time.Millisecond, Jitter: 3 * time.Millisecond, Length: time.Minute}, {Opinion: 100}}
	heard, _ := EncodeRegistration(enrol)
	f.Add(heard)
	receipt, _ := EncodeReceipt(Receipt{Reflexive: netip.MustParseAddrPort("192.0.2.1:9"), Number: "101", Expiry: time.UnixMilli(1), Sequence: 3})
	row, _ := EncodeRow(Row{MAC: sample().MAC, Addrs: sample().Addrs, State: Online, Since: time.UnixMilli(5), Expiry: time.UnixMilli(7)})
	problem, _ := EncodeProblem(Problem{Reason: ReasonForeign, Detail: "no"})
	talking, _ := EncodeReceipt(longestReceipt())
	page, _ := EncodeRow(browserRow())
	for _, b := range [][]byte{reg, rich, receipt, talking, row, page, problem, {0xa0}, {0xff}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := DecodeRegistration(b); err == nil {
			again(t, v, EncodeRegistration, DecodeRegistration)
		}
		if v, err := DecodeReceipt(b); err == nil {
			again(t, v, EncodeReceipt, DecodeReceipt)
		}
		if v, err := DecodeRow(b); err == nil {
			again(t, v, EncodeRow, DecodeRow)
		}
		if v, err := DecodeProblem(b); err == nil {
			again(t, v, EncodeProblem, DecodeProblem)
		}
	})
}

func again[T any](t *testing.T, v T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	b, err := encode(v)
	if err != nil {
		t.Fatalf("encode %+v: %v", v, err)
	}
	w, err := decode(b)
	if err != nil || !reflect.DeepEqual(v, w) {
		t.Fatalf("%+v became %+v, %v", v, w, err)
	}
}

// A knock is asked for as it is read, in whole seconds; nothing else is one.
func TestKnock(t *testing.T) {
	for d, text := range map[time.Duration]string{time.Second: "after=1", 90*time.Second + 999*time.Millisecond: "after=90", MaxKnock: "after=540"} {
		if got := KnockQuery(d); got != text {
			t.Errorf("KnockQuery(%v) = %q; want %q", d, got, text)
		}
		if got, err := ParseKnock([]string{text}); err != nil || got != d.Truncate(time.Second) {
			t.Errorf("ParseKnock(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"after"}, {"after="}, {"after=0"}, {"after=541"}, {"after=-1"}, {"after=+9"}, {"after=1.5"}, {"after=99999999999999999999"}, {"before=3"}, {"after=3", "after=4"}} {
		if d, err := ParseKnock(bad); err == nil {
			t.Errorf("ParseKnock(%q) = %v; want an error", bad, d)
		}
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("rd-lookup", "mac", "02005e005301", "ep=urn:dev:mac:02005effff005301", "seq=9")
	f.Add("rd-lookup", "number", "101", "", "")
	f.Add("rd-lookup", "addr", "2001:db8::1", "", "")
	f.Fuzz(func(t *testing.T, a, b, c, q1, q2 string) {
		if d, err := ParseKnock([]string{a}); err == nil {
			if again, err := ParseKnock([]string{KnockQuery(d)}); err != nil || again != d || d > MaxKnock {
				t.Errorf("ParseKnock(%q) = %v, printed %q: %v, %v", a, d, KnockQuery(d), again, err)
			}
		}
		if q, err := ParseQuery([]string{a, b, c}); err == nil {
			if got, err := ParseQuery(q.Path()); err != nil || got != q {
				t.Errorf("%v became %v, %v", q, got, err)
			}
		}
		if w, err := ParseWithdrawal([]string{q1, q2}); err == nil {
			if got, err := ParseWithdrawal(w.Queries()); err != nil || got != w {
				t.Errorf("%v became %v, %v", w, got, err)
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 1})
	f.Add([]byte{0x48, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0x60, 0x52, 'r', 'd', 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		out, err := EncodeMessage(m)
		if err != nil {
			t.Fatalf("encode %v: %v", m, err)
		}
		n, err := DecodeMessage(out)
		if err != nil || n.Code != m.Code || n.Type != m.Type || n.MessageID != m.MessageID ||
			string(n.Token) != string(m.Token) || string(n.Payload) != string(m.Payload) || len(n.Options) != len(m.Options) {
			t.Fatalf("%v became %v, %v", m, n, err)
		}
	})
}

// BenchmarkRegistration is what an announcement costs to write and to read.
func BenchmarkRegistration(b *testing.B) {
	r := sample()
	body, err := EncodeRegistration(r)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := EncodeRegistration(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeRegistration(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A ticket is found among the queries of a lookup; what cannot be one is none.
func TestTicketQuery(t *testing.T) {
	ticket := Ticket("\x00\xff any bytes?")
	for _, tt := range []struct {
		queries []string
		want    Ticket
	}{
		{[]string{ticket.Query()}, ticket}, {[]string{"x=1", "by", ticket.Query()}, ticket}, {[]string{"by=!", ticket.Query()}, ticket},
		{nil, ""}, {[]string{"by="}, ""}, {[]string{"by=" + strings.Repeat("A", 300)}, ""},
	} {
		if got := ParseTicket(tt.queries); got != tt.want {
			t.Errorf("ParseTicket(%q) = %q; want %q", tt.queries, got, tt.want)
		}
	}
	p := Problem{Reason: ReasonElsewhere, Elsewhere: Referral{"a:1", Fingerprint{1}}, Ticket: Ticket(strings.Repeat("x", MaxTicket))}
	again(t, p, EncodeProblem, DecodeProblem)
	p.Ticket += "x"
	if b, err := EncodeProblem(p); err != nil {
		t.Fatal(err)
	} else if _, err := DecodeProblem(b); !errors.Is(err, ErrInvalid) {
		t.Errorf("a ticket that is too long: %v", err)
	}
}
