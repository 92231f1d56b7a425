package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
)

// A request is one that a running phone is sent by its control socket.
type request struct {
	name  string
	takes string   // its arguments, as help shows them: in brackets what may be left out
	may   []string // what the first may be; nil: the phone says
	help  string
}

func requests() []request {
	return []request{
		{"status", "", nil, "Print what the phone does, as one JSON object."},
		{"press", "KEYS", nil, "Press keys of the keypad, of 0123456789*#, one after the other."},
		{"hook", "off|on", []string{"off", "on"}, "Lift the handset, or put it back."},
		{"dial", "NUMBER", nil, "Call a number of the dial plan without the handset."},
		{"answer", "", nil, "Answer without the handset."},
		{"accept-key", "", nil, "Accept that the number of the present call has another key than it had."},
		{"hold", "", nil, "Have the other end of the call wait: neither end is heard."},
		{"retrieve", "", nil, "Talk again to who is on hold."},
		{"hangup", "", nil, "End the call."},
		{"mode", "handset|hands-free|off", []string{"handset", "hands-free", "off"}, "Say how the phone is talked into; off: sound goes through as it is."},
		{"volume", "0-10 [handset|loudspeaker|ringer]", nil, "Set how loud people and tones are where they are heard now, or there, and keep it; in steps of 3 dB, 6 is as it comes."},
		{"mute", "on|off", []string{"on", "off"}, "Switch the microphone off, or on; the end of the call does the latter as well."},
		{"events", "", nil, "Print what happens as it happens, a JSON object a line."},
		{"profile", strings.Join(profiles(), "|"), profiles(), "Write a profile of the program to standard output, for go tool pprof."},
	}
}

// A ctlCommand drives a running phone.
type ctlCommand struct{ control, during string }

func (c *ctlCommand) flags(fs *flag.FlagSet) {
	fs.StringVar(&c.control, "control", config.Default().Control, "Control `SOCKET` of the phone.")
	fs.StringVar(&c.during, "for", "10s", "How long a profile watches the processor: `TIME`.")
}

// asks returns the request that words stand for.
func (c *ctlCommand) asks(words []string) (control.Request, error) {
	all := requests()
	if len(words) == 0 {
		return control.Request{}, fmt.Errorf("%w: ctl wants a request, such as status", errLine)
	}
	i := slices.IndexFunc(all, func(r request) bool { return r.name == words[0] })
	if i < 0 {
		return control.Request{}, fmt.Errorf("%w: ctl has no request %q", errLine, words[0])
	}
	r, given := all[i], words[1:]
	most := len(strings.Fields(r.takes))
	switch least := most - strings.Count(r.takes, "["); {
	case len(given) > most:
		return control.Request{}, fmt.Errorf("%w: ctl %s: %q is too much", errLine, r.name, given[most])
	case len(given) < least:
		return control.Request{}, fmt.Errorf("%w: ctl %s wants %s", errLine, r.name, r.takes)
	case r.may != nil:
		if err := oneOf(given[0], r.may); err != nil {
			return control.Request{}, fmt.Errorf("%w: ctl %s: %w", errLine, r.name, err)
		}
	}
	if r.name == "profile" {
		given = append(given, c.during)
	}
	return control.Request{Command: r.name, Arguments: given}, nil
}

// run sends a request to the phone and prints what it answers.
func (c *ctlCommand) run(ctx context.Context, out io.Writer, words []string) error {
	asked, err := c.asks(words)
	if err != nil {
		return err
	}
	return control.Do(ctx, c.control, asked, func(b json.RawMessage) error {
		if asked.Command == "profile" {
			var profile []byte
			if err := json.Unmarshal(b, &profile); err != nil {
				return fmt.Errorf("flexphone: read profile: %w", err)
			}
			_, err := out.Write(profile)
			return err
		}
		_, err := fmt.Fprintf(out, "%s\n", b)
		return err
	})
}
