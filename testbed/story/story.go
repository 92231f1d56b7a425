package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flexphone/testbed"
	"flexphone/testbed/ears"
)

// chapterMost is how long a part of the story may take before it is given up. Nothing
// is timed against it: it keeps a step that never comes from being waited for for ever.
const chapterMost = 30 * time.Minute

// A teller plays the story and tells it.
type teller struct {
	out io.Writer
	bed *testbed.Bed

	one, two *testbed.Phone // 101 and 102
	talk     *testbed.Talk  // of theirs, that is going on
	fixed    *testbed.Baresip
	words    []int16 // what the fixed phone says
	unjudged int     // how often the machine was too slow for sound
}

// tell plays the whole method. It stops at the first step that goes wrong.
func (t *teller) tell(ctx context.Context) error {
	began := time.Now()
	for _, chapter := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Two phones are plugged in", t.arrive},
		{"101 calls 102 by its short number", t.firstCall},
		{"102 gets another address in the middle of the call", t.move},
		{"101 calls the same number again", t.callMoved},
		{"102 calls 101 by its permanent number, the MAC in 15 digits", t.callByMAC},
		{"A fixed IP phone (baresip) is called, and calls", t.fixedPhone},
		{"A browser (Chromium) calls 101", t.browser},
		{"102 goes off the net", t.leave},
		{"102 comes back", t.comeBack},
	} {
		fmt.Fprintf(t.out, "\n%s\n", chapter.title)
		limited, cancel := context.WithTimeout(ctx, chapterMost)
		err := chapter.play(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	fmt.Fprintf(t.out, "\nAll of this took %.1f s.\n", time.Since(began).Seconds())
	if t.unjudged > 0 {
		fmt.Fprintf(t.out, "Every step was as it should be but for sound, which %d times was not judged: this machine gave the phones\n"+
			"less of real time, or of their processors, than it takes.\n", t.unjudged)
	}
	if t.bed.Board == "host" {
		fmt.Fprintf(t.out, "\nThe same with the firmware of a desk phone, as it is flashed, in QEMU: make run BOARD=imx6ul-evk\n")
	}
	return nil
}

// say tells of one step of the method: its name there, what happened, and how
// long it took; zero: not timed.
func (t *teller) say(step string, took time.Duration, format string, args ...any) {
	measure := ""
	if took != 0 {
		measure = fmt.Sprintf("%.1f ms", float64(took)/float64(time.Millisecond))
	}
	fmt.Fprintf(t.out, "  %-8s %-72s %10s\n", step, fmt.Sprintf(format, args...), measure)
}

// arrive is S21 and S22 for both phones.
func (t *teller) arrive(ctx context.Context) error {
	t.say("", 0, "an ISP (dnsmasq) leases %s to %s; it names the storing server", testbed.East.First, testbed.East.Last)
	var err error
	if t.one, err = t.plugIn(ctx, 101, "goforward"); err != nil {
		return err
	}
	t.two, err = t.plugIn(ctx, 102, "something")
	return err
}

func (t *teller) plugIn(ctx context.Context, number int, words string) (*testbed.Phone, error) {
	speech, err := testbed.Speech(words)
	if err != nil {
		return nil, err
	}
	p, err := t.bed.AddPhone(ctx, testbed.PhoneConfig{
		Name:   fmt.Sprintf("phone-%d", number),
		MAC:    testbed.MAC{0x02, 0x00, 0x5e, 0x00, 0x53, byte(number - 100)},
		Speech: speech,
	})
	if err != nil {
		return nil, err
	}
	if err := p.PowerOn(ctx); err != nil {
		return nil, err
	}
	plugged := time.Now()
	if err := p.Plug(); err != nil {
		return nil, err
	}
	if _, err := t.lease(ctx, p, plugged, "S21"); err != nil {
		return nil, err
	}
	if err := t.bed.Server.SetNumber(ctx, p.MAC, fmt.Sprint(number)); err != nil {
		return nil, err
	}
	t.say("", 0, "the operator gives %s the short number %d", p.MAC, number)
	return p, nil
}

// lease tells of p's next lease and its registration.
func (t *teller) lease(ctx context.Context, p *testbed.Phone, since time.Time, step string) (netip.Addr, error) {
	bound, err := p.Await(ctx, "lease.bound")
	if err != nil {
		return netip.Addr{}, err
	}
	t.say(step, bound.Time.Sub(since), "%s (%s) is leased %s", p.Name, p.MAC, bound.Addr())
	registered, err := p.Await(ctx, "registered")
	if err != nil {
		return netip.Addr{}, err
	}
	row, err := t.bed.Server.Row(ctx, p.MAC)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(row.Addrs) == 0 || row.Addrs[0] != bound.Addr().String() {
		return netip.Addr{}, fmt.Errorf("the storing server has %v for %s, not its lease %s", row.Addrs, p.Name, bound.Addr())
	}
	t.say("S22", registered.Time.Sub(bound.Time), "it registers it: the storing server's row is %s → %s", p.MAC, row.Addrs[0])
	return bound.Addr(), nil
}

func (t *teller) firstCall(ctx context.Context) error {
	return t.connect(ctx, t.one, t.two, "102")
}

// call is S24 to S28: from the keypad to the release.
func (t *teller) call(ctx context.Context, caller, callee *testbed.Phone, number string) error {
	if err := t.connect(ctx, caller, callee, number); err != nil {
		return err
	}
	return t.release(ctx, caller)
}

// connect is S24 to S27: from the keypad until both hear each other.
func (t *teller) connect(ctx context.Context, caller, callee *testbed.Phone, number string) error {
	talk, err := testbed.Call(ctx, caller, callee, number)
	if err != nil {
		return err
	}
	row, err := t.bed.Server.Row(ctx, callee.MAC)
	if err != nil {
		return err
	}
	if len(row.Addrs) == 0 || talk.Address.Addr().String() != row.Addrs[0] {
		return fmt.Errorf("%s called %s, the storing server's row says %v", caller.Name, talk.Address, row.Addrs)
	}
	t.say("S24", 0, "%s: handset up, dial tone, keys %s#", caller.Name, number)
	t.say("S25", talk.Resolved.Sub(talk.Dialed), "the storing server says that it is at %s", talk.Address)
	t.say("S26", talk.Rang.Sub(talk.Resolved), "%s rings", callee.Name)
	t.say("S27", talk.Established.Sub(talk.Answered), "it answers; the call is established (%s, %s)", talk.Codec, talk.Security)
	t.talk = talk
	return t.hear(ctx)
}

// hear tells what both ends of the call hear.
func (t *teller) hear(ctx context.Context) error {
	caller, callee := t.talk.Caller, t.talk.Callee
	atCaller, atCallee, err := testbed.HearEachOther(ctx, caller, callee)
	if err != nil {
		return err
	}
	return errors.Join(t.judge(caller.Name+" hears "+callee.Name, atCaller), t.judge(callee.Name+" hears "+caller.Name, atCallee))
}

// release is S28.
func (t *teller) release(ctx context.Context, by *testbed.Phone) error {
	hung := time.Now()
	if err := t.talk.HangUp(ctx, by); err != nil {
		return err
	}
	t.say("S28", time.Since(hung), "%s hangs up; the connection is released at both ends", by.Name)
	return nil
}

// judge tells who heard how much. Too little is an error where the machine gave the
// phones their time; where it did not, it is said and counted.
func (t *teller) judge(who string, h testbed.Heard) error {
	t.say("", h.Delay, "%s: %.0f %% of the words arrived, correlation %.3f", who, 100*h.Arrived, h.Correlation)
	switch {
	case h.Enough():
	case h.Judged():
		return fmt.Errorf("too little of the spoken words arrived: %.0f %%, where %.0f are asked for; %s", 100*h.Arrived, 100*h.Wanted, h.Pace)
	default:
		t.unjudged++
		t.say("", 0, "  not judged, the machine is too slow: %s", h.Pace)
	}
	return nil
}

// move is S23: another lease, in another subnet, without the phone's user, and with the
// call going on. How long the voice was away is what a listener at the phones' plugs
// finds: from the last sound before the plug is pulled until it comes steadily again,
// from and to where 102 is now. Packets come each 20 ms.
func (t *teller) move(ctx context.Context) (err error) {
	if err := t.bed.ISP.ChangePool(ctx, testbed.West); err != nil {
		return err
	}
	to := testbed.West.Address(55)
	if err := t.bed.ISP.GiveNext(ctx, t.two.MAC, to); err != nil {
		return err
	}
	t.say("", 0, "the ISP takes back its addresses, and leases %s to %s from now on", testbed.West.First, testbed.West.Last)
	var ends [2]netip.Addr
	for i, p := range []*testbed.Phone{t.one, t.two} {
		status, err := p.Status(ctx)
		if err != nil {
			return err
		}
		ends[i] = status.Addr()
	}
	e := ears.New(ends)
	stop, err := t.bed.Overhear(e.Hear, t.one, t.two)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for end := range ends {
		if err := e.Await(ctx, end, func(came []ears.Arrival) bool { return len(came) > 0 }); err != nil {
			return err
		}
	}
	t.two.Mark()
	pulled := time.Now()
	e.Moved(1, to)
	if err := t.two.Replug(ctx); err != nil {
		return err
	}
	if _, err := t.lease(ctx, t.two, pulled, "S23"); err != nil {
		return err
	}
	for end, p := range []*testbed.Phone{t.one, t.two} {
		away, err := e.Gap(ctx, end, pulled)
		if err != nil {
			return err
		}
		t.say("", away, "the call goes on; %s was without its voice for (20 ms is no loss)", p.Name)
	}
	if err := t.hear(ctx); err != nil {
		return err
	}
	return t.release(ctx, t.one)
}

func (t *teller) callMoved(ctx context.Context) error {
	return t.call(ctx, t.one, t.two, "102")
}

func (t *teller) callByMAC(ctx context.Context) error {
	return t.call(ctx, t.two, t.one, t.one.MAC.Digits())
}

// fixedPhone calls a standard telephone and is called by it.
func (t *teller) fixedPhone(ctx context.Context) error {
	var err error
	if t.words, err = testbed.Speech("numbers"); err != nil {
		return err
	}
	if t.fixed, err = t.bed.AddBaresip(ctx, testbed.BaresipConfig{Codec: "opus,pcmu", Speech: t.words}); err != nil {
		return err
	}
	one := t.one
	if _, err := one.Dial(ctx, testbed.DialledAddr(t.fixed.Addr)); err != nil {
		return err
	}
	t.say("S24", 0, "%s dials its address: %s#", one.Name, testbed.DialledAddr(t.fixed.Addr))
	if err := t.talkToFixed(ctx); err != nil {
		return err
	}
	if err := one.OnHook(ctx); err != nil {
		return err
	}
	if err := t.fixedHeard(ctx); err != nil {
		return err
	}

	status, err := one.Status(ctx)
	if err != nil {
		return err
	}
	one.Mark()
	if err := t.fixed.Dial("sip:" + one.MAC.Hex() + "@" + status.Addr().String()); err != nil {
		return err
	}
	if _, err := one.Await(ctx, "ringing"); err != nil {
		return err
	}
	t.say("S26", 0, "%s is called by it, and answers", one.Name)
	if err := one.OffHook(ctx); err != nil {
		return err
	}
	if err := t.talkToFixed(ctx); err != nil {
		return err
	}
	if err := t.fixed.Hangup(); err != nil {
		return err
	}
	if _, err := one.Await(ctx, "ended", "reason", "hangup"); err != nil {
		return err
	}
	if err := t.fixedHeard(ctx); err != nil {
		return err
	}
	return one.OnHook(ctx)
}

// talkToFixed waits until 101 and the fixed phone talk, and listens at 101.
func (t *teller) talkToFixed(ctx context.Context) error {
	e, err := t.one.Await(ctx, "established")
	if err != nil {
		return err
	}
	t.say("S27", 0, "the call is established (%s, %s)", e.Field("codec"), e.Field("security"))
	heard, err := t.one.HearSpeech(ctx, t.words)
	if err != nil {
		return err
	}
	return t.judge(t.one.Name+" hears it", heard)
}

// fixedHeard tells what the fixed phone has recorded of the call just ended.
func (t *teller) fixedHeard(ctx context.Context) error {
	if _, err := t.fixed.Await(ctx, "CALL_CLOSED"); err != nil {
		return err
	}
	heard, err := t.fixed.CompareHeard(t.one)
	if err != nil {
		return err
	}
	if err := t.judge("it hears "+t.one.Name, heard); err != nil {
		return err
	}
	t.say("S28", 0, "hung up; released at both ends")
	return nil
}

// leave is S29 and S30: the address is cancelled, and callers are told so.
func (t *teller) leave(ctx context.Context) error {
	if err := t.two.PowerOff(); err != nil {
		return err
	}
	row, err := t.bed.Server.Row(ctx, t.two.MAC)
	if err != nil {
		return err
	}
	if row.State != "offline" {
		return fmt.Errorf("%s is switched off, but its row says %q", t.two.Name, row.State)
	}
	t.say("S29", 0, "%s is switched off; it has its address cancelled: the row says %s", t.two.Name, row.State)
	return t.callInVain(ctx)
}

// callInVain has 101 call 102, which is away.
func (t *teller) callInVain(ctx context.Context) error {
	one := t.one
	dialed, err := one.Dial(ctx, "102")
	if err != nil {
		return err
	}
	ended, err := one.Await(ctx, "ended", "reason", "not connected")
	if err != nil {
		return err
	}
	status, err := one.Status(ctx)
	if err != nil {
		return err
	}
	t.say("", ended.Time.Sub(dialed.Time), "%s dials 102#, reads %q and hears the tone %q", one.Name, strings.Join(status.Display, " / "), status.Tone)
	return one.OnHook(ctx)
}

// comeBack is S30 and S29's other branch: power on without a link is initial;
// a link cut and restored leads back to standby without anybody's help.
func (t *teller) comeBack(ctx context.Context) error {
	two := t.two
	if err := two.Unplug(); err != nil {
		return err
	}
	two.Mark()
	if err := two.PowerOn(ctx); err != nil {
		return err
	}
	status, err := two.Status(ctx)
	if err != nil {
		return err
	}
	if status.State != "initial" {
		return fmt.Errorf("%s has no link, but is %s", two.Name, status.State)
	}
	t.say("S30", 0, "%s is switched on without a link: it is in the state %q", two.Name, status.State)
	plugged := time.Now()
	if err := two.Plug(); err != nil {
		return err
	}
	if _, err := t.lease(ctx, two, plugged, "S21"); err != nil {
		return err
	}
	if _, err := two.Await(ctx, "state", "state", "standby"); err != nil {
		return err
	}
	t.say("", time.Since(plugged), "%s is back in standby, by itself", two.Name)
	return t.call(ctx, t.one, two, "102")
}

// sayLogs shows the end of everybody's log, for somebody who wants to know why
// the story broke.
func (t *teller) sayLogs() {
	for _, path := range t.bed.Logs() {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(t.out, "\n-- %s\n%s\n", filepath.Base(path), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}
