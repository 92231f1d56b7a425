package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// An Event is one line of `flexphone ctl events`.
type Event struct {
	Time   time.Time // of a virtual machine, whose clock strays: when we were told
	Name   string
	Fields map[string]any // all of the line
}

// Field returns a field of the event as text, empty if it has none.
func (e Event) Field(name string) string {
	v, ok := e.Fields[name]
	if !ok || v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Addr returns the address that the event tells of.
func (e Event) Addr() netip.Addr { return parseAddr(e.Field("address")) }

// String returns the event as one line for people.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Time.Format("15:04:05.000"), e.Name)
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if name != "time" && name != "event" {
			fmt.Fprintf(&b, " %s=%v", name, e.Fields[name])
		}
	}
	return b.String()
}

// listen connects to the phone's control socket, as soon as there is one, and
// reads its events from then on.
func (p *Phone) listen(ctx context.Context) error {
	tick := time.NewTicker(p.look())
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", p.Control())
		if err == nil {
			err = p.follow(conn)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.proc.done:
			return fmt.Errorf("testbed: start %s: it has ended: %s: %s", p.Name, p.proc.cmd.ProcessState, p.LastWords())
		case <-ctx.Done():
			return fmt.Errorf("testbed: start %s: %w: %w", p.Name, ctx.Err(), err)
		}
	}
}

// follow reads events off the control socket until the phone ends. It returns
// once no later event can be missed, which the first, empty answer says.
func (p *Phone) follow(conn net.Conn) error {
	r := bufio.NewReader(conn)
	if err := json.NewEncoder(conn).Encode(request{Command: "events"}); err != nil {
		conn.Close()
		return fmt.Errorf("testbed: follow %s: %w", p.Name, err)
	}
	if _, err := r.ReadBytes('\n'); err != nil {
		conn.Close()
		return fmt.Errorf("testbed: follow %s: %w", p.Name, err)
	}
	followed := make(chan struct{})
	p.followed = followed
	go func() {
		defer close(followed)
		defer conn.Close()
		for lines := json.NewDecoder(r); ; {
			var answer response
			var fields map[string]any
			if lines.Decode(&answer) != nil || json.Unmarshal(answer.Result, &fields) != nil {
				return
			}
			e := Event{Name: fmt.Sprint(fields["event"]), Fields: fields}
			if e.Time = time.Now(); p.board == hostBoard {
				e.Time, _ = time.Parse(time.RFC3339Nano, fmt.Sprint(fields["time"]))
			}
			p.events.add(e)
		}
	}()
	return nil
}

// eventPatience is how long an event is waited for. Nothing is timed against it: it keeps one
// that never comes from costing the run that it is waited for in.
const eventPatience = 10 * time.Minute

// Await waits for the next event of that name whose fields are as given
// ("address", "192.0.2.7", …), and passes it: the next Await looks behind it.
// The empty name is any. An event that does not come for eventPatience is given up.
func (p *Phone) Await(ctx context.Context, name string, fields ...string) (Event, error) {
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	p.mu.Lock()
	from := p.next
	p.mu.Unlock()
	e, next, err := p.events.await(ctx, from, func(e Event) bool {
		if name != "" && e.Name != name {
			return false
		}
		for i := 0; i+1 < len(fields); i += 2 {
			if e.Field(fields[i]) != fields[i+1] {
				return false
			}
		}
		return true
	})
	if err != nil {
		return Event{}, fmt.Errorf("testbed: wait for %q %v of %s: %w", name, fields, p.Name, err)
	}
	p.mu.Lock()
	p.next = next
	p.mu.Unlock()
	return e, nil
}

// Mark passes all events so far: the next Await looks behind them. Whoever calls
// marks first, so that the pace of the phone is that of one call.
func (p *Phone) Mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.events.length()
	p.pace = fullPace
}

// Events returns all events so far.
func (p *Phone) Events() []Event { return p.events.since(0) }
