package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"flexphone/audio/echo"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/hal"
	"flexphone/netlink"
)

// controls carries out the commands of `flexphone ctl`.
type controls struct {
	phone  *phone.Phone
	self   *self
	parts  *hardware
	loud   *volumes
	keeper *parts.Keeper
}

func (c controls) handle(ctx context.Context, r control.Request) (any, error) {
	argument, more := "", ""
	if len(r.Arguments) > 0 {
		argument = r.Arguments[0]
	}
	if len(r.Arguments) > 1 {
		more = r.Arguments[1]
	}
	switch r.Command {
	case "status":
		return c.status(), nil
	case "press":
		if c.parts.simKeypad == nil {
			return nil, fmt.Errorf("this phone has real keys; only a simulated keypad can be pressed from here")
		}
		return nil, c.parts.simKeypad.Press(argument)
	case "hook":
		return nil, c.hook(argument)
	case "dial":
		if _, err := phone.ParseNumber(argument); err != nil {
			return nil, err
		}
		c.phone.Dial(ctx, argument)
		return nil, nil
	case "accept-key":
		if c.phone.Status().Call == nil {
			return nil, fmt.Errorf("there is no call; the new key of a number is accepted while it is called, or calls")
		}
		c.phone.Accept(ctx)
		return nil, nil
	case "answer":
		c.phone.Answer(ctx)
		return nil, nil
	case "hold":
		c.phone.Hold(ctx)
		return nil, nil
	case "retrieve":
		c.phone.Retrieve(ctx)
		return nil, nil
	case "hangup":
		c.phone.Hangup(ctx)
		return nil, nil
	case "mode":
		m, ok := echo.Modes()[argument]
		if !ok {
			return nil, fmt.Errorf("mode %q: want handset, hands-free or off", argument)
		}
		c.loud.desk.SetMode(m)
		return nil, nil
	case "volume":
		v, err := strconv.Atoi(argument)
		if err != nil || v < 0 || v > echo.MaxVolume {
			return nil, fmt.Errorf("volume %q: want 0 to %d", argument, echo.MaxVolume)
		}
		o := c.loud.desk.Voice()
		if more != "" {
			named, ok := echo.Outputs()[more]
			if !ok {
				return nil, fmt.Errorf("volume of %q: want handset, loudspeaker or ringer", more)
			}
			o = named
		}
		c.loud.set(o, v)
		return nil, nil
	case "mute":
		if argument != "on" && argument != "off" {
			return nil, fmt.Errorf("mute %q: want on or off", argument)
		}
		c.loud.desk.Mute(argument == "on") // at once, whatever call control is busy with
		c.phone.Mute(ctx, argument == "on")
		return nil, nil
	case "profile":
		return profileOf(ctx, argument, more)
	}
	return nil, fmt.Errorf("no command %q; `flexphone ctl --help` lists them", r.Command)
}

func (c controls) hook(to string) error {
	states := map[string]hal.HookState{"off": hal.OffHook, "on": hal.OnHook}
	s, ok := states[to]
	switch {
	case !ok:
		return fmt.Errorf("hook %q: want off or on", to)
	case c.parts.simHook == nil:
		return fmt.Errorf("this phone has a real handset; only a simulated hook switch can be moved from here")
	}
	return c.parts.simHook.Set(s)
}

// status is what `flexphone ctl status` prints.
type status struct {
	MAC     string `json:"mac"`    // empty while there is no network interface
	Key     string `json:"key"`    // the SHA-256 of the device key, as others see it
	Number  string `json:"number"` // short number, or the MAC's 15 digits
	Address string `json:"address"`
	Reach   string `json:"reach,omitempty"` // as the row says it: direct, nat or relay
	Lease   *lease `json:"lease,omitempty"`
	phone.Status
	Sound  desk              `json:"sound"`
	Broken map[string]string `json:"broken,omitempty"` // parts that do not work, and why
}

// desk is how the phone is talked into.
type desk struct {
	Mode   string `json:"mode"`   // "handset", "hands-free" or "off"
	Volume int    `json:"volume"` // of what people say, in that mode
	// Volumes are those of handset, loudspeaker and ringer.
	Volumes map[string]int `json:"volumes"`
	Muted   bool           `json:"muted"`
}

type lease struct {
	Prefix        string    `json:"prefix"`
	Router        string    `json:"router"`
	Server        string    `json:"server"`
	StoringServer string    `json:"storing_server"`
	Start         time.Time `json:"start"`
	Renew         time.Time `json:"renew,omitzero"`
	Expiry        time.Time `json:"expiry,omitzero"` // absent: never
}

func (c controls) status() status {
	s := status{Number: c.self.name(), Reach: c.self.reached(), Status: c.phone.Status()}
	d := c.loud.desk
	s.Sound = desk{d.Mode().String(), d.Volume(d.Voice()), c.loud.all(), d.Muted()}
	s.Broken, _ = c.keeper.Broken()
	if id, ok := c.self.key.Now(); ok {
		s.Key = id.Fingerprint.String()
	}
	if mac, ok := c.self.mac.Now(); ok {
		s.MAC = mac.String()
	}
	if l := c.self.held(); l.Prefix.IsValid() {
		s.Address, s.Lease = l.Addr().String(), leaseOf(l)
	}
	return s
}

func leaseOf(l netlink.Lease) *lease {
	return &lease{
		Prefix: l.Prefix.String(), Router: textOf(l.Router), Server: textOf(l.Server),
		StoringServer: strings.Join(l.StoringServers, " "), Start: l.Start, Renew: l.Renew, Expiry: l.Expiry,
	}
}
