package events

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/events.md anew")

const page = "../../../docs/events.md"

const head = `# Events

` + "`flexphone ctl events`" + ` prints what happens in a phone as it happens, a JSON object a line, until it is
interrupted. Each begins with ` + "`time`" + ` (RFC 3339, with nanoseconds) and ` + "`event`" + `, the name; then come the fields
below, in their order. A duration is text such as ` + "`1.5s`" + `. Fields may be added, but none is taken away or renamed.

This page is made of firmware/internal/events/events.go.
`

// The page says what the code does.
func TestPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	name := ""
	for _, e := range All {
		if e.Name() != name {
			name = e.Name()
			fmt.Fprintf(&b, "\n## %s\n", name)
		}
		fmt.Fprintf(&b, "\n%s\n", e.means())
		if rows := describe(reflect.TypeOf(e)); len(rows) > 0 {
			fmt.Fprintf(&b, "\n| field | what it is |\n|---|---|\n%s", strings.Join(rows, ""))
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(page); err != nil || string(text) != b.String() {
		t.Errorf("docs/events.md is not what the code says, %v: run go test ./firmware/internal/events -update", err)
	}
}

// describe returns the rows of a table, and fails where a field has no words.
func describe(of reflect.Type) (rows []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			rows = append(rows, describe(f.Type)...)
			continue
		}
		var names []string
		for n := range strings.SplitSeq(f.Tag.Get("name"), ", ") {
			names = append(names, "`"+n+"`")
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |\n", strings.Join(names, ", "), f.Tag.Get("means")))
	}
	return rows
}

// Every type with a name is in All, no event is without words, and those of one
// name stand together.
func TestAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var named, all, seen []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "Name" {
			named = append(named, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	for _, e := range All {
		of := reflect.TypeOf(e)
		all = append(all, of.Name())
		if at := slices.Index(seen, e.Name()); at >= 0 && at != len(seen)-1 {
			t.Errorf("%s does not stand beside the others of its name", of.Name())
		} else if at < 0 {
			seen = append(seen, e.Name())
		}
		if e.Name() == "" || e.means() == "" || strings.Contains(strings.Join(describe(of), ""), "``") || strings.Contains(strings.Join(describe(of), ""), "|  |") {
			t.Errorf("%s: an event or a field of it without name or meaning", of.Name())
		}
	}
	slices.Sort(named)
	slices.Sort(all)
	if !slices.Equal(named, all) {
		t.Errorf("All has %v; the file has %v", all, named)
	}
}

func TestFields(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		of   Event
		want string
	}{
		{LeaseBound{Lease{"192.0.2.7", "192.0.2.7/24", "192.0.2.1", "", at}},
			"[address=192.0.2.7 prefix=192.0.2.7/24 router=192.0.2.1 server= expiry=2026-01-02 03:04:05 +0000 UTC]"},
		{RegisterFailed{"no answer", 1500 * time.Millisecond}, "[error=no answer retry=1.5s]"},
		{Released{}, "[]"},
		{Lost{5}, "[events=5]"},
	} {
		if got := fmt.Sprint(Fields(c.of)); got != c.want {
			t.Errorf("%s: %s; want %s", c.of.Name(), got, c.want)
		}
	}
}
