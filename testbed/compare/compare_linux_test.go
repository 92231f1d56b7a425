package main

import (
	"strings"
	"testing"

	"flexphone/testbed/lab"
	"flexphone/testbed/labtest"
)

// TestLife: ordinary life with every provider that is installed.
func TestLife(t *testing.T) {
	for _, p := range lab.Providers() {
		if why := p.Missing(); why != "" && !lab.Inside() {
			t.Run(p.Name, func(t *testing.T) { t.Skip(why) })
		}
	}
	if !labtest.Inside(t, 8) {
		return
	}
	for _, p := range lab.Providers() {
		if p.Missing() != "" {
			continue
		}
		for _, s := range scenarios {
			t.Run(p.Name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				if _, err := live(t.Context(), s, p); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSoak is the quick form of `compare soak`.
func TestSoak(t *testing.T) {
	if !labtest.Inside(t, 8) {
		return
	}
	first, last, wait, err := soak(t.Context(), 300)
	if err != nil {
		t.Fatal(err)
	}
	if len(wait) != 300 {
		t.Errorf("%d changes", len(wait))
	}
	if err := leaks(first, last); err != nil {
		t.Error(err)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"nothing"}, {"faults", "-what"}} {
		if err := run(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("run accepts %q", args)
		}
	}
}
