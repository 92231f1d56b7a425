// Command story plays Flexphone's whole method, from the first lease to a phone
// that comes back after it was cut off, between real programs on an Internet of
// its own (package testbed), and says what happens and how long it takes.
//
// In a terminal it keeps the phones running afterwards and says how to use
// them, and where a browser of this machine calls 101; Enter on an empty line, or Ctrl-C,
// ends it. Without a terminal it ends with the story: exit code 0
// if every step was as it should be, 1 if one was not. It knows the steps and
// how to tell of them; how anything is done it leaves to the testbed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"flexphone/testbed"
)

func main() {
	var outside []*os.File
	if !testbed.Inside() && terminal(os.Stdin) && terminal(os.Stdout) {
		var err error
		if outside, err = openDoors(); err != nil {
			fmt.Fprintln(os.Stderr, "story: no browser of this machine can call:", err)
		}
	}
	code, done, err := testbed.Enclose(outside...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1)
	}
	if done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, slices.Concat(os.Args[1:], []string{""})[0])
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1)
	}
}

// run tells the story on a board (empty: the host), and in a terminal waits for Ctrl-C after it.
func run(ctx context.Context, board string) (err error) {
	doors, err := doorsOf(testbed.Carried())
	if err != nil {
		return err
	}
	bed, err := testbed.New(ctx, testbed.Config{Board: board, Pages: true, TURN: doors.port()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	t := &teller{out: os.Stdout, bed: bed}
	if err := t.tell(ctx); err != nil {
		t.sayLogs()
		return err
	}
	if terminal(os.Stdin) && terminal(os.Stdout) {
		if doors != nil {
			if err := t.letIn(ctx, doors); err != nil {
				return err
			}
		}
		t.stayUp(ctx, os.Stdin)
	}
	return nil
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
