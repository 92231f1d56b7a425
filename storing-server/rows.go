package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// RowsCmd is `rows`.
type RowsCmd struct {
	Data
	List
}

// NumberCmd is `number`.
type NumberCmd struct {
	Set  NumberSetCmd  `cmd:"" help:"Give a phone another short number, of 3 to 8 digits."`
	Free NumberFreeCmd `cmd:"" help:"Let a number that rests be given out again now."`
}

// NumberSetCmd is `number set`.
type NumberSetCmd struct {
	Data
	OfPhone
	Digits string `arg:"" help:"Its number from now on."`
}

// NumberFreeCmd is `number free`.
type NumberFreeCmd struct {
	Data
	Digits string `arg:"" help:"A number that rests because another phone had it."`
}

// ForgetCmd is `forget`.
type ForgetCmd struct {
	Data
	OfPhone
}

// KeyCmd is `key`.
type KeyCmd struct {
	Forget KeyForgetCmd `cmd:"" help:"Let the next key that may enrol own a phone's row, and keep its number."`
}

// KeyForgetCmd is `key forget`.
type KeyForgetCmd struct {
	Data
	OfPhone
}

// Run prints the rows.
func (c *RowsCmd) Run(e *edges) error {
	rows, err := ask(e, c.Data, (*admin.Client).List, func(s *store.Store) (out []admin.Row) {
		for r := range s.Rows() {
			out = append(out, admin.RowOf(r, s.Naming(r.MAC)))
		}
		return out
	})
	if err != nil {
		return err
	}
	return list(c.List, e, rows, "MAC\tNUMBER\tSTATE\tSINCE\tADDRESS\tEXPIRES\tSEQUENCE\tNAME", func(r admin.Row) string {
		number := r.Number
		if number == "" {
			number = "-"
		}
		return fmt.Sprintf("%v\t%s\t%s\t%s\t%s\t%s\t%d\t%s", r.MAC, number, r.State, r.Since.Local().Format(time.DateTime),
			strings.Join(r.Addrs, " "), r.Expiry.Local().Format(time.DateTime), r.Sequence, called(r))
	})
}

// called is a phone's name, and its labels in brackets.
func called(r admin.Row) string {
	if len(r.Labels) == 0 {
		return r.Name
	}
	return strings.TrimSpace(r.Name + " [" + strings.Join(r.Labels, ", ") + "]")
}

// Run gives the number.
func (c *NumberSetCmd) Run(e *edges) error {
	if err := checkNumber(c.Digits); err != nil {
		return err
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetNumber(ctx, c.MAC, c.Digits) })
}

// Run ends a number's rest.
func (c *NumberFreeCmd) Run(e *edges) error {
	if err := checkNumber(c.Digits); err != nil {
		return err
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.FreeNumber(ctx, c.Digits) })
}

func checkNumber(digits string) error {
	if !wire.ValidNumber(digits) {
		return &usageError{fmt.Sprintf("number %q: want %d to %d digits", digits, wire.MinNumber, wire.MaxNumber)}
	}
	return nil
}

// Run forgets the phone.
func (c *ForgetCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.Forget(ctx, c.MAC) })
}

// Run forgets the key.
func (c *KeyForgetCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.ForgetKey(ctx, c.MAC) })
}
