package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// commandMost bounds an operator's command.
const commandMost = time.Minute

// Data is the flag that all commands share.
type Data struct {
	Data string `help:"Folder of the rows and keys." default:"/var/lib/storing-server" env:"STORING_SERVER_DATA" type:"path" placeholder:"DIR"`
}

// RowsCmd is `rows`.
type RowsCmd struct {
	Data
	JSON bool `name:"json" help:"One JSON object a line, also on a terminal."`
}

// NumberCmd is `number`.
type NumberCmd struct {
	Set  NumberSetCmd  `cmd:"" help:"Give a phone another short number, of 3 to 8 digits."`
	Free NumberFreeCmd `cmd:"" help:"Let a number that rests be given out again now."`
}

// NumberSetCmd is `number set`.
type NumberSetCmd struct {
	Data
	MAC    string `arg:"" help:"The phone, such as 02:00:5e:00:53:01."`
	Digits string `arg:"" help:"Its number from now on."`
}

// ForgetCmd is `forget`.
type ForgetCmd struct {
	Data
	MAC string `arg:"" help:"The phone, such as 02:00:5e:00:53:01."`
}

// Run prints the rows.
func (c *RowsCmd) Run(e *edges) error {
	ctx, cancel := context.WithTimeout(e.ctx, commandMost)
	defer cancel()
	rows, err := c.list(ctx)
	if err != nil {
		return err
	}
	if forPrograms(c.JSON, e.stdout) {
		enc := json.NewEncoder(e.stdout)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return fmt.Errorf("print rows: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MAC\tNUMBER\tSTATE\tSINCE\tADDRESS\tEXPIRES\tSEQUENCE")
	for _, r := range rows {
		number := r.Number
		if number == "" {
			number = "-"
		}
		fmt.Fprintf(w, "%v\t%s\t%s\t%s\t%s\t%s\t%d\n", r.MAC, number, r.State, r.Since.Local().Format(time.DateTime),
			strings.Join(r.Addrs, " "), r.Expiry.Local().Format(time.DateTime), r.Sequence)
	}
	return w.Flush()
}

// list asks the running server, or else reads the data folder.
func (c *RowsCmd) list(ctx context.Context) (rows []admin.Row, err error) {
	rows, err = admin.NewClient(c.Data.Data).List(ctx)
	if !errors.Is(err, admin.ErrNotRunning) {
		return rows, err
	}
	err = withStore(ctx, c.Data.Data, func(s *store.Store) error {
		for r := range s.Rows() {
			rows = append(rows, admin.RowOf(r))
		}
		return nil
	})
	return rows, err
}

// Run gives the number.
func (c *NumberSetCmd) Run(e *edges) error {
	mac, err := wire.ParseMAC(c.MAC)
	if err != nil {
		return &usageError{err.Error()}
	}
	if !wire.ValidNumber(c.Digits) {
		return &usageError{fmt.Sprintf("number %q: want %d to %d digits", c.Digits, wire.MinNumber, wire.MaxNumber)}
	}
	return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error {
		return r.SetNumber(ctx, mac, c.Digits)
	})
}

// Run forgets the phone.
func (c *ForgetCmd) Run(e *edges) error {
	mac, err := wire.ParseMAC(c.MAC)
	if err != nil {
		return &usageError{err.Error()}
	}
	return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error {
		return r.Forget(ctx, mac)
	})
}

// change acts on the running server, or else on the data folder.
func change(ctx context.Context, dir string, act func(context.Context, admin.Rows) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandMost)
	defer cancel()
	err := act(ctx, admin.NewClient(dir))
	if !errors.Is(err, admin.ErrNotRunning) {
		return err
	}
	return withStore(ctx, dir, func(s *store.Store) error { return act(ctx, s) })
}

// withStore opens the rows of a server that does not run. It makes no data
// folder: a wrong --data is an error.
func withStore(ctx context.Context, dir string, act func(*store.Store) error) error {
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return fmt.Errorf("open data folder %s: no storing-server has run there; name the right one with --data: %w", dir, err)
	}
	s, err := openRows(ctx, store.Options{Dir: dir, Numbers: store.Numbers{Rest: numberRest}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	return act(s)
}
