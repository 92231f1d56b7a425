package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// browserPrefix begins the MACs by which browsers stand in links. They are locally
// administered, and no phone can announce one.
var browserPrefix = [3]byte{0x06, 0x62, 0x72}

// BrowserMAC is the MAC by which a storing server lets a browser stand in a link.
func BrowserMAC(n [3]byte) MAC {
	p := browserPrefix
	return MAC{p[0], p[1], p[2], n[0], n[1], n[2]}
}

// IsBrowser reports whether m stands for a browser.
func IsBrowser(m MAC) bool { return [3]byte(m[:3]) == browserPrefix }

// Bounds of what a browser and a phone say to each other before they speak directly.
const (
	MaxBrowserName  = 40   // characters of the name of who calls
	MaxDescription  = 7000 // bytes of a session description (RFC 8866)
	maxBrowserFrame = MaxDescription + 500
	maxRefusal      = 64
)

// A Nonce is drawn by a page for one call, so that no answer to another can be told it.
type Nonce [32]byte

// A BrowserOffer is what comes first in a link of a browser, whoever has opened it, and
// all that the browser says there.
type BrowserOffer struct {
	Refusal     string // why a browser that is called takes no call; empty: it does
	Name        string // of who calls or is called, as the operator has given it
	Description string // of the browser, an offer (RFC 9429)
	Nonce       Nonce
	// Of is the nonce of the offer that began a call, where the page has lost its way to the
	// phone, and finds another one (RFC 8839, section 4.4.1.1.1); such an offer has no name,
	// so that a phone of before, which knows none, refuses it. Zero: a new call.
	Of Nonce
}

// A BrowserAnswer is the phone's, and all that it says in the link, whoever calls.
type BrowserAnswer struct {
	Refusal     string // why it takes no call; empty: it does
	Description string // of the phone, the answer
	Key         []byte // of the phone: its SubjectPublicKeyInfo, whose SHA-256 stands in the row
	Signature   []byte // by that key, of SignedAnswer
}

// SignedAnswer is what a phone signs of a browser's call: so whoever passes the two
// descriptions on can put no other fingerprint into either.
func SignedAnswer(n Nonce, offer, answer string) []byte {
	return signed("flexphone browser call 1\x00", n, offer, answer)
}

// SignedCall is the same of a call that the phone makes: who is called can be told of no
// answer to a call of a browser that it is one.
func SignedCall(n Nonce, offer, answer string) []byte {
	return signed("flexphone call to a browser 1\x00", n, offer, answer)
}

// SignedAgain is the same of an answer to an offer in a call that goes on.
func SignedAgain(n Nonce, offer, answer string) []byte {
	return signed("flexphone browser call again 1\x00", n, offer, answer)
}

func signed(what string, n Nonce, offer, answer string) []byte {
	a, b := sha256.Sum256([]byte(offer)), sha256.Sum256([]byte(answer))
	out := append([]byte(what), n[:]...)
	return append(append(out, a[:]...), b[:]...)
}

type browserBody struct {
	Name        string `cbor:"31,keyasint,omitempty"`
	Description string `cbor:"32,keyasint,omitempty"`
	Nonce       []byte `cbor:"33,keyasint,omitempty"`
	Key         []byte `cbor:"34,keyasint,omitempty"`
	Signature   []byte `cbor:"35,keyasint,omitempty"`
	Refusal     string `cbor:"36,keyasint,omitempty"`
	Of          []byte `cbor:"42,keyasint,omitempty"`
}

// Validate reports why o cannot be meant.
func (o BrowserOffer) Validate() error {
	if o.Refusal != "" {
		if len(o.Refusal) > maxRefusal || !utf8.ValidString(o.Refusal) || o != (BrowserOffer{Refusal: o.Refusal}) {
			return fmt.Errorf("wire: browser's offer: refusal of %d bytes: %w", len(o.Refusal), ErrInvalid)
		}
		return nil
	}
	if goesOn := o.Of != (Nonce{}); goesOn && o.Name != "" {
		return fmt.Errorf("wire: browser's offer: name %q in a call that goes on: %w", clip(o.Name), ErrInvalid)
	} else if !goesOn && !validName(o.Name) {
		return fmt.Errorf("wire: browser's offer: name %q, want 1 to %d printable characters: %w", clip(o.Name), MaxBrowserName, ErrInvalid)
	}
	return validDescription(o.Description)
}

