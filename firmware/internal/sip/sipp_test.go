package sip_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"flexphone/firmware/internal/sip"
)

const sippCalls = 10

// sippPatience is for all its calls together; patience is for each.
const sippPatience = 2 * time.Minute

// sipp runs one of sipp's built-in scenarios. On a busy machine it takes as long as
// it takes.
func sipp(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("sipp")
	if err != nil {
		t.Skip("needs sipp (Debian package sip-tester)")
	}
	ctx, cancel := context.WithTimeout(context.Background(), sippPatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// TestSippCalls: sipp's uac calls us, we answer, it hangs up.
func TestSippCalls(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, transport := range map[string]string{"UDP": "u1", "TCP": "t1"} {
		t.Run(name, func(t *testing.T) {
			b := newPhone(t, userB)
			ctx, cancel := context.WithCancel(patience(t))
			taken := make(chan error, 1)
			go func() { taken <- answerAll(ctx, b) }()
			out, err := sipp(t, b.SIPAddr().String(), "-sn", "uac", "-s", userB, "-i", "127.0.0.1", "-t", transport,
				"-m", fmt.Sprint(sippCalls), "-r", "20", "-d", "50").CombinedOutput()
			if err != nil {
				t.Errorf("sipp: %v\n%s", err, out)
			}
			cancel()
			must(t, <-taken)
		})
	}
}

// answerAll answers every call and waits for its end.
func answerAll(ctx context.Context, p *phone) error {
	for {
		c, err := p.Incoming(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.Ring(); err != nil {
			return err
		}
		// sipp may have hung up before this one was told that it has answered.
		if err := c.Answer(of(c, 5000)); err != nil && !errors.Is(err, sip.ErrEnded) {
			return err
		}
	}
}

// TestSippAnswers: we call sipp's uas and hang up.
func TestSippAnswers(t *testing.T) {
	t.Parallel() // it waits most of the time
	a := newPhone(t, userA)
	at := netip.MustParseAddrPort("127.0.1.60:5060") // which no other test takes meanwhile
	cmd := sipp(t, "-sn", "uas", "-i", at.Addr().String(), "-p", fmt.Sprint(at.Port()), "-m", fmt.Sprint(sippCalls))
	must(t, cmd.Start())
	for n := range sippCalls {
		c := firstAnswer(t, a, sip.Target{User: userB, Addr: at})
		must(t, c.Hangup(patience(t)))
		if e := expect(t, c, sip.Ended, sip.ReasonHangup); e.Code != 0 {
			t.Errorf("call %d: code %d", n, e.Code)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("sipp: %v", err)
	}
}

// firstAnswer calls until somebody listens there: sipp says nowhere when it
// is ready.
func firstAnswer(t *testing.T, a *phone, to sip.Target) *sip.Call {
	t.Helper()
	for ctx := patience(t); ; {
		c := a.dials(to)
		for {
			e, err := c.Next(ctx)
			must(t, err)
			if e.Kind == sip.Established {
				return c
			}
			if e.Kind == sip.Ended {
				if e.Reason != sip.ReasonUnreachable {
					t.Fatalf("sipp refuses: %+v", e)
				}
				break
			}
		}
	}
}
