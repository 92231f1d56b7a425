package store

import (
	"strings"
	"testing"
)

// What servers share of links is kept by no stream; what one of before has kept of them does
// not keep a server from following rows.
func TestSharedLinksAreNotKept(t *testing.T) {
	if s := linksSubject("rows"); strings.HasPrefix(s, subjectRoot) {
		t.Errorf("%s is among the subjects of rows that are not divided", s)
	}
	if touched, err := new(table).apply(nil, keptLinks+"bc51e9e65d79e1c9", []byte("x"), 1); err != nil || touched != nil {
		t.Errorf("%v, %v", touched, err)
	}
	if _, err := new(table).apply(nil, subjectRoot+"else", nil, 1); err == nil {
		t.Error("an unknown subject is passed over")
	}
}
