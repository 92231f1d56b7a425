package trace

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"flexphone/audio"
	"flexphone/registry-client/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

// What a message says does not depend on what is secret in it.
func TestNothingSecretOfDHCPIsWritten(t *testing.T) {
	for _, secret := range secretOptions4 {
		text := func(value string) string {
			m, err := dhcpv4.New(dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0x5e, 0, 0x53, 1}), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1}),
				dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithOption(dhcpv4.OptGeneric(secret, []byte(value))))
			if err != nil {
				t.Fatal(err)
			}
			return dhcpText(m.ToBytes())
		}
		if a, b := text(knownKey), text(strings.ToLower(knownKey)); a != b || !strings.Contains(a, "ACK") {
			t.Errorf("option %v: %s\nand %s", secret, a, b)
		}
	}
	for _, secret := range secretOptions6 {
		text := func(value string) string {
			m := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
			m.AddOption(dhcpv6.OptElapsedTime(time.Second))
			m.AddOption(&dhcpv6.OptionGeneric{OptionCode: secret, OptionData: append([]byte{0, 0, 0, 9, 0, 1, 0, 40}, value...)}) // as a vendor's are
			return dhcpText(m.ToBytes())
		}
		if a, b := text(knownKey), text(strings.ToLower(knownKey)); a != b || !strings.Contains(a, "REPLY") {
			t.Errorf("option %v: %s\nand %s", secret, a, b)
		}
	}
	if got := dhcpText([]byte(knownKey)); got != "no message, 40 bytes" {
		t.Errorf("what is no message: %s", got)
	}
}

func TestBodiesThatAreNoDescriptionsAreLengths(t *testing.T) {
	for _, body := range []string{"Signal=5\r\nDuration=160\r\n", "v=0\r\nSignal=5\r\n", "--x\r\nv=0\r\n"} {
		if got := sipText([]byte("INFO sip:x SIP/2.0\r\nCSeq: 1 INFO\r\n\r\n" + body)); strings.Contains(got, "5") || !strings.Contains(got, "bytes)") {
			t.Errorf("%q is told as %q", body, got)
		}
	}
}

// Whatever stands around a secret, the text does not depend on it.
func FuzzSIP(f *testing.F) {
	whole := secretInvite("alice", "UDP", "192.0.2.1:5060")
	for _, cut := range []int{0, 120, 300, 600, len(whole)} {
		f.Add(whole[:cut], whole[cut:])
	}
	f.Add("X: 1\rY: 2\r", "\r\n v=0\r\nk=1")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, secret := range []string{"\r\nAuthorization: Digest response=\"%\"\r\n", "\nproxy-authorization\t:\r\n %\n", "\r\na=crypto:1 X inline:%\r\n", "\r\nk=clear:%\r\n"} {
			if strings.HasPrefix(secret, "\r\na=") || strings.HasPrefix(secret, "\r\nk=") {
				before = strings.ReplaceAll(before, "\n", "") + "\r\n\r\nv=0" // the head holds no key
			}
			text := func(s string) string {
				return sipText([]byte("INVITE sip:x SIP/2.0\r\n" + before + strings.Replace(secret, "%", s, 1) + after))
			}
			if a, b := text("AAAAAAAAAAAA"), text("BBBBBBBBBBBB"); a != b {
				t.Errorf("%q\nand\n%q", a, b)
			}
		}
	})
}

// The same of an announcement with a token; and whatever comes, something is told
// of it.
func FuzzBodies(f *testing.F) {
	f.Add(knownToken, []byte{0xa2, 0x05, 0x12, 0x0e, 0x64, 'w', 'o', 'r', 'd'})
	f.Add("x", []byte{0xa1, 0x20, 0xa1, 0x0e, 0x01})
	f.Fuzz(func(t *testing.T, token string, body []byte) {
		without, err := wire.EncodeRegistration(registrationWith("another"))
		if err != nil {
			t.Fatal(err)
		}
		if with, err := wire.EncodeRegistration(registrationWith(token)); err == nil && token != "" && cborText(with) != cborText(without) {
			t.Errorf("a token of %q is told as %s", token, cborText(with))
		}
		if cborText(body) == "" || dhcpText(body) == "" || rtpText(audio.RTP, body) == "" || rtpText(audio.RTCP, body) == "" {
			t.Errorf("nothing is told of %x", body)
		}
	})
}
