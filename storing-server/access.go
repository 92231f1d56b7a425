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
	Stdin bool `name:"stdin" help:"Read the password from standard input; otherwise one is made and printed, this once."`
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
	Name string `arg:"" help:"What it is for."`
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

// Run sets the password of the operator's pages.
func (c *PasswordCmd) Run(e *edges) (err error) {
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
	if err := change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetPassword(ctx, hash) }); err != nil {
		return err
	}
	if !c.Stdin {
		fmt.Fprintln(e.stdout, password)
	}
	return nil
}

// Run makes a token.
func (c *APITokenNewCmd) Run(e *edges) error {
	name := strings.TrimSpace(c.Name)
	text, hash, err := web.NewAPIToken(name)
	if err != nil {
		return &usageError{err.Error()}
	}
	if err := change(e, c.Data, func(ctx context.Context, r admin.Rows) error {
		_, err := r.AddAPIToken(ctx, hash, name)
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
	return list(c.List, e, tokens, "ID\tFOR\tMADE", func(t admin.APIToken) string {
		return fmt.Sprintf("%s\t%q\t%s", t.ID, t.Name, t.Made.Local().Format(time.DateTime))
	})
}

// Run revokes a token.
func (c *APITokenRevokeCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.RevokeAPIToken(ctx, c.ID) })
}
