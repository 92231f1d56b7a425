package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"flexphone/testbed"
	"flexphone/testbed/ears"
)

// linphone is another make that ours is beside.
const linphone = "linphone"

// addLinphones starts two of linphone, where it is installed.
func (b *bench) addLinphones(ctx context.Context, speech []int16) error {
	if _, err := exec.LookPath(testbed.LinphonePath); err != nil {
		b.report.absent = append(b.report.absent, "linphone: not installed (apt-get install linphone-cli)")
		return nil
	}
	theirs := &linphones{}
	places := [2]netip.Addr{pools[0].Address(linphonesFrom), pools[1].Address(linphonesFrom)}
	for i := range theirs.ends {
		p, err := b.bed.AddLinphone(ctx, speech, places[i])
		if err != nil {
			return err
		}
		theirs.ends[i] = p
	}
	b.parties = append(b.parties, &party{pair: theirs, maker: linphone, ears: ears.New(places), late: theirsLate, from: linphonesFrom})
	return nil
}

// linphones are a pair of linphone.
type linphones struct{ ends [2]*testbed.Linphone }

func (p *linphones) pids() [2]int { return [2]int{p.ends[0].Pid(), p.ends[1].Pid()} }

func (p *linphones) move(end int, to netip.Addr) error { return p.ends[end].Move(to) }

func (p *linphones) call(ctx context.Context, lift time.Duration) (s setup, err error) {
	caller, callee := p.ends[0], p.ends[1]
	caller.Mark()
	callee.Mark()
	s.security = plain
	s.dialed = time.Now()
	if err := caller.Dial(fmt.Sprintf("sip:%s", callee.Addr)); err != nil {
		return s, err
	}
	if s.rang, err = callee.Await(ctx, "Receiving new incoming call"); err != nil {
		return s, err
	}
	if s.heardRing, err = caller.Await(ctx, "ringing."); err != nil {
		return s, err
	}
	if err := pause(ctx, time.Until(s.rang.Add(lift))); err != nil {
		return s, err
	}
	s.lifted = time.Now()
	if err := callee.Answer(); err != nil {
		return s, err
	}
	for _, end := range p.ends {
		if _, err := end.Await(ctx, "Media streams established"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// hangUp ends the call at both ends, since one cannot always tell the other.
func (p *linphones) hangUp(ctx context.Context) error {
	var problems [2]error
	var both sync.WaitGroup
	for i, end := range p.ends {
		both.Go(func() {
			if problems[i] = end.Hangup(); problems[i] == nil {
				_, problems[i] = end.Await(ctx, " ended (")
			}
		})
	}
	both.Wait()
	return errors.Join(problems[:]...)
}

// settled: linphone tells nobody.
func (p *linphones) settled(context.Context, []int) error { return nil }
