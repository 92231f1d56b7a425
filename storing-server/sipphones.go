package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/sip"
	"flexphone/storing-server/internal/store"
)

// PhoneCmd is `phone`.
type PhoneCmd struct {
	Name   PhoneNameCmd   `cmd:"" help:"Give any phone a name and labels, for lists and searches, in place of those it had."`
	Add    PhoneAddCmd    `cmd:"" help:"Let a standard SIP phone register, or give it another password."`
	Remove PhoneRemoveCmd `cmd:"" help:"Take a standard SIP phone away, with its row and number."`
	List   PhoneListCmd   `cmd:"" help:"Print the standard SIP phones."`
}

// PhoneNameCmd is `phone name`.
type PhoneNameCmd struct {
	Data
	OfPhone
	Name  string   `arg:"" optional:"" help:"Its name, such as whose it is; none takes it away."`
	Label []string `help:"A label, such as a room or a building; may be repeated." placeholder:"LABEL"`
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
	List
}

// Run gives the name.
func (c *PhoneNameCmd) Run(e *edges) error {
	n, err := store.Naming{Name: c.Name, Labels: c.Label}.Clean()
	if err != nil {
		return &usageError{err.Error()}
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.SetNaming(ctx, c.MAC, n) })
}

// Run adds a phone.
func (c *PhoneAddCmd) Run(e *edges) error {
	user := sip.UserName(c.User)
	if !store.ValidUser(user) {
		return &usageError{fmt.Sprintf("user %q: want a MAC, or 1 to 64 letters, digits and -_.+", c.User)}
	}
	password, made := sip.NewPassword(), true
	if c.PasswordStdin {
		var err error
		if password, err = readPassword(e.stdin); err != nil {
			return err
		}
		if made = false; password == "" {
			return &usageError{"--password-stdin: standard input has no password"}
		}
	}
	p := store.Phone{User: user, MAC: store.UserMAC(user)}
	p.MD5, p.SHA256 = sip.Secrets(user, password)
	if c.MD5 {
		p.SHA256 = nil
	}
	err := change(e, c.Data, func(ctx context.Context, r admin.Rows) (err error) {
		p.Number, err = r.AddPhone(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		out := struct {
			admin.Phone
			Password string `json:"password,omitempty"`
		}{Phone: admin.PhoneOf(p)}
		if made {
			out.Password = password
		}
		return json.NewEncoder(e.stdout).Encode(out)
	}
	number := p.Number
	if number == "" {
		number = "none yet"
	}
	fmt.Fprintf(e.stdout, "user      %s\nnumber    %s, or %s\n", p.User, number, p.MAC.Digits())
	if made {
		fmt.Fprintf(e.stdout, "password  %s\n", password)
	}
	return nil
}

// Run removes a phone.
func (c *PhoneRemoveCmd) Run(e *edges) error {
	user := sip.UserName(c.User)
	all, err := sipPhones(e, c.Data)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(p admin.Phone) bool { return p.User == user })
	if at < 0 {
		return fmt.Errorf("remove phone %s: no standard phone of this name; 'phone list' prints them", user)
	}
	return change(e, c.Data, func(ctx context.Context, r admin.Rows) error { return r.Forget(ctx, all[at].MAC) })
}

// Run prints the phones.
func (c *PhoneListCmd) Run(e *edges) error {
	all, err := sipPhones(e, c.Data)
	if err != nil {
		return err
	}
	return list(c.List, e, all, "USER\tMAC\tNUMBER", func(p admin.Phone) string {
		return fmt.Sprintf("%s\t%v\t%s", p.User, p.MAC, p.Number)
	})
}

func sipPhones(e *edges, d Data) ([]admin.Phone, error) {
	return ask(e, d, (*admin.Client).Phones, func(s *store.Store) (out []admin.Phone) {
		for _, p := range s.Phones() {
			out = append(out, admin.PhoneOf(p))
		}
		return out
	})
}
