package finder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A town is a Finder in simulated time, with a DNS.
type town struct {
	*Finder
	start time.Time
	log   bytes.Buffer

	mu    sync.Mutex
	dns   map[string]string        // servers by domain; absent: no such name
	slow  map[string]time.Duration // until it answers
	mute  bool                     // no name server answers: nobody listens there
	asked []string
	found []string
}

func (w *town) services(ctx context.Context, domain string) ([]string, error) {
	w.mu.Lock()
	w.asked = append(w.asked, fmt.Sprintf("%.0f:%s", time.Since(w.start).Seconds(), domain))
	slow := w.slow[domain]
	w.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mute {
		return nil, errors.New("connection refused")
	}
	if s := w.dns[domain]; s != "" {
		return strings.Fields(s), nil
	}
	return nil, ErrNoName
}

// now returns what was found since it was asked last, with its time in
// milliseconds.
func (w *town) now() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.found, " ")
	w.found = nil
	return out
}

func (w *town) set(domain, servers string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dns[domain] = servers
}

func inTown(t *testing.T, fixed string, script func(w *town)) {
	synctest.Test(t, func(t *testing.T) {
		w := &town{start: time.Now(), dns: map[string]string{}, slow: map[string]time.Duration{}}
		w.Finder = New(Config{Fixed: fixed, Services: w.services, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Found: func(groups [][]string) {
			var texts []string
			for _, g := range groups {
				texts = append(texts, strings.Join(g, ","))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.found = append(w.found, fmt.Sprintf("%d:%s", time.Since(w.start).Milliseconds(), strings.Join(texts, "|")))
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		script(w)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	})
}

func TestWhatIsFoundAtOnce(t *testing.T) {
	const srv = "r.office.test:5684"
	for _, tt := range []struct {
		name, fixed string
		network     Network
		want, says  string
		questions   int
	}{
		{name: "settings", fixed: "coaps://[2001:db8::2]", network: Network{Named: []string{"192.0.2.9"}, Domains: []string{"office.test"}}, want: "0:[2001:db8::2]:5684"},
		{name: "a sure option", network: Network{Named: []string{"coaps://192.0.2.2"}, Domains: []string{"office.test"}}, want: "0:192.0.2.2:5684"},
		{name: "160 before 66", network: Network{Named: []string{"192.0.2.1", "192.0.2.2"}}, want: "0:192.0.2.1:5684|192.0.2.2:5684"},
		{name: "a plain option does not hide a record", network: Network{Named: []string{"192.0.2.2"}, Domains: []string{"office.test"}},
			want: "0:192.0.2.2:5684 0:192.0.2.2:5684|" + srv, questions: 1},
		{name: "what is meant for others does not either", network: Network{Named: []string{"tftp://192.0.2.2/x", "http://192.0.2.3/"}, Domains: []string{"office.test"}},
			want: "0:" + srv, says: "named=tftp://192.0.2.2", questions: 1},
		{name: "half of it is for others", network: Network{Named: []string{"http://192.0.2.3/ coaps://192.0.2.2"}}, want: "0:192.0.2.2:5684", says: `named="http://192.0.2.3/ `},
		{name: "the second domain", network: Network{Domains: []string{"home.test", "office.test"}}, want: "0:" + srv, questions: 2},
		{name: "the first of two that know", network: Network{Domains: []string{"office.test", "lab.test"}}, want: "0:" + srv, questions: 2},
		{name: "nothing", says: "names no storing server"},
	} {
		inTown(t, tt.fixed, func(w *town) {
			w.set("office.test", srv)
			w.set("lab.test", "lab:1")
			w.SetNetwork(tt.network)
			if got := w.now(); got != tt.want {
				t.Errorf("%s: found %q; want %q", tt.name, got, tt.want)
			}
			time.Sleep(time.Hour)
			w.SetNetwork(tt.network) // a renewal
			if got := w.now(); got != "" || len(w.asked) != tt.questions {
				t.Errorf("%s: an hour later found %q after %q", tt.name, got, w.asked)
			}
			if got := w.log.String(); !strings.Contains(got, tt.says) || (tt.says == "") != (got == "") || strings.Count(got, tt.says) > 1 && tt.says != "" {
				t.Errorf("%s: the log says %q; want %q, once", tt.name, got, tt.says)
			}
		})
	}
}

// The router boots more slowly than the phone: its DNS comes later.
func TestTheDNSComesLate(t *testing.T) {
	inTown(t, "", func(w *town) {
		w.SetNetwork(Network{Domains: []string{"office.test"}})
		time.Sleep(20 * time.Second)
		w.set("office.test", "r:5684")
		time.Sleep(20 * time.Second)
		if got := w.now(); got != "31000:r:5684" {
			t.Errorf("found %q after %q", got, w.asked)
		}
		if want := []string{"0:office.test", "1:office.test", "3:office.test", "7:office.test", "15:office.test", "31:office.test"}; !slices.Equal(w.asked, want) {
			t.Errorf("asked %q; want %q", w.asked, want)
		}
		if n := strings.Count(w.log.String(), "WARN"); n != 1 {
			t.Errorf("%d lines in the log; want one:\n%s", n, w.log.String())
		}
	})
	inTown(t, "", func(w *town) { // never
		w.SetNetwork(Network{Domains: []string{"office.test"}})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.asked); n < 60 || n > 70 {
			t.Errorf("asked %d times in an hour", n)
		}
	})
}

// Name servers that do not answer may come up any time: they are asked again after
// an eighth of the time that they have been mute, and at once when there is reason.
func TestTheNameServerIsMute(t *testing.T) {
	for _, late := range []time.Duration{100 * time.Millisecond, 2 * time.Second, 8 * time.Second, 45 * time.Second, 3 * time.Minute} {
		inTown(t, "", func(w *town) {
			w.mute = true
			w.set("office.test", "r:5684")
			w.SetNetwork(Network{Domains: []string{"office.test"}})
			time.Sleep(late)
			w.mu.Lock()
			w.mute = false
			w.mu.Unlock()
			time.Sleep(max(late, time.Second))
			at := time.Duration(0)
			_, err := fmt.Sscanf(strings.TrimSuffix(w.now(), ":r:5684"), "%d", &at)
			if waited := at*time.Millisecond - late; err != nil || waited < 0 || waited > max(late/8, mutePause)+time.Millisecond {
				t.Errorf("%v late: found %v after that, %v; asked %q", late, waited, err, w.asked)
			}
			if n := strings.Count(w.log.String(), "WARN"); n != 1 {
				t.Errorf("%v late: %d lines in the log; want one", late, n)
			}
		})
	}
	inTown(t, "", func(w *town) { // never, and then there are others to ask
		w.mute = true
		w.set("office.test", "r:5684")
		w.SetNetwork(Network{Domains: []string{"office.test"}})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.asked); n < 60 || n > 150 {
			t.Errorf("asked %d times in an hour", n)
		}
		w.mu.Lock()
		w.mute = false
		w.mu.Unlock()
		w.Again()
		if got := w.now(); got != "3600000:r:5684" {
			t.Errorf("found %q; want it as soon as there is reason to ask", got)
		}
	})
}

// Again makes nobody ask who has found.
func TestNothingToAskAgain(t *testing.T) {
	inTown(t, "", func(w *town) {
		w.set("office.test", "r:5684")
		w.SetNetwork(Network{Domains: []string{"office.test"}})
		w.now()
		for range 5 {
			w.Again()
			time.Sleep(time.Second)
		}
		if got := w.now(); got != "" || len(w.asked) != 1 {
			t.Errorf("found %q after %q", got, w.asked)
		}
	})
}

// A domain whose name server is dead must not keep another from being used.
func TestASlowDomain(t *testing.T) {
	for slow, want := range map[time.Duration]string{
		100 * time.Millisecond: "100:a:1", // the first one, since it comes soon
		5 * time.Second:        "400:b:1",
	} {
		inTown(t, "", func(w *town) {
			w.set("a.test", "a:1")
			w.set("b.test", "b:1")
			w.slow["a.test"] = slow
			w.SetNetwork(Network{Domains: []string{"a.test", "b.test"}})
			time.Sleep(time.Minute)
			if got := w.now(); got != want {
				t.Errorf("slow by %v: found %q; want %q", slow, got, want)
			}
		})
	}
}

// Another network cuts a search short.
func TestTheNetworkChanges(t *testing.T) {
	inTown(t, "", func(w *town) {
		w.set("a.test", "a:1")
		w.set("b.test", "b:1")
		w.slow["a.test"] = 4 * time.Second
		w.SetNetwork(Network{Domains: []string{"a.test"}})
		time.Sleep(time.Second)
		w.SetNetwork(Network{Domains: []string{"b.test"}})
		time.Sleep(time.Minute)
		if got := w.now(); got != "1000:b:1" {
			t.Errorf("found %q; want what the second network knows, at once", got)
		}
		w.SetNetwork(Network{Named: []string{"192.0.2.1"}})
		if got := w.now(); got != "61000:192.0.2.1:5684" {
			t.Errorf("found %q", got)
		}
	})
}

// Who has answered is stayed with; who moved is found again.
func TestServersLeave(t *testing.T) {
	inTown(t, "", func(w *town) {
		w.set("office.test", "a:1")
		w.SetNetwork(Network{Named: []string{"192.0.2.1"}, Domains: []string{"office.test"}})
		w.now()
		for range 3 { // announcements
			w.Answers("a:1")
		}
		if got := w.now(); got != "0:a:1" {
			t.Errorf("after it answered: %q; want it alone", got)
		}
		if got := w.log.String(); strings.Count(got, "named=[192.0.2.1:5684] answers=a:1") != 1 || strings.Count(got, "\n") != 1 {
			t.Errorf("the log says %q; want one line, of what was named and did not answer", got)
		}
		time.Sleep(time.Minute)
		w.set("office.test", "b:1")
		w.Doubt()
		if got := w.now(); got != "60000:192.0.2.1:5684|b:1" {
			t.Errorf("a server that moved: found %q", got)
		}
		w.Answers("192.0.2.1:5684")
		if got := w.now(); got != "60000:192.0.2.1:5684" {
			t.Errorf("the other one answered: found %q", got)
		}
		for range 20 {
			w.Doubt()
			time.Sleep(10 * time.Second)
		}
		if got := w.now(); got != "180000:192.0.2.1:5684|b:1" {
			t.Errorf("the other one is away: found %q; want to be faithful for two minutes", got)
		}
		if n := len(w.asked); n < 5 || n > 10 {
			t.Errorf("the DNS was asked %d times: %q", n, w.asked)
		}
	})
}

// Who knows of a server by the DNS alone, and hears nothing of its name servers, has a
// line that may be dead. That a server is not there is an answer, and who knows of one
// otherwise does not need them.
func TestMute(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fixed string
		n     Network
		slow  bool // a.test's name servers say nothing
		want  bool
	}{
		{"silence", "", Network{Domains: []string{"a.test"}}, true, true},
		{"silence of one, and no name at another", "", Network{Domains: []string{"none.test", "a.test"}}, true, true},
		{"no name", "", Network{Domains: []string{"none.test"}}, false, false},
		{"no domain", "", Network{}, true, false},
		{"named by the network too", "", Network{Named: []string{"192.0.2.1"}, Domains: []string{"a.test"}}, true, false},
		{"named by the settings", "192.0.2.1", Network{Domains: []string{"a.test"}}, true, false},
	} {
		inTown(t, tt.fixed, func(w *town) {
			if tt.slow {
				w.slow["a.test"] = time.Hour
			}
			if w.Mute() {
				t.Errorf("%s: mute before anything is known", tt.name)
			}
			w.SetNetwork(tt.n)
			time.Sleep(20 * time.Second)
			if w.Mute() != tt.want {
				t.Errorf("%s: mute is %v", tt.name, w.Mute())
			}
			w.set("b.test", "b:1")
			w.SetNetwork(Network{Domains: []string{"b.test"}})
			time.Sleep(time.Second)
			if w.Mute() {
				t.Errorf("%s: mute in a network that knows one", tt.name)
			}
		})
	}
}

// A network that names nothing is complained of once, and again after another has
// named something.
func TestNamelessNetwork(t *testing.T) {
	inTown(t, "", func(w *town) {
		for _, named := range []string{"", "", "192.0.2.9:5684", "", ""} {
			var n Network
			if named != "" {
				n.Named = []string{named}
			}
			w.SetNetwork(n)
		}
		if got := strings.Count(w.log.String(), "names no storing server"); got != 2 || strings.Count(w.log.String(), "\n") != 2 {
			t.Errorf("said %d times; want 2:\n%s", got, w.log.String())
		}
	})
}
