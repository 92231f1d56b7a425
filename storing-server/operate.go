package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
)

// NumberFreeCmd is `number free`.
type NumberFreeCmd struct {
	Data
	Digits string `arg:"" help:"A number that rests because another phone had it."`
}

// KeyCmd is `key`.
type KeyCmd struct {
	Forget KeyForgetCmd `cmd:"" help:"Let the next key that may enrol own a phone's row, and keep its number."`
}

// KeyForgetCmd is `key forget`.
type KeyForgetCmd struct {
	Data
	MAC string `arg:"" help:"The phone, such as 02:00:5e:00:53:01."`
}

// TokenCmd is `token`.
type TokenCmd struct {
	New    TokenNewCmd    `cmd:"" help:"Make a one-time token, with which one phone enrols (run --enrol token)."`
	List   TokenListCmd   `cmd:"" help:"Print the tokens that were not used."`
	Revoke TokenRevokeCmd `cmd:"" help:"Make a token worth nothing."`
}

// TokenNewCmd is `token new`.
type TokenNewCmd struct {
	Data
	MAC   string        `name:"mac" help:"The only phone that may use it." placeholder:"MAC"`
	Valid time.Duration `help:"How long it can be used." default:"168h" placeholder:"DURATION"`
	JSON  bool          `name:"json" help:"One JSON object."`
}

// TokenListCmd is `token list`.
type TokenListCmd struct {
	Data
	JSON bool `name:"json" help:"One JSON object a line, also on a terminal."`
}

// TokenRevokeCmd is `token revoke`.
type TokenRevokeCmd struct {
	Data
	ID string `arg:"" help:"The token's ID, as 'token list' prints it."`
}

// PhoneCmd is `phone`.
type PhoneCmd struct {
	Add    PhoneAddCmd    `cmd:"" help:"Let a standard SIP phone register, or give it another password."`
	Remove PhoneRemoveCmd `cmd:"" help:"Take a standard SIP phone away, with its row and number."`
	List   PhoneListCmd   `cmd:"" help:"Print the standard SIP phones."`
}

// PhoneAddCmd is `phone add`.
type PhoneAddCmd struct {
	Data
	User          string `arg:"" name:"mac-or-user" help:"The phone's user name: its MAC, a short number, which is then its number, or any name."`
	MD5           bool   `name:"md5" help:"The phone knows no better digest than MD5, and gives up when it is offered SHA-256 too."`
	PasswordStdin bool   `help:"Read the password from standard input; otherwise one is made and printed."`
	JSON          bool   `name:"json" help:"One JSON object."`
}

// PhoneRemoveCmd is `phone remove`.
type PhoneRemoveCmd struct {
	Data
	User string `arg:"" name:"mac-or-user" help:"The phone's user name."`
}

// PhoneListCmd is `phone list`.
type PhoneListCmd struct {
	Data
	JSON bool `name:"json" help:"One JSON object a line, also on a terminal."`
}

// Run ends a number's rest.
func (c *NumberFreeCmd) Run(e *edges) error {
	if !wire.ValidNumber(c.Digits) {
		return &usageError{fmt.Sprintf("number %q: want %d to %d digits", c.Digits, wire.MinNumber, wire.MaxNumber)}
	}
	return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error {
		return r.FreeNumber(ctx, c.Digits)
	})
}

// Run forgets the key.
func (c *KeyForgetCmd) Run(e *edges) error {
	mac, err := wire.ParseMAC(c.MAC)
	if err != nil {
		return &usageError{err.Error()}
	}
	return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error {
		return r.ForgetKey(ctx, mac)
	})
}

// Run makes a token, and prints it: it is kept nowhere.
func (c *TokenNewCmd) Run(e *edges) error {
	var mac wire.MAC
	if c.MAC != "" {
		var err error
		if mac, err = wire.ParseMAC(c.MAC); err != nil {
			return &usageError{err.Error()}
		}
	}
	if c.Valid < time.Second {
		return &usageError{fmt.Sprintf("--valid=%v: want a second or more", c.Valid)}
	}
	var text string
	var t store.Token
	err := change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) (err error) {
		text, t, err = r.MakeToken(ctx, mac, c.Valid)
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
	return list(e, c.Data.Data, c.JSON, "ID\tMAC\tEXPIRES", (*admin.Client).Tokens,
		func(s *store.Store) (out []admin.Token) {
			for _, t := range s.Tokens() {
				out = append(out, admin.TokenOf(t, ""))
			}
			return out
		},
		func(t admin.Token) string {
			mac := "any"
			if t.MAC != nil {
				mac = t.MAC.String()
			}
			return fmt.Sprintf("%s\t%s\t%s", t.ID, mac, t.Expires.Local().Format(time.DateTime))
		})
}

