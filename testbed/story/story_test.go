package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"flexphone/testbed"
)

func TestMain(m *testing.M) {
	code, done, err := testbed.Enclose()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case done:
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// Every step of the story is as it should be; what it says is what happened.
func TestStory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	bed, err := testbed.New(ctx, testbed.Config{Pages: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	}()
	var told bytes.Buffer
	s := &teller{out: &told, bed: bed}
	err = s.tell(ctx)
	if err != nil {
		s.sayLogs()
	}
	t.Logf("%s", &told)
	if err != nil {
		t.Fatal(err)
	}
	// What is typed afterwards is done.
	s.one.Mark()
	for _, line := range []string{"101 off", "101 7", "101 on"} {
		if err := s.act(ctx, line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, state := range []string{"dialing", "standby"} {
		if _, err := s.one.Await(ctx, "state", "state", state); err != nil {
			t.Error(err)
		}
	}
	for _, line := range []string{"", "101", "103 off", "101 x"} {
		if err := s.act(ctx, line); err == nil {
			t.Errorf("%q was done", line)
		}
	}
}
