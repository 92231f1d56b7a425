package main

import (
	"context"
	"errors"

	"flexphone/firmware/internal/parts"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
)

// line is the SIP agent as call control sees it: there from the beginning, though
// the agent is made when there is a key and its ports are free.
type line struct {
	keys  *parts.Slot[registry.Identity]
	cfg   sip.Config // without what the identity says
	agent parts.Slot[*sip.Agent]
}

// run is the life of an agent with one key.
func (l *line) run(ctx context.Context, works func()) error {
	id, changed, err := l.keys.Get(ctx)
	if err != nil {
		return err
	}
	cfg := l.cfg
	cfg.Identity, cfg.User = id.Certificate, id.MAC.Hex()
	agent, err := sip.NewAgent(cfg)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-changed:
			end()
		case <-life.Done():
		}
	}()
	works()
	l.agent.Set(agent)
	defer l.agent.Clear()
	if err := agent.Run(life); ctx.Err() != nil || life.Err() == nil {
		return err
	}
	return nil // another key
}

// errNoLine is what is said of a call while there is no agent.
var errNoLine = errors.New("flexphone: the line does not work")

// errNoBrowsers is what is said of a call to a browser by a program without them.
var errNoBrowsers = errors.New("flexphone: this program knows no browsers")

// Invite implements phone.Line, but for browsers.
func (l *line) Invite(ctx context.Context, to sip.Target, local sip.LocalMedia) (phone.Call, error) {
	if to.Browser {
		return nil, errNoBrowsers
	}
	agent, ok := l.agent.Now()
	if !ok {
		return nil, errNoLine
	}
	c, err := agent.Invite(ctx, to, local)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Prepare implements phone.Line.
func (l *line) Prepare(ctx context.Context, to sip.Target) error {
	agent, ok := l.agent.Now()
	if !ok {
		return errNoLine
	}
	return agent.Prepare(ctx, to)
}

// Prepared implements phone.Line.
func (l *line) Prepared(to sip.Target) bool {
	agent, ok := l.agent.Now()
	return ok && agent.Prepared(to)
}

// Incoming implements phone.Line.
func (l *line) Incoming(ctx context.Context) (phone.Call, error) {
	for {
		agent, changed, err := l.agent.Get(ctx)
		if err != nil {
			return nil, err
		}
		c, err := agent.Incoming(ctx)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, sip.ErrStopped):
			return nil, err
		}
		select { // for the next one
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
