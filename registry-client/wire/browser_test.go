package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
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
}

// FuzzBrowser: what is read is written the same again.
func FuzzBrowser(f *testing.F) {
	var b bytes.Buffer
	_ = WriteBrowserOffer(&b, BrowserOffer{Name: "Ada", Description: "v=0"})
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
