// Package torture has the messages of RFC 4475, by which whoever reads SIP is
// tested. It knows where they are kept, which is sipgo's sources, and refuses to
// know what becomes of them: that differs from a phone to a registrar.
package torture

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Messages are the RFC's messages by their names, such as "valid/wsinv". The test
// is skipped where there is no go command to find them by.
func Messages(t testing.TB) map[string][]byte {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/emiago/sipgo").Output()
	if err != nil {
		t.Skipf("needs the go command, to find sipgo's sources: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "sip/testdata/torture/*/*.dat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no torture messages in sipgo's sources: %v", err)
	}
	found := make(map[string][]byte)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		dir, name := filepath.Split(strings.TrimSuffix(f, ".dat"))
		found[filepath.Base(dir)+"/"+name] = b
	}
	return found
}
