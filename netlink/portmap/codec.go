package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	maxMessage = 1100 // bytes of PCP (RFC 6887, section 7)
	mapSize    = 60   // of a request and a response for a port, without options
	pcpVersion = 2
	opMap      = 1
	tcp        = 6
	answered   = 0x80 // the bit of a response

	pmpVersion = 0
	pmpAddress = 0
	pmpTCP     = 2
)

// Errors of messages.
var (
	// ErrMessage: it is none, or not the one that was waited for.
	ErrMessage = errors.New("no such message")
	// ErrVersion: the router speaks NAT-PMP, and no PCP (RFC 6887, appendix A).
	ErrVersion = errors.New("the router speaks another version")
)

// A RefusedError is a result code of PCP (RFC 6887, 7.4) or NAT-PMP (RFC 6886, 3.5).
type RefusedError struct{ Code uint16 }

// Error implements error.
func (e *RefusedError) Error() string { return fmt.Sprintf("the router refuses with code %d", e.Code) }

// A Mapping is what is asked for, or granted.
type Mapping struct {
	Nonce    [12]byte // PCP
	Internal uint16
	External netip.AddrPort // NAT-PMP says the port alone
	Lifetime time.Duration  // in whole seconds, up to 2^32-1
}

// AppendPCP appends a request for m of the host own (RFC 6887, 7.1 and 11.1).
func AppendPCP(b []byte, m Mapping, own netip.Addr) []byte {
	b = append(b, pcpVersion, opMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, seconds(m.Lifetime))
	b = append16(b, own)
	return appendMap(b, m)
}

func appendMap(b []byte, m Mapping) []byte {
	b = append(b, m.Nonce[:]...)
	b = append(b, tcp, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.Internal)
	b = binary.BigEndian.AppendUint16(b, m.External.Port())
	return append16(b, m.External.Addr())
}

// append16 appends an address, IPv4 as IPv6 has it (RFC 6887, section 5).
func append16(b []byte, a netip.Addr) []byte {
	all := a.As16()
	return append(b, all[:]...)
}

// ParsePCP reads the response to a request for a port of TCP. The error is ErrMessage,
// ErrVersion or a *RefusedError. What stands behind it, options, is not looked at.
func ParsePCP(b []byte) (Mapping, error) {
	switch {
	case len(b) >= 4 && b[0] == pmpVersion && b[1]&answered != 0:
		return Mapping{}, ErrVersion
	case len(b) < 24 || len(b) > maxMessage || b[0] != pcpVersion || b[1] != answered|opMap:
		return Mapping{}, ErrMessage
	case b[3] == 1: // UNSUPP_VERSION
		return Mapping{}, ErrVersion
	case b[3] != 0:
		return Mapping{}, &RefusedError{uint16(b[3])}
	case len(b) < mapSize || b[36] != tcp:
		return Mapping{}, ErrMessage
	}
	m := Mapping{
		Nonce: [12]byte(b[24:36]), Internal: binary.BigEndian.Uint16(b[40:]),
		External: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[44:60])).Unmap(), binary.BigEndian.Uint16(b[42:])),
		Lifetime: time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second,
	}
	return m, nil
}

// AppendPMPAddress appends the question of NAT-PMP for the router's outer address (RFC
// 6886, 3.2).
func AppendPMPAddress(b []byte) []byte { return append(b, pmpVersion, pmpAddress) }

// ParsePMPAddress reads its answer. The error is ErrMessage or a *RefusedError.
func ParsePMPAddress(b []byte) (netip.Addr, error) {
	if err := pmp(b, pmpAddress, 12); err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom4([4]byte(b[8:12])), nil
}

// AppendPMP appends a request of NAT-PMP for m (RFC 6886, 3.3).
func AppendPMP(b []byte, m Mapping) []byte {
	b = append(b, pmpVersion, pmpTCP, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.Internal)
	b = binary.BigEndian.AppendUint16(b, m.External.Port())
	return binary.BigEndian.AppendUint32(b, seconds(m.Lifetime))
}

// ParsePMP reads its answer. The error is ErrMessage or a *RefusedError.
func ParsePMP(b []byte) (Mapping, error) {
	if err := pmp(b, pmpTCP, 16); err != nil {
		return Mapping{}, err
	}
	return Mapping{
		Internal: binary.BigEndian.Uint16(b[8:]),
		External: netip.AddrPortFrom(netip.Addr{}, binary.BigEndian.Uint16(b[10:])),
		Lifetime: time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second,
	}, nil
}

// pmp looks whether b is an answer of NAT-PMP to that operation, of so many bytes.
func pmp(b []byte, op byte, size int) error {
	if len(b) < 4 || len(b) > maxMessage || b[0] != pmpVersion || b[1] != answered|op {
		return ErrMessage
	}
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		return &RefusedError{code}
	}
	if len(b) < size {
		return ErrMessage
	}
	return nil
}

// seconds is d as messages have it.
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<32-1))
}
