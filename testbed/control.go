package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	_, err := p.ask(ctx, command, arguments...)
	return err
}

// Profile asks for a profile of the program, as `flexphone ctl profile` does: "heap" or
// "goroutines".
func (p *Phone) Profile(ctx context.Context, kind string) (profile []byte, err error) {
	result, err := p.ask(ctx, "profile", kind, "1s")
	if err == nil {
		err = json.Unmarshal(result, &profile)
	}
	if err != nil {
		return nil, fmt.Errorf("testbed: profile %s: %w", p.Name, err)
	}
	return profile, nil
}

func (p *Phone) ask(ctx context.Context, command string, arguments ...string) (json.RawMessage, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.Control())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(request{command, arguments}); err != nil {
		return nil, err
	}
	var answer response
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	return answer.Result, nil
}
