package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

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

// access returns what is kept of the operator's logins in the data folder.
// Unlike the rows it is not the running server's alone.
func (d Data) access() (web.Access, error) {
	return web.NewAccess(d.Data), d.exists()
}

// Run sets the password of the operator's pages.
func (c *PasswordCmd) Run(e *edges) error {
	a, err := c.access()
	if err != nil {
		return err
	}
	password := strings.ToLower(rand.Text())
	if c.Stdin {
		if password, err = readPassword(e.stdin); err != nil {
			return err
		}
	}
	if err := a.SetPassword(password); errors.Is(err, web.ErrPassword) {
		return &usageError{err.Error()}
	} else if err != nil {
		return barred(err)
	}
	if !c.Stdin {
		fmt.Fprintln(e.stdout, password)
	}
	return nil
}

// Run makes a token.
func (c *APITokenNewCmd) Run(e *edges) error {
	a, err := c.access()
	if err != nil {
		return err
	}
	text, _, err := a.NewToken(c.Name)
	if errors.Is(err, web.ErrName) {
		return &usageError{err.Error()}
	}
	if err != nil {
		return barred(err)
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}

// Run prints the tokens.
func (c *APITokenListCmd) Run(e *edges) error {
	a, err := c.access()
	if err != nil {
		return err
	}
	tokens, err := a.Tokens()
	if err != nil {
		return barred(err)
	}
	return list(c.List, e, tokens, "ID\tFOR\tMADE", func(t web.APIToken) string {
		return fmt.Sprintf("%s\t%q\t%s", t.ID, t.Name, t.Made.Local().Format(time.DateTime))
	})
}

// Run revokes a token.
func (c *APITokenRevokeCmd) Run(*edges) error {
	a, err := c.access()
	if err != nil {
		return err
	}
	return barred(a.RevokeToken(c.ID))
}
