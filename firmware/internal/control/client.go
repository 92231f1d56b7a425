package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
)

// Do sends r to the phone whose control socket is at path, and calls answer with
// each result: once, or for "events" until ctx is done or the phone ends.
func Do(ctx context.Context, path string, r Request, answer func(json.RawMessage) error) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("control: no phone answers at %s; is it running, and is --control its socket? %w", path, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if _, err := c.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("control: send %s: %w", r.Command, err)
	}
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("control: read answer: %w", err)
		}
		var resp Response
		if err := json.Unmarshal(line, &resp); err != nil {
			return fmt.Errorf("control: read answer: %w", err)
		}
		if resp.Error != "" {
			return errors.New(resp.Error)
		}
		if len(resp.Result) == 0 {
			continue
		}
		if err := answer(resp.Result); err != nil {
			return err
		}
	}
}
