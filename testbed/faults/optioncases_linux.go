package faults

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Where an overloaded message's options may be.
const (
	snameAt = 44
	fileAt  = 108
)

func optionCases() []Case {
	return []Case{
		{"option past the end", "ends with an option that is longer than the message", "discard it: malformed",
			badOffer(func(d *dhcpv4.DHCPv4) []byte {
				return rawOptions(d, append(head(d), 12, 200, 'a', 'b')...)
			})},
		{"option without a length", "ends in the midst of an option", "discard it: malformed",
			badOffer(func(d *dhcpv4.DHCPv4) []byte { return rawOptions(d, append(head(d), 12)...) })},
		{"no End", "omits option 255", beLiberal,
			odd(24, func(d *dhcpv4.DHCPv4) []byte { return rawOptions(d, head(d)...) })},
		{"noise after End", "sends bytes of no meaning after option 255", beLiberal,
			odd(24, patch(func(b []byte) []byte {
				end := bytes.LastIndexByte(b, 255)
				return append(b[:end+1], 1, 4, 255, 0, 0, 0, 51, 200, 9, 54)
			}))},
		{"padding between", "puts option 0 before every option", beLiberal,
			odd(24, func(d *dhcpv4.DHCPv4) []byte {
				var opts []byte
				for o := head(d); len(o) > 0; o = o[2+int(o[1]):] {
					opts = append(append(opts, 0, 0, 0), o[:2+int(o[1])]...)
				}
				return rawOptions(d, append(opts, 255)...)
			})},
		{"every option at once", "sends all codes that it can, one byte each", beLiberal,
			odd(24, func(d *dhcpv4.DHCPv4) []byte {
				opts := head(d)
				for code := 60; code < 250; code++ {
					if code != 61 && code != 80 && code != 108 && code != 116 && code != 121 {
						opts = append(opts, byte(code), 1, 1)
					}
				}
				return rawOptions(d, append(opts, 255)...)
			})},
		{"options in file and sname", "moves mask, router and lease time by option 52", "read them (RFC 2131 §4.1, RFC 2132 §9.3)",
			overloaded(3, nil)},
		{"overload nested", "says option 52 again in the file field", "read each field once",
			overloaded(3, []byte{52, 1, 3})},
		{"overload without meaning", "sends option 52 with 9", "discard it, or read the message without",
			either(setOption(dhcpv4.OptionOptionOverload, 9))},
		{"noise in sname and file", "fills both fields, without option 52", "take the lease: they are names",
			odd(24, patch(func(b []byte) []byte {
				for i := snameAt; i < 236; i++ {
					b[i] = byte(i*7 + 1)
				}
				return b
			}))},
		{"option split in two", "sends the router in two halves", "join them (RFC 3396 §5)",
			oddVia(func(d *dhcpv4.DHCPv4) []byte {
				delete(d.Options, dhcpv4.OptionRouter.Code())
				r := router.As4()
				return rawOptions(d, append(head(d), 3, 2, r[0], r[1], 3, 2, r[2], r[3], 255)...)
			}, router)},
		{"classless routes", "sends option 121 with a default route, and another router", "ignore the router option (RFC 3442)",
			oddVia(edit(func(d *dhcpv4.DHCPv4) {
				set(d, dhcpv4.OptionClasslessStaticRoute, append([]byte{0}, router.AsSlice()...))
				set(d, dhcpv4.OptionRouter, []byte{192, 0, 2, 200})
			}), router)},
		{"classless routes cut", "sends option 121 without its last byte", "ignore it; the router option is good (RFC 3442)",
			oddVia(setOption(dhcpv4.OptionClasslessStaticRoute, 24, 198, 51, 100, 192, 0, 2), router)},
		{"classless route /33", "sends option 121 with a width of 33", "ignore it; the router option is good (RFC 3442)",
			oddVia(setOption(dhcpv4.OptionClasslessStaticRoute, 33, 198, 51, 100, 0, 1, 192, 0, 2, 1), router)},
		{"MTU 0", "sends option 26 with 0", "take the address, not the MTU (RFC 2132 §5.1)",
			oddMTU(setOption(dhcpv4.OptionInterfaceMTU, 0, 0))},
		{"MTU 68", "sends option 26 with 68", "do not let a stranger make IP useless (RFC 791: 576)",
			oddMTU(setOption(dhcpv4.OptionInterfaceMTU, 0, 68))},
		{"names that a shell would run", "puts commands into names and domains", "take the address, and run nothing",
			odd(24, edit(func(d *dhcpv4.DHCPv4) {
				evil := []byte("x`reboot`;$(reboot)\nnameserver 198.51.100.66\n")
				for _, code := range []dhcpv4.OptionCode{
					dhcpv4.OptionDomainName, dhcpv4.OptionHostName, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName,
				} {
					set(d, code, evil)
				}
			}))},
		{"long reply", "sends 1,400 bytes", "take it: 1,500 were offered by option 57, or as many fit the link",
			odd(24, func(d *dhcpv4.DHCPv4) []byte { return stuffed(d, 1400) })},
	}
}

// head is what a decent reply says, without an End.
func head(d *dhcpv4.DHCPv4) []byte { return d.Options.ToBytes() }

// stuffed fills a reply up to size with vendor information.
func stuffed(d *dhcpv4.DHCPv4, size int) []byte {
	opts := head(d)
	for room := size - optsAt - len(opts) - 1; room > 2; room = size - optsAt - len(opts) - 1 {
		n := min(room-2, 200)
		opts = append(append(opts, 43, byte(n)), bytes.Repeat([]byte{0}, n)...)
	}
	return rawOptions(d, append(opts, 255)...)
}

// overloaded moves options out of their field; extra goes in front of those in
// the file field. Mask, router and lease time are nowhere else.
func overloaded(fields byte, extra []byte) func(*play) error {
	return oddVia(func(d *dhcpv4.DHCPv4) []byte {
		for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionIPAddressLeaseTime} {
			delete(d.Options, code.Code())
		}
		b := rawOptions(d, append(head(d), 52, 1, fields, 255)...)
		r := router.As4()
		copy(b[snameAt:fileAt], append([]byte{1, 4, 255, 255, 255, 0, 3, 4}, r[0], r[1], r[2], r[3], 255))
		copy(b[fileAt:], append(append([]byte{}, extra...), 51, 4, 0, 0, 14, 16, 255))
		return b
	}, router)
}

// oddVia is odd, and there must be a default route by via.
func oddVia(f change, via netip.Addr) func(*play) error {
	return func(p *play) error {
		if err := odd(24, f)(p); err != nil {
			return err
		}
		return p.routedBy(via)
	}
}

// oddMTU is odd, and IP must still be of use.
func oddMTU(f change) func(*play) error {
	return func(p *play) error {
		if err := odd(24, f)(p); err != nil {
			return err
		}
		mtu, err := p.cable.MTU()
		if err != nil {
			return Broken{err}
		}
		if mtu < 576 {
			return fmt.Errorf("sets the MTU to %d", mtu)
		}
		return nil
	}
}

// either has offers of the marked address changed in a way that can be read
// or refused, and good ones after them: one of both must be held.
func either(f change) func(*play) error {
	return func(p *play) error {
		if err := p.misled(f); err != nil {
			return err
		}
		errGood := p.bound(prefix(good, 24))
		if errGood == nil {
			return nil
		}
		p.patience = 0
		if p.bound(prefix(marked, 24)) == nil {
			return nil
		}
		return errGood
	}
}
