package wire_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// A MAC is a telephone number as well.
func ExampleParseMAC() {
	mac, err := wire.ParseMAC("02-00-5E-00-53-01")
	if err != nil {
		panic(err)
	}
	fmt.Println(mac)
	fmt.Println(mac.Digits(), "on a keypad")
	fmt.Println(mac.URN(), "in a certificate")
	// Output:
	// 02:00:5e:00:53:01
	// 002200600335105 on a keypad
	// urn:dev:mac:02005effff005301 in a certificate
}

// What a phone posts to /rd, and what a server makes of it.
func ExampleEncodeRegistration() {
	r := wire.Registration{
		MAC:   wire.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x01},
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
		Ports: wire.Ports{SIP: 5060, SIPS: 5061}, Sequence: 17, Lifetime: time.Hour,
	}
	body, err := wire.EncodeRegistration(r)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%x\n", body)
	back, err := wire.DecodeRegistration(body)
	if err != nil {
		panic(err)
	}
	fmt.Println(back.MAC, back.Addrs, back.Sequence, back.Lifetime)

	r.Addrs[0] = netip.MustParseAddr("127.0.0.1")
	_, err = wire.EncodeRegistration(r)
	fmt.Println("a loopback address is refused:", errors.Is(err, wire.ErrInvalid))
	// Output:
	// a6014602005e005301028144c0000207031913c4041913c5051106190e10
	// 02:00:5e:00:53:01 [192.0.2.7] 17 1h0m0s
	// a loopback address is refused: true
}

// Where a phone is asked for.
func ExampleQuery_Path() {
	for _, q := range []wire.Query{
		{MAC: wire.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, 0x01}},
		{Number: "101"},
		{Addr: netip.MustParseAddr("2001:db8::7")},
	} {
		fmt.Println("GET /" + strings.Join(q.Path(), "/"))
	}
	// Output:
	// GET /rd-lookup/mac/02005e005301
	// GET /rd-lookup/number/101
	// GET /rd-lookup/addr/2001:db8::7
}
