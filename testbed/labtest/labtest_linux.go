// Package labtest runs tests in the lab. It knows how a test's program is run
// again in namespaces, and refuses to know what is tried there.
package labtest

import (
	"strconv"
	"testing"

	"flexphone/testbed/lab"
)

// Inside runs the calling test again in namespaces, at most atOnce of its
// subtests beside each other, and reports whether the caller is the copy in
// there. Where the kernel forbids namespaces, the test is skipped.
func Inside(t *testing.T, atOnce int) bool {
	t.Helper()
	if lab.Inside() {
		return true
	}
	t.Parallel()
	out, err := lab.Command(t.Context(), "-test.run=^"+t.Name()+"$", "-test.v", "-test.parallel="+strconv.Itoa(atOnce)).CombinedOutput()
	if lab.IsForbidden(err) {
		t.Skip("this kernel forbids user namespaces")
	}
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}
