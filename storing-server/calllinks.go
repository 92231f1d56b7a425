package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/web"
)

// LinkCmd is `link`.
type LinkCmd struct {
	New    LinkNewCmd    `cmd:"" help:"Make a link by which somebody calls phones from a browser, or is called there, and print it, this once."`
	List   LinkListCmd   `cmd:"" help:"Print the links that there are."`
	Revoke LinkRevokeCmd `cmd:"" help:"Make a link worth nothing."`
}

// LinkNewCmd is `link new`.
type LinkNewCmd struct {
	Data
	Name   string        `arg:"" help:"Who calls by it, or is called, as phones show it."`
	Called bool          `help:"It is for being called in a browser, by a number of its own, and not for calling."`
	Number []string      `help:"Numbers that may be called, with commas between; all by default." placeholder:"DIGITS"`
	Times  int           `help:"How many calls may be made; any number by default." placeholder:"N"`
	Valid  time.Duration `help:"For how long it is good; ${default} by default, 0 for ever." default:"168h" placeholder:"DURATION"`
	Site   string        `help:"Where browsers find the pages (run --http), to print whole links." placeholder:"URL"`
}

// LinkListCmd is `link list`.
type LinkListCmd struct {
	Data
	List
}

// LinkRevokeCmd is `link revoke`.
type LinkRevokeCmd struct {
	Data
	ID string `arg:"" help:"The link's ID, as 'link list' prints it."`
}

// Run makes a link, and prints it for each of its numbers: it is kept nowhere.
func (c *LinkNewCmd) Run(e *edges) error {
	if c.Valid < 0 {
		return &usageError{fmt.Sprintf("--valid=%v: want 0s or more", c.Valid)}
	}
	if c.Called && (len(c.Number) > 0 || c.Times != 0) {
		return &usageError{"--called: want neither --number nor --times with it"}
	}
	l := store.CallLink{Name: strings.TrimSpace(c.Name), Numbers: c.Number, Times: c.Times, Receives: c.Called}
	if c.Valid > 0 {
		l.Expires = time.Now().Add(c.Valid)
	}
	if c.Site != "" {
		if u, err := url.Parse(c.Site); err != nil || u.Host == "" {
			return &usageError{fmt.Sprintf("--site=%s: want a URL such as https://phones.example", c.Site)}
		}
	}
	if err := c.here(e); err != nil {
		return err
	}
	token, hash := web.NewCallLink()
	err := change(e, c.Data, func(ctx context.Context, r admin.Rows) error {
		_, err := r.AddCallLink(ctx, hash, l)
		return err
	})
	if err != nil {
		return err
	}
	if l.Receives {
		_, err := fmt.Fprintln(e.stdout, strings.TrimRight(c.Site, "/")+web.PhonePath(token))
		return err
	}
	numbers := l.Numbers
	if len(numbers) == 0 {
		numbers = []string{"NUMBER"}
	}
	for _, n := range numbers {
		if _, err := fmt.Fprintln(e.stdout, strings.TrimRight(c.Site, "/")+web.CallPath(n, token)); err != nil {
			return err
		}
	}
	return nil
}

// here is an error if another region's server keeps one of the numbers.
func (c *LinkNewCmd) here(e *edges) error {
	all, err := ask(e, c.Data, (*admin.Client).Regions, func(s *store.Store) []admin.Region { return admin.RegionsOf(s.Regions()) })
	if err != nil || len(all) == 0 {
		return err
	}
	own, err := ownKey(c.Data.Data)
	if err != nil {
		return err
	}
	for _, n := range c.Number {
		i := slices.IndexFunc(all, func(r admin.Region) bool { return strings.HasPrefix(n, r.Of) }) // the narrowest is first
		if i >= 0 && all[i].Key != own {
			return fmt.Errorf("make link: number %s belongs to the region of %s: make the link there", n, all[i].Server)
		}
	}
	return nil
}

// Run prints the links.
func (c *LinkListCmd) Run(e *edges) error {
	all, err := ask(e, c.Data, (*admin.Client).CallLinks, func(s *store.Store) []admin.CallLink { return admin.CallLinksOf(s.CallLinks()) })
	if err != nil {
		return err
	}
	return list(c.List, e, all, "ID\tNAME\tNUMBERS\tCALLS\tUNTIL", func(l admin.CallLink) string {
		numbers, calls, until := "all", fmt.Sprint(l.Used), "-"
		if len(l.Numbers) > 0 {
			numbers = strings.Join(l.Numbers, ",")
		}
		if l.Receives {
			numbers, calls = "is called", "-"
		}
		if l.Times > 0 {
			calls = fmt.Sprintf("%d of %d", l.Used, l.Times)
		}
		if !l.Expires.IsZero() {
			until = l.Expires.Local().Format(time.DateTime)
		}
		return fmt.Sprintf("%s\t%q\t%s\t%s\t%s", l.ID, l.Name, numbers, calls, until)
	})
}

// Run revokes a link.
func (c *LinkRevokeCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.RevokeCallLink(ctx, c.ID) })
}
