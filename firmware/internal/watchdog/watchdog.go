// Package watchdog lets a phone that hangs be restarted, and remembers why one
// crashed.
//
// It knows the Linux watchdog device (Documentation/watchdog/watchdog-api.rst)
// and where a crash report goes. It refuses to know what progress is: it is
// given functions that return when the part they ask has done something.
//
// # Why
//
// The device is fed only after every part has answered, so it bites a phone
// whose call control or sound hangs while the rest runs on. A hang inside the
// program is noticed before the hardware bites, and ends the program with the
// stacks of all goroutines: the report says where it hung, which a reset by the
// hardware would not.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flexphone/internal/durable"

	"golang.org/x/sys/unix"
)

// Timing. The hardware gets three chances of being fed after a check has
// failed to come through, so that a slow machine is not taken for a dead one.
const (
	HardwareTimeout = 30 * time.Second // until the device resets the machine
	checkEvery      = 5 * time.Second
	checkMost       = 20 * time.Second // a part that does not answer for so long hangs
)

// A Check returns nil once the part that it asks has made progress, or an error
// that names the part when ctx is done first.
type Check func(ctx context.Context) error

// Open opens a watchdog device and sets its timeout. From now on the machine is
// reset unless it is fed.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, int(HardwareTimeout/time.Second)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) {
		f.Write([]byte("V"))
		f.Close()
		return nil, fmt.Errorf("watchdog: set timeout of %s: %w", path, err)
	}
	return f, nil
}

// Feed feeds device (nil: there is none) for as long as all checks come through.
// When one does not it returns its error and leaves the device to bite. When ctx
// is done it disarms the device, as the kernel's "magic close" asks for.
func Feed(ctx context.Context, device io.Writer, checks []Check, log *slog.Logger) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		if err := all(ctx, checks); err != nil {
			if ctx.Err() == nil {
				return err
			}
		} else if device != nil {
			if _, err := device.Write([]byte{0}); err != nil {
				log.Warn("watchdog not fed", "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if device != nil {
				if _, err := device.Write([]byte("V")); err != nil {
					log.Warn("watchdog not disarmed", "err", err)
				}
			}
			return ctx.Err()
		}
	}
}

func all(ctx context.Context, checks []Check) error {
	ctx, cancel := context.WithTimeout(ctx, checkMost)
	defer cancel()
	for _, c := range checks {
		if err := c(ctx); err != nil {
			return fmt.Errorf("watchdog: no progress for %v: %w", checkMost, err)
		}
	}
	return nil
}

// maxReport bounds what is kept of a report, in bytes: the first goroutines are
// the interesting ones, and the data partition is small.
const maxReport = 256 << 10

// TakeReport returns what the crash of an earlier run left at path, empty if
// there was none, and moves it to path.last, where it stays until the next one: on
// the disk when TakeReport returns, whatever becomes of the power then.
func TakeReport(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("watchdog: read crash report: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReport))
	if err != nil {
		return "", fmt.Errorf("watchdog: read crash report: %w", err)
	}
	if len(text) == 0 {
		return "", nil
	}
	// The runtime wrote it as it died: nobody has brought it to the disk yet.
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("watchdog: keep crash report: %w", err)
	}
	if err := os.Rename(path, path+".last"); err != nil {
		return "", fmt.Errorf("watchdog: keep crash report: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("watchdog: keep crash report: %w", err)
	}
	return string(text), nil
}

// KeepReport keeps the report of a panic that the program has survived where
// TakeReport keeps that of a crash: at path.last.
func KeepReport(path, report string) error {
	if err := durable.WriteFile(path+".last", []byte(report[:min(len(report), maxReport)]), 0o600); err != nil {
		return fmt.Errorf("watchdog: keep report: %w", err)
	}
	return nil
}

// Cause returns the line of a report that says what went wrong.
func Cause(report string) string {
	for line := range strings.Lines(report) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "SIG") {
			return line
		}
	}
	line, _, _ := strings.Cut(report, "\n")
	return strings.TrimSpace(line)
}
