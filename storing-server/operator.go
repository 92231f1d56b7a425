package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/web"
)

// HTTPFlags say where the operator's pages are.
type HTTPFlags struct {
	HTTP     string `name:"http" help:"TCP address for the operator's pages, the JSON API, metrics and health; none by default. By TLS, unless it is a loopback address." placeholder:"[HOST]:PORT"`
	HTTPCert string `name:"http-cert" help:"PEM file of the certificate and its chain for --http; by default the server signs one itself." placeholder:"FILE"`
	HTTPKey  string `name:"http-key" help:"PEM file of the key of --http-cert." placeholder:"FILE"`
}

// open listens; nil when nothing was asked for.
func (f HTTPFlags) open(ctx context.Context, dir string, rows *store.Store, m *metrics, log *slog.Logger) (*web.Server, error) {
	switch {
	case (f.HTTPCert == "") != (f.HTTPKey == ""):
		return nil, &usageError{"--http-cert and --http-key: want both or neither"}
	case f.HTTPCert != "" && f.HTTP == "":
		return nil, &usageError{"--http-cert: of use only with --http"}
	case f.HTTP == "":
		return nil, nil
	}
	o := web.Options{Listen: f.HTTP, Dir: dir, Rows: rows, Metrics: m.handler(), Count: m.httpRequest, Log: log}
	if f.HTTPCert != "" {
		c, err := tls.LoadX509KeyPair(f.HTTPCert, f.HTTPKey)
		if err != nil {
			return nil, fmt.Errorf("read --http-cert: %w", err)
		}
		o.Cert = &c
	}
	return web.Listen(ctx, o)
}

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
	JSON bool `name:"json" help:"One JSON object a line, also on a terminal."`
}

// APITokenRevokeCmd is `api-token revoke`.
type APITokenRevokeCmd struct {
	Data
	ID string `arg:"" help:"The token's ID, as 'api-token list' prints it."`
}

// access returns what is kept of the operator's logins in a data folder. It
// makes no folder: a wrong --data is an error. Unlike the rows it is not the
// running server's alone.
func access(dir string) (web.Access, error) {
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return web.Access{}, fmt.Errorf("open data folder %s: no storing-server has run there; name the right one with --data: %w", dir, err)
	}
	return web.NewAccess(dir), nil
}

// Run sets the password of the operator's pages.
func (c *PasswordCmd) Run(e *edges) error {
	a, err := access(c.Data.Data)
	if err != nil {
		return err
	}
	password := strings.ToLower(rand.Text())
	if c.Stdin {
		line, err := bufio.NewReader(io.LimitReader(e.stdin, 4*web.MaxPassword+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read password: %w", err)
		}
		password = strings.TrimRight(line, "\r\n")
	}
	if err := a.SetPassword(password); errors.Is(err, web.ErrPassword) {
		return &usageError{err.Error()}
	} else if err != nil {
		return err
	}
	if !c.Stdin {
		fmt.Fprintln(e.stdout, password)
	}
	return nil
}

// Run makes a token.
func (c *APITokenNewCmd) Run(e *edges) error {
	a, err := access(c.Data.Data)
	if err != nil {
		return err
	}
	text, _, err := a.NewToken(c.Name)
	if errors.Is(err, web.ErrName) {
		return &usageError{err.Error()}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}

// Run prints the tokens.
func (c *APITokenListCmd) Run(e *edges) error {
	a, err := access(c.Data.Data)
	if err != nil {
		return err
	}
	tokens, err := a.Tokens()
	if err != nil {
		return err
	}
	asJSON := forPrograms(c.JSON, e.stdout)
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "ID\tFOR\tMADE")
	}
	for _, t := range tokens {
		if !asJSON {
			fmt.Fprintf(w, "%s\t%q\t%s\n", t.ID, t.Name, t.Made.Local().Format(time.DateTime))
		} else if err := json.NewEncoder(w).Encode(t); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return w.Flush()
}

// Run revokes a token.
func (c *APITokenRevokeCmd) Run(*edges) error {
	a, err := access(c.Data.Data)
	if err != nil {
		return err
	}
	return a.RevokeToken(c.ID)
}
