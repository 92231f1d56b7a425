package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

// profileMost bounds how long a phone watches its processor for one command.
const profileMost = 10 * time.Minute

// profiles are what can be asked for.
func profiles() []string { return []string{"cpu", "heap", "goroutines"} }

// profileOf returns a profile of this program, as `go tool pprof` reads it; that of
// the processor is of the time that it is waited for.
func profileOf(ctx context.Context, kind, during string) ([]byte, error) {
	var b bytes.Buffer
	switch kind {
	case "cpu":
		d, err := time.ParseDuration(during)
		if err != nil || d <= 0 || d > profileMost {
			return nil, fmt.Errorf("profile for %q: want a time of at most %v, such as 10s", during, profileMost)
		}
		if err := pprof.StartCPUProfile(&b); err != nil {
			return nil, fmt.Errorf("profile: %w", err) // another client is asking for one
		}
		defer pprof.StopCPUProfile()
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		pprof.StopCPUProfile() // which writes it
		return b.Bytes(), nil
	case "heap":
		runtime.GC() // what is in use is known as of the last collection
		err := pprof.Lookup("heap").WriteTo(&b, 0)
		return b.Bytes(), err
	case "goroutines":
		err := pprof.Lookup("goroutine").WriteTo(&b, 0)
		return b.Bytes(), err
	}
	return nil, fmt.Errorf("no profile %q: want one of %s", kind, strings.Join(profiles(), ", "))
}
