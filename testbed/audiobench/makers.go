package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"flexphone/testbed"
)

// A pair is two telephones of one make that the exchange joins.
type pair interface {
	// call has the first call the second by the exchange, or directly, and returns when
	// both say that they talk.
	call(ctx context.Context, directly bool) error
	// hangUp returns when both are ready again.
	hangUp(ctx context.Context) error
	// callee is whom the exchange is to call.
	callee() (user string, addr netip.Addr)
	// account is what the end that hears says of a call; empty: nothing.
	account(ctx context.Context) string
	pids() [2]int
	ports() string // how those of their cards begin
}

// A maker is a pair and its name.
type maker struct {
	pair
	name string
}

const (
	flexphone = "flexphone"
	baresip   = "baresip"
	smallest  = "baresip, smallest buffers"
)

// Where the ends of a pair are: in different networks, so that there can be a long way
// between them.
var pools = [2]testbed.Pool{testbed.East, testbed.West}

// phones are a pair of ours.
type phones struct {
	ends     [2]*testbed.Phone
	exchange netip.Addr
}

const number = "102"

func addOurs(ctx context.Context, bed *testbed.Bed, x *testbed.Exchange, talkative bool) (*phones, error) {
	speech, err := testbed.Speech("goforward")
	if err != nil {
		return nil, err
	}
	p := &phones{exchange: x.Addr}
	for i := range p.ends {
		phone, err := bed.AddPhone(ctx, testbed.PhoneConfig{
			Name: fmt.Sprintf("phone-%d", 101+i), MAC: testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(1 + i)},
			Speech: speech, Card: card, StoringServer: testbed.ServerAddr().String(), Addr: pools[i].Address(0), Talkative: talkative,
		})
		if err != nil {
			return nil, err
		}
		if err := phone.PowerOn(ctx); err != nil {
			return nil, err
		}
		if err := phone.Plug(); err != nil {
			return nil, err
		}
		if _, err := phone.Await(ctx, "registered"); err != nil {
			return nil, err
		}
		if err := bed.Server.SetNumber(ctx, phone.MAC, fmt.Sprint(101+i)); err != nil {
			return nil, err
		}
		p.ends[i] = phone
	}
	return p, nil
}

func (p *phones) pids() [2]int  { return [2]int{p.ends[0].Pid(), p.ends[1].Pid()} }
func (p *phones) ports() string { return "PortAudio" }

func (p *phones) callee() (string, netip.Addr) {
	return fmt.Sprintf("%x", p.ends[1].MAC[:]), pools[1].Address(0)
}

func (p *phones) account(ctx context.Context) string {
	s, err := p.ends[1].Status(ctx)
	if err != nil {
		return err.Error()
	}
	return string(s.Call)
}

func (p *phones) call(ctx context.Context, directly bool) error {
	dialled := testbed.DialledAddr(p.exchange)
	if directly {
		dialled = number
	}
	for _, end := range p.ends {
		end.Mark()
	}
	if err := p.ends[0].Do(ctx, "dial", dialled); err != nil {
		return err
	}
	if _, err := p.ends[1].Await(ctx, "ringing"); err != nil {
		return err
	}
	if err := p.ends[1].Do(ctx, "answer"); err != nil {
		return err
	}
	for _, end := range p.ends {
		if _, err := end.Await(ctx, "established"); err != nil {
			return err
		}
	}
	return nil
}

func (p *phones) hangUp(ctx context.Context) error {
	for _, end := range p.ends {
		if err := end.Do(ctx, "hangup"); err != nil {
			return err
		}
	}
	for _, end := range p.ends {
		for {
			s, err := end.Status(ctx)
			if err != nil {
				return err
			}
			if s.State == "standby" {
				break
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("audiobench: wait until %s has hung up: it is in %s: %w", end.Name, s.State, err)
			}
		}
	}
	return nil
}

// baresips are a pair of baresip.
type baresips struct {
	ends     [2]*testbed.Baresip
	exchange netip.Addr
}

func addTheirs(ctx context.Context, bed *testbed.Bed, x *testbed.Exchange, place int, b testbed.Buffers) (*baresips, error) {
	p := &baresips{exchange: x.Addr}
	speech, err := testbed.Speech("goforward") // a card has none, but the file is made
	if err != nil {
		return nil, err
	}
	for i := range p.ends {
		if p.ends[i], err = bed.AddBaresip(ctx, testbed.BaresipConfig{
			Codec: "opus,pcmu", Speech: speech, Card: true, Buffers: b, Waits: true, Addr: pools[i].Address(place),
		}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *baresips) pids() [2]int  { return [2]int{p.ends[0].Pid(), p.ends[1].Pid()} }
func (p *baresips) ports() string { return "baresip" }

func (p *baresips) callee() (string, netip.Addr) { return p.ends[1].User(), p.ends[1].Addr }

func (p *baresips) account(context.Context) string { return "" }

func (p *baresips) call(ctx context.Context, _ bool) error {
	for _, end := range p.ends {
		end.Mark()
	}
	if err := p.ends[0].Dial(fmt.Sprintf("sip:x@%s", p.exchange)); err != nil {
		return err
	}
	if _, err := p.ends[1].Await(ctx, "CALL_INCOMING"); err != nil {
		return err
	}
	if err := p.ends[1].Answer(); err != nil {
		return err
	}
	for _, end := range p.ends {
		if _, err := end.Await(ctx, "CALL_ESTABLISHED"); err != nil {
			return err
		}
	}
	return nil
}

// again is after how long a baresip is told once more to hang up: one that is busy forgets
// it now and then.
const again = 5 * time.Second

func (p *baresips) hangUp(ctx context.Context) error {
	for {
		if err := p.ends[0].Hangup(); err != nil {
			return err
		}
		// Who hangs up says nothing, and is ready before the other hears of it.
		bounded, cancel := context.WithTimeout(ctx, again)
		_, err := p.ends[1].Await(bounded, "CALL_CLOSED")
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
