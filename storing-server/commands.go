package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// commandMost bounds an operator's command.
const commandMost = time.Minute

// numberRest is for how long a number rests that a command frees while no
// server runs: as long as run's --number-rest, unless the operator says.
const numberRest = 30 * 24 * time.Hour

// OfPhone is the argument of commands about one phone.
type OfPhone struct {
	MAC wire.MAC `arg:"" help:"The phone, such as 02:00:5e:00:53:01."`
}

// List is the flag of commands that print a list.
type List struct {
	JSON bool `name:"json" help:"One JSON object a line, also on a terminal."`
}

// change acts on the running server, or else on the data folder.
func change(e *edges, d Data, act func(context.Context, admin.Rows) error) error {
	ctx, cancel := context.WithTimeout(e.ctx, commandMost)
	defer cancel()
	err := act(ctx, admin.NewClient(d.Data))
	if !errors.Is(err, admin.ErrNotRunning) {
		return barred(err)
	}
	return withStore(ctx, d, func(s *store.Store) error { return act(ctx, s) })
}

// ask asks the running server, or else reads the data folder.
func ask[T any](e *edges, d Data, running func(*admin.Client, context.Context) ([]T, error), stopped func(*store.Store) []T) (out []T, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, commandMost)
	defer cancel()
	out, err = running(admin.NewClient(d.Data), ctx)
	if !errors.Is(err, admin.ErrNotRunning) {
		return out, barred(err)
	}
	err = withStore(ctx, d, func(s *store.Store) error {
		out = stopped(s)
		return nil
	})
	return out, err
}

// withStore opens the rows of a server that does not run.
func withStore(ctx context.Context, d Data, act func(*store.Store) error) (err error) {
	if err := d.exists(); err != nil {
		return err
	}
	if !store.Local(d.Data) {
		return fmt.Errorf("open data folder %s: its server keeps the rows in a cluster, and does not run: start it first", d.Data)
	}
	defer func() {
		if e := hand(d.Data); e != nil {
			err = errors.Join(err, fmt.Errorf("give files of %s to its owner: %w", d.Data, e))
		}
	}()
	s, err := openRows(ctx, store.Options{Dir: d.Data, Numbers: store.Numbers{Rest: numberRest}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	return act(s)
}

// list prints a table to people, and one JSON object a line to programs.
func list[T any](f List, e *edges, all []T, head string, line func(T) string) error {
	if f.JSON || !terminal(e.stdout) {
		enc := json.NewEncoder(e.stdout)
		for _, x := range all {
			if err := enc.Encode(x); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, x := range all {
		fmt.Fprintln(w, line(x))
	}
	return w.Flush()
}

// terminal reports whether somebody sees what is written to w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// passwordLine bounds the line that a password is read from, in bytes.
const passwordLine = 2048

// readPassword reads one line.
func readPassword(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, passwordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
