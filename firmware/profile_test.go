package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// These run outside of any bubble: what watches the processor sleeps on the real
// clock, and is waited for.
func TestProfiles(t *testing.T) {
	for kind, holds := range map[string]string{"cpu": "nanoseconds", "heap": "inuse_space", "goroutines": "goroutine"} {
		b, err := profileOf(t.Context(), kind, "1ms")
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if text, err := io.ReadAll(z); err != nil || !strings.Contains(string(text), holds) {
			t.Errorf("profile %s holds no %q, %v", kind, holds, err)
		}
	}
}

func TestProfilesThatCannotBe(t *testing.T) {
	for _, args := range [][2]string{{"lunch", "1s"}, {"cpu", ""}, {"cpu", "0s"}, {"cpu", "-1s"}, {"cpu", "11m"}} {
		if b, err := profileOf(t.Context(), args[0], args[1]); err == nil {
			t.Errorf("profile %v: %d bytes", args, len(b))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := profileOf(ctx, "cpu", "10m"); !errors.Is(err, context.Canceled) {
		t.Errorf("of a phone that stops: %v", err)
	}
	if _, err := profileOf(t.Context(), "cpu", "1ms"); err != nil {
		t.Errorf("after one that was not waited for: %v", err)
	}
}
