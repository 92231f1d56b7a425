package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/web"
)

// PasswordCmd is `password`.
type PasswordCmd struct {
	Data
	Role   store.Role    `help:"What who has it may do: read everything, change short numbers too, or everything; each role has a password of its own; ${default} by default." enum:"read,numbers,all" default:"all"`
	Remove bool          `help:"Take the role's password away: logins by it end."`
	Valid  time.Duration `help:"For how long it is good, such as 2160h: then another has to be set, and logins end; for ever by default." placeholder:"DURATION"`
	Stdin  bool          `name:"stdin" help:"Read the password from standard input; otherwise one is made and printed, this once."`
}

// APITokenCmd is `api-token`.
type APITokenCmd struct {
	New    APITokenNewCmd    `cmd:"" help:"Make a token for a program, and print it, this once."`
	List   APITokenListCmd   `cmd:"" help:"Print the tokens that there are."`
	Revoke APITokenRevokeCmd `cmd:"" help:"Make a token worth nothing."`
}

// APITokenNewCmd is `api-token new`.
type APITokenNewCmd struct {
	Data
	Name  string        `arg:"" help:"What it is for."`
	Role  store.Role    `help:"What it may do: read everything, change short numbers too, or everything; ${default} by default." enum:"read,numbers,all" default:"all"`
	Valid time.Duration `help:"For how long it is good, such as 720h; for ever by default." placeholder:"DURATION"`
}

// APITokenListCmd is `api-token list`.
type APITokenListCmd struct {
	Data
	List
}

// APITokenRevokeCmd is `api-token revoke`.
type APITokenRevokeCmd struct {
	Data
	ID string `arg:"" help:"The token's ID, as 'api-token list' prints it."`
}

// Run sets, or takes away, a password of the operator's pages.
func (c *PasswordCmd) Run(e *edges) (err error) {
	if c.Remove {
		if c.Stdin || c.Valid != 0 {
			return &usageError{"--remove: of no use with --stdin or --valid"}
		}
		return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetPassword(ctx, c.Role, "", time.Time{}) })
	}
	password := strings.ToLower(rand.Text())
	if c.Stdin {
		if password, err = readPassword(e.stdin); err != nil {
			return err
		}
	}
	hash, err := web.HashPassword(password)
	if err != nil {
		return &usageError{err.Error()}
	}
	if c.Valid < 0 {
		return &usageError{fmt.Sprintf("--valid=%v: want 0s or more", c.Valid)}
	}
	var expires time.Time
	if c.Valid > 0 {
		expires = time.Now().Add(c.Valid)
	}
	if err := change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetPassword(ctx, c.Role, hash, expires) }); err != nil {
		return err
	}
	if !c.Stdin {
		fmt.Fprintln(e.stdout, password)
	}
	return nil
}

// Run makes a token.
func (c *APITokenNewCmd) Run(e *edges) error {
	t := store.APIToken{Name: strings.TrimSpace(c.Name), Role: c.Role}
	if c.Valid < 0 {
		return &usageError{fmt.Sprintf("--valid=%v: want 0s or more", c.Valid)}
	}
	if c.Valid > 0 {
		t.Expires = time.Now().Add(c.Valid)
	}
	text, hash, err := web.NewAPIToken(t.Name)
	if err != nil {
		return &usageError{err.Error()}
	}
	if err := change(e, c.Data, func(ctx context.Context, r admin.Rows) error {
		_, err := r.AddAPIToken(ctx, hash, t)
		return err
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}

// Run prints the tokens.
func (c *APITokenListCmd) Run(e *edges) error {
	tokens, err := ask(e, c.Data, (*admin.Client).APITokens, func(s *store.Store) []admin.APIToken { return admin.APITokensOf(s.APITokens()) })
	if err != nil {
		return err
	}
	return list(c.List, e, tokens, "ID\tFOR\tROLE\tMADE\tUNTIL", func(t admin.APIToken) string {
		until := "-"
		if !t.Expires.IsZero() {
			until = t.Expires.Local().Format(time.DateTime)
		}
		return fmt.Sprintf("%s\t%q\t%s\t%s\t%s", t.ID, t.Name, t.Role, t.Made.Local().Format(time.DateTime), until)
	})
}

// Run revokes a token.
func (c *APITokenRevokeCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.RevokeAPIToken(ctx, c.ID) })
}
