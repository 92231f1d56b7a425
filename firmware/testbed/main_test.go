package testbed

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs all tests inside one enclosure.
func TestMain(m *testing.M) {
	code, done, err := Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}
