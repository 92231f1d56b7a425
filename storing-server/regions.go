package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// RegionCmd is `region`.
type RegionCmd struct {
	Set    RegionSetCmd    `cmd:"" help:"Say which server keeps the rows of some phones: this one, or another region's."`
	List   RegionListCmd   `cmd:"" help:"Print which server keeps which rows. Of several spans that hold a phone the narrowest counts."`
	Remove RegionRemoveCmd `cmd:"" help:"Say no more who keeps the rows of a span: whoever is asked."`
}

// OfSpan is the argument of commands about some phones.
type OfSpan struct {
	Span string `arg:"" name:"of" help:"The phones: MAC-MAC, one MAC, or the first digits of short numbers."`
}

func (s OfSpan) span() (store.Span, error) {
	span, err := store.ParseSpan(s.Span)
	if err != nil {
		return span, &usageError{err.Error()}
	}
	return span, nil
}

// RegionSetCmd is `region set`.
type RegionSetCmd struct {
	Data
	OfSpan
	Server string `arg:"" help:"Where phones reach that server: host, or host:port."`
	Key    string `arg:"" optional:"" help:"The fingerprint of its key, which it logs when it is ready; by default this server's own."`
}

// RegionListCmd is `region list`.
type RegionListCmd struct {
	Data
	List
}

// RegionRemoveCmd is `region remove`.
type RegionRemoveCmd struct {
	Data
	OfSpan
}

// Run sets a region.
func (c *RegionSetCmd) Run(e *edges) error {
	span, err := c.span()
	if err != nil {
		return err
	}
	var to wire.Referral
	if to.Server, err = wire.HostPort(c.Server); err != nil {
		return &usageError{err.Error()}
	}
	if c.Key == "" {
		if to.Key, err = ownKey(c.Data.Data); err != nil {
			return fmt.Errorf("%w: start the server once, or name the key", err)
		}
	} else if to.Key, err = wire.ParseFingerprint(c.Key); err != nil {
		return &usageError{err.Error()}
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetRegion(ctx, span, to) })
}

// ownKey returns the fingerprint of the key of the server of a data folder, and makes none.
func ownKey(dir string) (wire.Fingerprint, error) {
	if _, err := os.Stat(filepath.Join(dir, keyName)); errors.Is(err, fs.ErrNotExist) {
		return wire.Fingerprint{}, fmt.Errorf("read server key: there is none in %s yet", dir)
	}
	own, err := serverCertificate(dir)
	if err != nil {
		return wire.Fingerprint{}, err
	}
	return fingerprint(own), nil
}

// Run prints the regions.
func (c *RegionListCmd) Run(e *edges) error {
	all, err := ask(e, c.Data, (*admin.Client).Regions, func(s *store.Store) []admin.Region { return admin.RegionsOf(s.Regions()) })
	if err != nil {
		return err
	}
	return list(c.List, e, all, "OF\tSERVER\tCHANGED\tKEY", func(r admin.Region) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s", r.Of, r.Server, r.Changed.Local().Format(time.DateTime), r.Key)
	})
}

// Run gives a span back.
func (c *RegionRemoveCmd) Run(e *edges) error {
	span, err := c.span()
	if err != nil {
		return err
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetRegion(ctx, span, wire.Referral{}) })
}
