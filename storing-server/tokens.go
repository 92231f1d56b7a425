package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

// TokenCmd is `token`.
type TokenCmd struct {
	New    TokenNewCmd    `cmd:"" help:"Make a one-time token, with which one phone enrols (run --enrol token)."`
	List   TokenListCmd   `cmd:"" help:"Print the tokens that were not used."`
	Revoke TokenRevokeCmd `cmd:"" help:"Make a token worth nothing."`
}

// TokenNewCmd is `token new`.
type TokenNewCmd struct {
	Data
	MAC   wire.MAC      `name:"mac" help:"The only phone that may use it." placeholder:"MAC"`
	Valid time.Duration `help:"How long it can be used; ${default} by default." default:"168h" placeholder:"DURATION"`
	JSON  bool          `name:"json" help:"One JSON object."`
}

// TokenListCmd is `token list`.
type TokenListCmd struct {
	Data
	List
}

// TokenRevokeCmd is `token revoke`.
type TokenRevokeCmd struct {
	Data
	ID string `arg:"" help:"The token's ID, as 'token list' prints it."`
}

// Run makes a token, and prints it: it is kept nowhere.
func (c *TokenNewCmd) Run(e *edges) error {
	if c.Valid < time.Second {
		return &usageError{fmt.Sprintf("--valid=%v: want a second or more", c.Valid)}
	}
	var text string
	var t store.Token
	err := change(e, c.Data, func(ctx context.Context, r admin.Rows) (err error) {
		text, t, err = r.MakeToken(ctx, c.MAC, c.Valid)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(admin.TokenOf(t, text))
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}

// Run prints the tokens.
func (c *TokenListCmd) Run(e *edges) error {
	tokens, err := ask(e, c.Data, (*admin.Client).Tokens, func(s *store.Store) (out []admin.Token) {
		for _, t := range s.Tokens() {
			out = append(out, admin.TokenOf(t, ""))
		}
		return out
	})
	if err != nil {
		return err
	}
	return list(c.List, e, tokens, "ID\tMAC\tEXPIRES", func(t admin.Token) string {
		mac := "any"
		if t.MAC != nil {
			mac = t.MAC.String()
		}
		return fmt.Sprintf("%s\t%s\t%s", t.ID, mac, t.Expires.Local().Format(time.DateTime))
	})
}

// Run revokes a token.
func (c *TokenRevokeCmd) Run(e *edges) error {
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.RevokeToken(ctx, c.ID) })
}
