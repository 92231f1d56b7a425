package main

import (
	"context"
	"fmt"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
)

// WaitingCmd is `waiting`.
type WaitingCmd struct {
	List    WaitingListCmd    `cmd:"" help:"Print the phones that wait at the running server."`
	Approve WaitingApproveCmd `cmd:"" help:"Let a phone in that waits: it enrols when it asks again, within a week."`
}

// WaitingListCmd is `waiting list`.
type WaitingListCmd struct {
	Data
	List
}

// WaitingApproveCmd is `waiting approve`.
type WaitingApproveCmd struct {
	Data
	OfPhone
	Key wire.Fingerprint `help:"The fingerprint of its key; needed where several keys wait with one MAC." placeholder:"FINGERPRINT"`
}

// Run prints who waits.
func (c *WaitingListCmd) Run(e *edges) error {
	all, err := waiters(e, c.Data)
	if err != nil {
		return err
	}
	return list(c.List, e, all, "MAC\tKEY\tADDRESS\tSINCE\tLAST", func(w admin.Waiter) string {
		return fmt.Sprintf("%v\t%v\t%v\t%s\t%s", w.MAC, w.Key, w.From, w.Since.Local().Format(time.DateTime), w.Last.Local().Format(time.DateTime))
	})
}

// Run lets a phone in.
func (c *WaitingApproveCmd) Run(e *edges) error {
	all, err := waiters(e, c.Data)
	if err != nil {
		return err
	}
	var keys []wire.Fingerprint
	for _, w := range all {
		if w.MAC == c.MAC && (c.Key == wire.Fingerprint{} || w.Key == c.Key) {
			keys = append(keys, w.Key)
		}
	}
	switch len(keys) {
	case 0:
		return fmt.Errorf("let in %v: it does not wait here; 'waiting list' prints who does", c.MAC)
	case 1:
	default:
		return fmt.Errorf("let in %v: %d keys wait with this MAC: compare 'waiting list' with the phone, and name the key with --key", c.MAC, len(keys))
	}
	ctx, cancel := context.WithTimeout(e.ctx, commandMost)
	defer cancel()
	return barred(admin.NewClient(c.Data.Data).Approve(ctx, c.MAC, keys[0]))
}

// waiters asks the running server: nobody waits at another.
func waiters(e *edges, d Data) ([]admin.Waiter, error) {
	ctx, cancel := context.WithTimeout(e.ctx, commandMost)
	defer cancel()
	all, err := admin.NewClient(d.Data).Waiting(ctx)
	return all, barred(err)
}
