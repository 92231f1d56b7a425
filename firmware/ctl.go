package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"flexphone/firmware/internal/control"
)

type ctlCommand struct {
	Control string `help:"Control socket of the phone." default:"${control}" placeholder:"SOCKET"`

	Status struct{} `cmd:"" help:"Print what the phone does, as one JSON object."`
	Press  struct {
		Keys string `arg:"" help:"Keys to press, from 0123456789*#."`
	} `cmd:"" help:"Press keys of the keypad, one after the other."`
	Hook struct {
		To string `arg:"" enum:"off,on" help:"off lifts the handset, on puts it back."`
	} `cmd:"" help:"Move the handset."`
	Dial struct {
		Number string `arg:"" help:"A number of the dial plan."`
	} `cmd:"" help:"Call a number without the handset."`
	Answer   struct{} `cmd:"" help:"Answer without the handset."`
	Accept   struct{} `cmd:"" name:"accept-key" help:"Accept that the number of the present call has another key than it had."`
	Hold     struct{} `cmd:"" help:"Have the other end of the call wait: neither end is heard."`
	Retrieve struct{} `cmd:"" help:"Talk again to who is on hold."`
	Hangup   struct{} `cmd:"" help:"End the call."`
	Mode     struct {
		To string `arg:"" enum:"handset,hands-free,off" help:"handset, hands-free, or off: sound goes through as it is."`
	} `cmd:"" help:"Say how the phone is talked into."`
	Volume struct {
		To int `arg:"" help:"0 to 10, in steps of 3 dB; 6 is as it comes."`
	} `cmd:"" help:"Set how loud calls and tones are."`
	Mute struct {
		To string `arg:"" enum:"on,off" help:"on: nobody hears what is said here."`
	} `cmd:"" help:"Switch the microphone off, or on."`
	Events  struct{} `cmd:"" help:"Print what happens as it happens, a JSON object a line."`
	Profile struct {
		Kind string `arg:"" enum:"${profiles}" help:"One of ${profiles}."`
		For  string `help:"How long the processor is watched." default:"10s" placeholder:"TIME"`
	} `cmd:"" help:"Write a profile of the program to standard output, for go tool pprof."`
}

// request returns the request that the chosen command stands for.
func (c *ctlCommand) request(command string) control.Request {
	r := control.Request{Command: command}
	switch command {
	case "press":
		r.Arguments = []string{c.Press.Keys}
	case "hook":
		r.Arguments = []string{c.Hook.To}
	case "dial":
		r.Arguments = []string{c.Dial.Number}
	case "mode":
		r.Arguments = []string{c.Mode.To}
	case "volume":
		r.Arguments = []string{strconv.Itoa(c.Volume.To)}
	case "mute":
		r.Arguments = []string{c.Mute.To}
	case "profile":
		r.Arguments = []string{c.Profile.Kind, c.Profile.For}
	}
	return r
}

// Run sends the chosen command to the phone and prints what it answers.
func (c *ctlCommand) Run(ctx context.Context, out io.Writer, chosen *kong.Context) error {
	command := strings.Fields(chosen.Command())[1] // of "ctl press <keys>"
	return control.Do(ctx, c.Control, c.request(command), func(b json.RawMessage) error {
		if command == "profile" {
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
