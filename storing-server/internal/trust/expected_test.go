package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flexphone/registry-client/wire"
)

func TestExpected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phones")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\ufeff# delivered in March\r\n02:00:5e:00:53:01 the lobby\r\n\r\n02005E005302,desk 2\n  02-00-5e-00-53-03;x\n\"02:00:5e:00:53:04\"\n02:00:5e:00:53:05")
	e, err := LoadExpected(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(8) {
		if got := e.Has(wire.MAC{2, 0, 0x5e, 0, 0x53, n}); got != (n >= 1 && n <= 5) {
			t.Errorf("phone %d is expected: %v", n, got)
		}
	}
	write("02:00:5e:00:53:06\n# fine\nnonsense\n")
	if err := e.Reload(); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("Reload() of nonsense = %v; want the line", err)
	}
	if !e.Has(wire.MAC{2, 0, 0x5e, 0, 0x53, 1}) || e.Has(wire.MAC{2, 0, 0x5e, 0, 0x53, 6}) {
		t.Error("a list that cannot be read has changed the one before")
	}
	write("02:00:5e:00:53:06")
	if err := e.Reload(); err != nil || e.Has(wire.MAC{2, 0, 0x5e, 0, 0x53, 1}) || !e.Has(wire.MAC{2, 0, 0x5e, 0, 0x53, 6}) {
		t.Errorf("another list: %v", err)
	}
	if _, err := LoadExpected(path + "x"); err == nil {
		t.Error("a file that there is not was read")
	}
	if (*Expected)(nil).Has(wire.MAC{}) {
		t.Error("nobody expects somebody")
	}
}
