package phone

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"flexphone/firmware/internal/events"
	"flexphone/firmware/internal/sip"
	"flexphone/hal"
)

// stopWait bounds how long a phone that is switched off waits for its calls. It
// is longer than the release of a call whose peer does not answer.
const stopWait = releaseWait + time.Second

// mostPending is how many calls that came in may be neither taken nor refused.
// Further ones stay in the line, which refuses what it cannot hold.
const mostPending = 8

// The pause before a part that has failed is tried again.
const (
	partPauseFirst = time.Second
	partPauseMost  = 30 * time.Second
)

// shell is Run's own: what carries out the actions of step.
type shell struct {
	*Phone
	timers  map[int]*running // what the model waits for, by id
	calls   map[int]*leash   // functions of calls that run
	works   sync.WaitGroup   // these functions, and refusals
	pending chan struct{}    // holds one for each call that is neither taken nor refused
	shown   View

	// What the lamp and the display are to show, until they do. Each is written
	// beside call control, which a bus that hangs must not keep from a call.
	lamp  chan hal.LampState
	lines chan [2]string
}

// running is a timer that runs.
type running struct {
	timer
	clock *time.Timer
}

// A leash holds the function of one call.
type leash struct {
	*ending
	ring   chan struct{} // closed when it may ring
	answer chan struct{} // closed when the user answers
	moves  chan struct{} // holds one when this phone has another address
	holds  atomic.Bool   // the peer is to be on hold
	wishes chan struct{} // holds one when that has changed
}

// movedHere is that this phone has another address.
func (l *leash) movedHere() {
	select {
	case l.moves <- struct{}{}:
	default: // one is waiting already, and will read the newest address
	}
}

// hold is that the peer is to be on hold, or no longer.
func (l *leash) hold(is bool) {
	l.holds.Store(is)
	select {
	case l.wishes <- struct{}{}:
	default: // likewise
	}
}

// Run works the phone until ctx is done; it then releases the calls that go on,
// and returns ctx's error. It does not end before: a part that fails is told of
// and tried again, and a panic costs the calls.
func (p *Phone) Run(ctx context.Context) error {
	s := &shell{Phone: p, timers: map[int]*running{}, calls: map[int]*leash{}, pending: make(chan struct{}, mostPending),
		lamp: make(chan hal.LampState, 1), lines: make(chan [2]string, 1)}
	s.report(events.State{State: string(Initial)})

	var readers sync.WaitGroup
	defer readers.Wait()
	readers.Go(func() { s.read(ctx, "keypad", s.readKey) })
	readers.Go(func() { s.read(ctx, "hook switch", s.readHook) })
	readers.Go(func() { s.read(ctx, "line", s.readLine) })
	s.works.Go(func() { write(ctx, s, "lamp", s.lamp, s.parts.Lamp.SetLamp) })
	s.works.Go(func() {
		write(ctx, s, "display", s.lines, func(l [2]string) error { return s.parts.Display.Show(l[0], l[1]) })
	})

	var m model
	s.show(view(m))
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return ctx.Err()
		case e := <-p.events:
			m = s.next(ctx, m, e)
		}
	}
}

// next is one step. One that panics ends the calls, and the phone goes on from a
// model that is safe.
func (s *shell) next(ctx context.Context, m model, e event) model {
	next := m
	var actions []action
	decide := func() { next, actions = step(m, e) }
	apply := func() { s.apply(ctx, m, next, actions) }
	if s.contain("call control", decide) && s.contain("call control", apply) {
		return next
	}
	for _, l := range s.calls { // whatever the model knows of them
		l.wish(ReasonBroken)
	}
	if o, is := e.(offered); is {
		s.refuse(ctx, o.call, ReasonBroken)
	}
	next, actions = m.safe()
	s.contain("call control", apply)
	return next
}

func (s *shell) apply(ctx context.Context, old, m model, actions []action) {
	s.setTimers(ctx, m.timers())
	s.away.Store(!m.leased)
	// Before the events: who asks because of one is told of what has become.
	status := statusOf(m)
	s.mu.Lock()
	s.status, s.focus = status, m.focus
	s.mu.Unlock()
	for _, a := range actions {
		s.do(ctx, a)
	}
	for id := range s.calls {
		if m.find(id) < 0 {
			delete(s.calls, id)
		}
	}
	s.show(view(m))
	if was, is := old.state(), m.state(); is != was {
		s.parts.Log.Debug("phone state", "state", is, "was", was)
		s.report(events.State{State: string(is)})
	}
}

