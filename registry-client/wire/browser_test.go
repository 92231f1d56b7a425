package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func browserOffer() BrowserOffer {
	return BrowserOffer{Name: "Ada", Description: "v=0\r\n" + strings.Repeat("a", MaxDescription-5), Nonce: Nonce{1, 2}}
}

func browserAnswer() BrowserAnswer {
	return BrowserAnswer{Description: strings.Repeat("b", MaxDescription), Key: make([]byte, 44), Signature: make([]byte, 64)}
}

func TestBrowserFrames(t *testing.T) {
	var b bytes.Buffer
	if err := WriteBrowserOffer(&b, browserOffer()); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadBrowserOffer(&b); err != nil || got != browserOffer() || b.Len() != 0 {
		t.Errorf("an offer comes as %v, %v", got.Name, err)
	}
	refusal := BrowserOffer{Refusal: "busy"}
	if err := WriteBrowserOffer(&b, refusal); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadBrowserOffer(&b); err != nil || got != refusal || b.Len() != 0 {
		t.Errorf("a refusal comes as %q, %v", got.Refusal, err)
	}
	for _, a := range []BrowserAnswer{browserAnswer(), {Refusal: "busy"}} {
		if err := WriteBrowserAnswer(&b, a); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadBrowserAnswer(&b); err != nil || !reflect.DeepEqual(got, a) || b.Len() != 0 {
			t.Errorf("an answer comes as %q, %v", got.Refusal, err)
		}
	}
	for name, change := range map[string]func(*BrowserOffer){
		"no name":         func(o *BrowserOffer) { o.Name = "" },
		"a long name":     func(o *BrowserOffer) { o.Name = strings.Repeat("ä", MaxBrowserName+1) },
		"a name of lines": func(o *BrowserOffer) { o.Name = "Ada\n102" },
		"no description":  func(o *BrowserOffer) { o.Description = "" },
		"a long one":      func(o *BrowserOffer) { o.Description += "a" },
		"both":            func(o *BrowserOffer) { o.Refusal = "busy" },
		"a long refusal":  func(o *BrowserOffer) { *o = BrowserOffer{Refusal: strings.Repeat("a", maxRefusal+1)} },
	} {
		o := browserOffer()
		change(&o)
		if err := WriteBrowserOffer(&b, o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; want ErrInvalid", name, err)
		}
	}
	if IsBrowser(MAC{2, 0, 0x5e}) || !IsBrowser(BrowserMAC([3]byte{1, 2, 3})) || !BrowserMAC([3]byte{}).Valid() {
		t.Error("the MACs of browsers are not told from those of phones")
	}
	if bytes.Equal(SignedAnswer(Nonce{}, "a", "b"), SignedAnswer(Nonce{}, "b", "a")) {
		t.Error("who offers and who answers is not signed")
	}
	if bytes.Equal(SignedAnswer(Nonce{}, "a", "b"), SignedCall(Nonce{}, "a", "b")) {
		t.Error("who calls is not signed")
	}
	if bytes.Equal(SignedAnswer(Nonce{}, "a", "b"), SignedAgain(Nonce{}, "a", "b")) {
		t.Error("whether a call is a new one is not signed")
	}
}

// browserRow is of a browser whose page is open.
func browserRow() Row {
	at := time.UnixMilli(1e12)
	return Row{MAC: BrowserMAC([3]byte{1, 2, 3}), Number: "104", Name: "Ada", State: Online, Sequence: 3, Expiry: at, Since: at}
}

// The row of a browser says whether it is open, and a phone that does not know of browsers
// takes it for one that is not connected.
func TestBrowserRow(t *testing.T) {
	open := browserRow()
	closed := open
	closed.State = Offline
	for _, row := range []Row{open, closed} {
		b, err := EncodeRow(row)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeRow(b); err != nil || !reflect.DeepEqual(got, row) {
			t.Errorf("%+v, %v; want %+v", got, err, row)
		}
		var before struct { // what such a phone knows
			Addrs  [][]byte `cbor:"2,keyasint"`
			Online bool     `cbor:"10,keyasint"`
		}
		if err := decode("row", b, &before); err != nil {
			t.Fatal(err)
		}
		if addrs, err := parseAddrs(before.Addrs); err != nil || validAddrs(addrs) != nil || before.Online {
			t.Errorf("a phone of before reads %v, %v, online %v; want an address, offline", addrs, err, before.Online)
		}
	}
	odd := open
	odd.Name = "Ada\n"
	if b, err := EncodeRow(odd); err != nil {
		t.Fatal(err)
	} else if _, err := DecodeRow(b); !errors.Is(err, ErrInvalid) {
		t.Errorf("a name of lines: %v; want ErrInvalid", err)
	}
}

// FuzzBrowser: what is read is written the same again.
func FuzzBrowser(f *testing.F) {
	var b bytes.Buffer
	_ = WriteBrowserOffer(&b, BrowserOffer{Name: "Ada", Description: "v=0"})
	f.Add(bytes.Clone(b.Bytes()))
	b.Reset()
	_ = WriteBrowserOffer(&b, BrowserOffer{Description: "v=0", Of: Nonce{1}})
	f.Add(bytes.Clone(b.Bytes()))
	b.Reset()
	_ = WriteBrowserOffer(&b, BrowserOffer{Refusal: "busy"})
	f.Add(bytes.Clone(b.Bytes()))
	b.Reset()
	_ = WriteBrowserAnswer(&b, BrowserAnswer{Description: "v=0", Key: []byte{1}, Signature: []byte{2}})
	f.Add(bytes.Clone(b.Bytes()))
	f.Fuzz(func(t *testing.T, in []byte) {
		if o, err := ReadBrowserOffer(bytes.NewReader(in)); err == nil {
			var b bytes.Buffer
			if err := WriteBrowserOffer(&b, o); err != nil {
				t.Fatal(err)
			}
			if again, err := ReadBrowserOffer(&b); err != nil || again != o {
				t.Fatalf("%v is read as %v, %v", o, again, err)
			}
		}
		if a, err := ReadBrowserAnswer(bytes.NewReader(in)); err == nil {
			var b bytes.Buffer
			if err := WriteBrowserAnswer(&b, a); err != nil {
				t.Fatal(err)
			}
		}
	})
}
