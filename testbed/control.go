package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"net"
)

// A request and a response are a line of JSON each on a phone's control socket, as
// firmware/internal/control has them. They are written here once more because the testbed
// knows no more of a phone than whoever writes a program for one.
type (
	request struct {
		Command   string   `json:"command"`
		Arguments []string `json:"arguments,omitempty"`
	}
	response struct {
		Error  string          `json:"error"`
		Result json.RawMessage `json:"result"`
	}
)

// Do is one command of flexphone ctl, without the program: for who gives a thousand
// of them, or measures what comes of one.
func (p *Phone) Do(ctx context.Context, command string, arguments ...string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.Control())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(request{command, arguments}); err != nil {
		return err
	}
	var answer response
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}