// Run revokes a token.
func (c *TokenRevokeCmd) Run(e *edges) error {
	return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error {
		return r.RevokeToken(ctx, c.ID)
	})
}

// Run adds a phone.
func (c *PhoneAddCmd) Run(e *edges) error {
	user := sip.UserName(c.User)
	if !store.ValidUser(user) {
		return &usageError{fmt.Sprintf("user %q: want a MAC, or 1 to 64 letters, digits and -_.+", c.User)}
	}
	password := sip.NewPassword()
	if c.PasswordStdin {
		line, err := bufio.NewReader(io.LimitReader(e.stdin, 1024)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read password: %w", err)
		}
		if password = strings.TrimRight(line, "\r\n"); password == "" {
			return &usageError{"--password-stdin: standard input has no password"}
		}
	}
	p := store.Phone{User: user, MAC: store.UserMAC(user)}
	p.MD5, p.SHA256 = sip.Secrets(user, password)
	if c.MD5 {
		p.SHA256 = nil
	}
	err := change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) (err error) {
		p.Number, err = r.AddPhone(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	out := struct {
		admin.Phone
		Password string `json:"password,omitempty"`
	}{Phone: admin.PhoneOf(p)}
	if !c.PasswordStdin {
		out.Password = password
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(out)
	}
	number := p.Number
	if number == "" {
		number = "none yet"
	}
	fmt.Fprintf(e.stdout, "user      %s\nnumber    %s, or %s\n", p.User, number, p.MAC.Digits())
	if out.Password != "" {
		fmt.Fprintf(e.stdout, "password  %s\n", out.Password)
	}
	return nil
}

// Run removes a phone.
func (c *PhoneRemoveCmd) Run(e *edges) error {
	user := sip.UserName(c.User)
	phones, err := phones(e, c.Data.Data)
	if err != nil {
		return err
	}
	for _, p := range phones {
		if p.User == user {
			return change(e.ctx, c.Data.Data, func(ctx context.Context, r admin.Rows) error { return r.Forget(ctx, p.MAC) })
		}
	}
	return fmt.Errorf("remove phone %s: no standard phone of this name; 'phone list' prints them", user)
}

// Run prints the phones.
func (c *PhoneListCmd) Run(e *edges) error {
	return list(e, c.Data.Data, c.JSON, "USER\tMAC\tNUMBER", (*admin.Client).Phones, phonesOf, func(p admin.Phone) string {
		return fmt.Sprintf("%s\t%v\t%s", p.User, p.MAC, p.Number)
	})
}

func phonesOf(s *store.Store) (out []admin.Phone) {
	for _, p := range s.Phones() {
		out = append(out, admin.PhoneOf(p))
	}
	return out
}

func phones(e *edges, dir string) ([]admin.Phone, error) {
	return ask(e.ctx, dir, (*admin.Client).Phones, phonesOf)
}

// ask asks the running server, or else reads the data folder.
func ask[T any](ctx context.Context, dir string, running func(*admin.Client, context.Context) ([]T, error), stopped func(*store.Store) []T) (out []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandMost)
	defer cancel()
	out, err = running(admin.NewClient(dir), ctx)
	if !errors.Is(err, admin.ErrNotRunning) {
		return out, err
	}
	err = withStore(ctx, dir, func(s *store.Store) error {
		out = stopped(s)
		return nil
	})
	return out, err
}

// list prints what ask returns: a table to people, and one JSON object a line
// to programs.
func list[T any](e *edges, dir string, asJSON bool, head string, running func(*admin.Client, context.Context) ([]T, error), stopped func(*store.Store) []T, line func(T) string) error {
	all, err := ask(e.ctx, dir, running, stopped)
	if err != nil {
		return err
	}
	asJSON = forPrograms(asJSON, e.stdout)
	enc := json.NewEncoder(e.stdout)
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, head)
	}
	for _, x := range all {
		if !asJSON {
			fmt.Fprintln(w, line(x))
		} else if err := enc.Encode(x); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return w.Flush()
}