func (s *shell) setTimers(ctx context.Context, want map[int]timer) {
	for id, r := range s.timers {
		if want[id] != r.timer {
			r.clock.Stop()
			delete(s.timers, id)
		}
	}
	for id, t := range want {
		if s.timers[id] == nil {
			s.timers[id] = &running{t, time.AfterFunc(t.d, func() { s.post(ctx, timedOut{id, t.seq}) })}
		}
	}
}

func (s *shell) do(ctx context.Context, a action) {
	switch a := a.(type) {
	case place:
		s.begin(ctx, a.id, func(ctx context.Context, w *worker) Reason { return w.placeCall(ctx, a.to) })
	case take:
		s.settled()
		s.begin(ctx, a.id, func(ctx context.Context, w *worker) Reason { return w.takeCall(ctx, a.line, a.ask) })
	case refuse:
		s.refuse(ctx, a.line, busyWith)
	case sendDigit:
		s.sendDigit(a)
	case rate:
		s.rate(ctx, a.id)
	case accept:
		s.contain("book", func() { s.parts.Book.Accept(a.name, sip.Target{User: a.with.user, Pin: a.with.key}) })
	case click:
		s.contain("sound", func() { s.parts.Sound.Click(a.key) })
	case turn:
		s.turn(ctx, a)
	case mute:
		s.contain("sound", func() { s.parts.Sound.Mute(a.is) })
	case report:
		s.report(a.Event)
	case ring:
		s.leashed(a.id, func(l *leash) { close(l.ring) })
	case answer:
		s.leashed(a.id, func(l *leash) { close(l.answer) })
	case release:
		s.leashed(a.id, func(l *leash) { l.wish(a.reason) })
	case move:
		s.leashed(a.id, (*leash).movedHere)
	case hold:
		s.leashed(a.id, func(l *leash) { l.hold(a.is) })
	}
}

func (s *shell) leashed(id int, f func(*leash)) {
	if l := s.calls[id]; l != nil {
		f(l)
	}
}

func (s *shell) report(e events.Event) {
	s.contain("report", func() { s.parts.Report(e) })
}

// begin runs the function of a call. It ends with callGone, whatever happens.
func (s *shell) begin(ctx context.Context, id int, f func(context.Context, *worker) Reason) {
	// The call outlives ctx by as long as its release takes.
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &leash{ending: &ending{cancel: cancel}, ring: make(chan struct{}), answer: make(chan struct{}), moves: make(chan struct{}, 1), wishes: make(chan struct{}, 1)}
	s.calls[id] = l
	w := &worker{Phone: s.Phone, leash: l, id: callID(id), post: func(e event) { s.post(ctx, e) }}
	s.works.Go(func() {
		defer cancel()
		reason := w.run(callCtx, f)
		w.post(callGone{w.id, reason})
	})
}

// refuse tells a caller why this phone does not take its call.
func (s *shell) refuse(ctx context.Context, line Call, why Reason) {
	s.works.Go(func() {
		defer s.settled()
		s.tellEnd(ctx, line, why.status(), why)
	})
}

// settled makes room for the next call that comes in.
func (s *shell) settled() {
	select {
	case <-s.pending:
	default:
	}
}

func (s *shell) sendDigit(a sendDigit) {
	s.mu.Lock()
	stream := s.streams[a.id]
	s.mu.Unlock()
	if stream == nil {
		return
	}
	var err error
	if !s.contain("digit of a call", func() { err = stream.SendDigit(a.key) }) {
		s.leashed(a.id, func(l *leash) { l.wish(ReasonBroken) })
	}
	if err != nil {
		s.parts.Log.Warn("digit not sent", "err", err)
	}
}

// rate tells the model how good a call is.
func (s *shell) rate(ctx context.Context, id int) {
	s.mu.Lock()
	stream := s.streams[id]
	s.mu.Unlock()
	if stream == nil {
		return
	}
	opinion, way := 0.0, ""
	s.contain("statistics of a call", func() { opinion, way = stream.Opinion(), stream.Way() })
	if way == "" {
		way = s.link(id)
	}
	s.works.Go(func() { s.post(ctx, callRated{callID(id), opinion, way}) })
}