// ValidBrowserName reports whether a browser may have that name.
func ValidBrowserName(name string) bool { return validName(name) }

func validName(name string) bool {
	n := utf8.RuneCountInString(name)
	if n == 0 || n > MaxBrowserName || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func validDescription(d string) error {
	if d == "" || len(d) > MaxDescription || !utf8.ValidString(d) {
		return fmt.Errorf("wire: browser: description of %d bytes, want 1 to %d of text: %w", len(d), MaxDescription, ErrInvalid)
	}
	return nil
}

// Validate reports why a cannot be meant.
func (a BrowserAnswer) Validate() error {
	if a.Refusal != "" {
		if len(a.Refusal) > maxRefusal || !utf8.ValidString(a.Refusal) || a.Description != "" || len(a.Key) > 0 || len(a.Signature) > 0 {
			return fmt.Errorf("wire: phone's answer: refusal of %d bytes: %w", len(a.Refusal), ErrInvalid)
		}
		return nil
	}
	if len(a.Key) == 0 || len(a.Key) > 128 || len(a.Signature) == 0 || len(a.Signature) > 128 {
		return fmt.Errorf("wire: phone's answer: key of %d bytes and signature of %d: %w", len(a.Key), len(a.Signature), ErrInvalid)
	}
	return validDescription(a.Description)
}

// WriteBrowserOffer writes o, which it refuses as Validate does.
func WriteBrowserOffer(w io.Writer, o BrowserOffer) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Refusal != "" {
		return writeFrame(w, browserBody{Refusal: o.Refusal})
	}
	body := browserBody{Name: o.Name, Description: o.Description, Nonce: o.Nonce[:]}
	if o.Of != (Nonce{}) {
		body.Of = o.Of[:]
	}
	return writeFrame(w, body)
}

// ReadBrowserOffer reads what WriteBrowserOffer writes.
func ReadBrowserOffer(r io.Reader) (BrowserOffer, error) {
	b, err := readFrame(r)
	if err != nil {
		return BrowserOffer{}, err
	}
	o := BrowserOffer{Refusal: b.Refusal, Name: b.Name, Description: b.Description}
	if o.Refusal != "" && len(b.Nonce) == 0 {
		return o, o.Validate()
	}
	if len(b.Nonce) != len(o.Nonce) {
		return BrowserOffer{}, fmt.Errorf("wire: browser's offer: nonce of %d bytes: %w", len(b.Nonce), ErrInvalid)
	}
	if len(b.Of) != 0 && len(b.Of) != len(o.Of) {
		return BrowserOffer{}, fmt.Errorf("wire: browser's offer: nonce of a call of %d bytes: %w", len(b.Of), ErrInvalid)
	}
	copy(o.Nonce[:], b.Nonce)
	copy(o.Of[:], b.Of)
	return o, o.Validate()
}

// WriteBrowserAnswer writes a, which it refuses as Validate does.
func WriteBrowserAnswer(w io.Writer, a BrowserAnswer) error {
	if err := a.Validate(); err != nil {
		return err
	}
	return writeFrame(w, browserBody{Refusal: a.Refusal, Description: a.Description, Key: a.Key, Signature: a.Signature})
}

// ReadBrowserAnswer reads what WriteBrowserAnswer writes.
func ReadBrowserAnswer(r io.Reader) (BrowserAnswer, error) {
	b, err := readFrame(r)
	if err != nil {
		return BrowserAnswer{}, err
	}
	a := BrowserAnswer{Refusal: b.Refusal, Description: b.Description, Key: b.Key, Signature: b.Signature}
	return a, a.Validate()
}

// A frame is its length in 2 bytes, and a map in CBOR.
func writeFrame(w io.Writer, body browserBody) error {
	b, err := encode("browser", body)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		return fmt.Errorf("wire: send: %w", err)
	}
	return nil
}

func readFrame(r io.Reader) (body browserBody, err error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return body, fmt.Errorf("wire: receive: %w", err)
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxBrowserFrame {
		return body, fmt.Errorf("wire: browser: %d bytes, want at most %d: %w", n, maxBrowserFrame, ErrInvalid)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return body, fmt.Errorf("wire: receive: %w", err)
	}
	if err := modes().dec.Unmarshal(b, &body); err != nil {
		return body, fmt.Errorf("wire: decode browser: %w: %w", ErrInvalid, err)
	}
	return body, nil
}
