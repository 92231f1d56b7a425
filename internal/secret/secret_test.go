package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"text/template"
)

// holder is a struct that somebody logs as a whole.
type holder struct {
	Key    Bytes
	hidden Bytes
	Ptr    *Bytes
	Some   []Bytes
	By     map[string]Bytes
	Any    any
}

// A known key is looked for in whatever the usual ways of writing make of it.
func TestNothingShowsASecret(t *testing.T) {
	known := []byte("0123456789abcdefSALTSALTSALT")
	s := Of(known)
	all := holder{s, s, &s, []Bytes{s}, map[string]Bytes{"k": s}, s}
	var out bytes.Buffer
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "o", "b", "c", "t", "p", "T", "U"} {
		fmt.Fprintf(&out, "%"+verb+" %"+verb+"\n", s, all)
	}
	fmt.Fprintln(&out, s, &s, all, &all, fmt.Errorf("about %v: %w", s, io.EOF), errors.Join(fmt.Errorf("%x", s)))
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("made", "key", s, "ptr", &s, "all", all, slog.Group("g", "key", s), "list", []any{s})
	}
	if err := json.NewEncoder(&out).Encode(all); err != nil {
		t.Fatal(err)
	}
	if err := xml.NewEncoder(&out).EncodeElement(s, xml.StartElement{Name: xml.Name{Local: "k"}}); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(&out).Encode(s); err != nil {
		t.Fatal(err)
	}
	if err := template.Must(template.New("").Parse("{{.}} {{.Key}}")).Execute(&out, all); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { fmt.Fprintf(&out, "%v", recover()) }()
		panic(s)
	}()
	text := strings.ToLower(out.String())
	for name, form := range map[string]string{
		"text": string(known), "hex": hex.EncodeToString(known), "base64": base64.StdEncoding.EncodeToString(known),
		"numbers": strings.Trim(fmt.Sprint(known), "[]"), "hex with 0x": strings.Trim(fmt.Sprintf("%#v", known), "[]byte{}"),
	} {
		if strings.Contains(text, strings.ToLower(form)) || strings.Contains(text, strings.ToLower(form[:12])) {
			t.Errorf("the key is written as %s", name)
		}
	}
	if !strings.Contains(text, "***") {
		t.Error("nothing is written in its place")
	}
	if !bytes.Equal(s.Reveal(), known) {
		t.Error("who asks for it does not get it")
	}
}

func TestEqual(t *testing.T) {
	a, b := Of([]byte{1, 2}), Of([]byte{1, 2})
	if !a.Equal(b) || !reflect.DeepEqual(a, b) || a.Equal(Of([]byte{1, 3})) || a.Equal(Bytes{}) || !(Bytes{}).Equal(Of(nil)) {
		t.Error("secrets are compared wrongly")
	}
	from := []byte{1, 2}
	c := Of(from)
	from[0] = 9
	if !c.Equal(a) || c.Len() != 2 {
		t.Error("a secret changes with what it was made of")
	}
}