// turn makes something louder or quieter, and has the display tell.
func (s *shell) turn(ctx context.Context, a turn) {
	line := ""
	if s.contain("sound", func() { line = s.parts.Sound.Turn(a.by, a.ringer) }) {
		s.works.Go(func() { s.post(ctx, turned{line}) })
	}
}

// stop ends everything. Events are of no use any more.
func (s *shell) stop() {
	s.setTimers(context.Background(), nil)
	for _, l := range s.calls {
		l.wish(ReasonStopped)
	}
	released := make(chan struct{})
	go func() {
		s.works.Wait()
		close(released)
	}()
	limit := time.NewTimer(stopWait)
	defer limit.Stop()
	select {
	case <-released:
	case <-limit.C:
		s.parts.Log.Error("a call was not released in time")
	}
	s.contain("sound", func() { s.parts.Sound.Play(Silence) })
}

func (s *shell) show(v View) {
	old := s.shown
	s.shown = v
	if v.Tone != old.Tone {
		s.contain("sound", func() { s.parts.Sound.Play(v.Tone) })
	}
	if v.Lamp != old.Lamp {
		replace(s.lamp, v.Lamp)
	}
	if v.Line1 != old.Line1 || v.Line2 != old.Line2 {
		replace(s.lines, [2]string{v.Line1, v.Line2})
	}
}

// replace makes v what c holds, in place of what nobody has taken yet.
func replace[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	c <- v
}

// write writes to a part what is wanted until ctx is done, the newest only. One
// that fails is told of once, and tried again after a pause that grows.
func write[T any](ctx context.Context, s *shell, part string, wanted <-chan T, to func(T) error) {
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	trial := trial{shell: s, part: part}
	var v T
	for {
		select {
		case <-ctx.Done():
			return
		case v = <-wanted:
		case <-again.C:
		}
		again.Stop()
		if pause := trial.of(ctx, func() error { return to(v) }); pause > 0 {
			again.Reset(pause)
		}
	}
}

// A trial is of a part that may fail.
type trial struct {
	*shell
	part   string
	pause  time.Duration
	failed string // why; "": it works
}

// of tries the part once more, and tells of it if it has failed, or works again.
// After a failure it returns how long to wait.
func (t *trial) of(ctx context.Context, once func() error) time.Duration {
	var err error
	if !t.contain(t.part, func() { err = once() }) {
		err = errPanicked
	}
	switch {
	case err == nil && t.failed == "":
		return 0
	case err == nil:
		t.failed, t.pause = "", 0
		t.PartWorks(ctx, t.part)
		return 0
	case err.Error() != t.failed:
		t.failed = err.Error()
		t.PartFailed(ctx, t.part, err)
	}
	t.pause = min(max(2*t.pause, partPauseFirst), partPauseMost)
	return t.pause
}

// read reads a part again and again until ctx is done.
func (s *shell) read(ctx context.Context, part string, once func(context.Context) error) {
	trial := trial{shell: s, part: part}
	for ctx.Err() == nil {
		if pause := trial.of(ctx, func() error { return once(ctx) }); pause > 0 {
			sleep(ctx, pause)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *shell) readKey(ctx context.Context) error {
	k, err := s.parts.Keypad.ReadKey(ctx)
	if err == nil && k.Motion == hal.Down {
		s.post(ctx, keyPressed{k.Key})
	}
	return err
}

func (s *shell) readHook(ctx context.Context) error {
	h, err := s.parts.Hook.ReadHook(ctx)
	if err == nil {
		s.post(ctx, hookMoved{h})
	}
	return err
}

func (s *shell) readLine(ctx context.Context) error {
	select {
	case s.pending <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	offers := false
	defer func() {
		if !offers {
			s.settled()
		}
	}()
	c, err := s.parts.Line.Incoming(ctx)
	if err != nil {
		return err
	}
	var peer sip.Peer
	if offers = s.contain("call", func() { peer = c.Peer() }); !offers {
		s.tellEnd(ctx, c, ReasonBroken.status(), ReasonBroken)
		return nil
	}
	o := offered{call: c, from: callerName(peer), by: callerOf(peer), known: peer.Known}
	if peer.Browser {
		o.page = peer.DisplayName
	}
	s.post(ctx, o)
	return nil
}
