package finder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// When the DNS is asked for storing servers again.
const (
	// retryFirst is after it has said that there are none; later pauses are twice as
	// long each, up to retryMost: somebody has to change it.
	retryFirst = 1 * time.Second
	retryMost  = 1 * time.Minute
	// mutePause is after no name server has answered, as those of a router that boots
	// more slowly than the phone; later pauses are the muteShare-th part of the time
	// that they have been mute, up to retryMost: who comes back after a minute is
	// asked within eight seconds.
	mutePause = 250 * time.Millisecond
	muteShare = 8
	// doubtEvery is how often it is asked while those that are known do not answer.
	doubtEvery = 30 * time.Second
	// faithful is for how long a phone stays with the way by which it has found its
	// server, when that does not answer: the servers of another way may be
	// somebody else's, and not know whom it calls.
	faithful = 2 * time.Minute
	// searchMost bounds one search in all domains.
	searchMost = 6 * time.Second
)

// A Network is what a network says of storing servers.
type Network struct {
	Named   []string // what its DHCP options name, as sent, the surest first
	Domains []string // in which the DNS may know of some
}

// A Config says how a Finder works.
type Config struct {
	// Fixed is what the settings name, as Parse takes it; not empty: nothing else
	// is looked for.
	Fixed string
	// Services looks up the storing servers of a domain: Resolver's.
	Services func(ctx context.Context, domain string) ([]string, error)
	// Found is told which servers to try, in groups, the surest first; from one
	// goroutine at a time. It must not call the Finder.
	Found func(groups [][]string)
	Log   *slog.Logger
}

// A Finder keeps searching until there is a storing server, and goes on when it
// leaves.
type Finder struct {
	cfg  Config
	wake chan struct{} // one slot

	mu       sync.Mutex
	version  int // of network
	network  Network
	named    [][]string
	sure     bool     // one of named is ours without doubt
	services []string // what the DNS has told
	answered string   // the server that has answered in this network
	doubted  time.Time
	doubt    bool // somebody wants to know again
	again    bool // there is reason to hope for another answer
	mute     bool // the last search in this network was in vain, and some name servers did not answer
	told     [][]string
}

// New returns a Finder that has found what the settings name.
func New(cfg Config) *Finder {
	f := &Finder{cfg: cfg, wake: make(chan struct{}, 1)}
	if cfg.Fixed != "" {
		f.mu.Lock()
		f.name([]string{cfg.Fixed}, "the settings")
		f.tell()
		f.mu.Unlock()
	}
	return f
}

// ServicesOf returns the Services of a Resolver.
func ServicesOf(r *Resolver) func(context.Context, string) ([]string, error) { return r.services }

// SetNetwork has the Finder search in n. What it knows of the same network it
// keeps.
func (f *Finder) SetNetwork(n Network) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cfg.Fixed != "" || f.version > 0 && slices.Equal(n.Named, f.network.Named) && slices.Equal(n.Domains, f.network.Domains) {
		return
	}
	f.version++
	f.network = Network{slices.Clone(n.Named), slices.Clone(n.Domains)}
	f.services, f.answered, f.doubt, f.doubted, f.mute = nil, "", false, time.Time{}, false
	f.name(n.Named, "the network")
	if len(f.named) == 0 && len(n.Domains) == 0 {
		f.cfg.Log.Warn("the network names no storing server; set `storing_server`, or DHCP option 66 or 160")
	}
	f.tell()
	f.nudge()
}

// name takes what somebody names; f.mu is held.
func (f *Finder) name(texts []string, who string) {
	f.named, f.sure = nil, false
	for _, text := range texts {
		servers, err := Parse(text)
		if err != nil {
			f.cfg.Log.Warn(who+" names what is no storing server", "named", text, "err", err)
		}
		var group []string
		for _, s := range servers {
			group = append(group, s.Address)
			f.sure = f.sure || s.Sure
		}
		if len(group) > 0 {
			f.named = append(f.named, group)
		}
	}
}

// Answers tells that a server, as Found was told of it, has answered: those that
// were named in another way are left alone from now on.
func (f *Finder) Answers(server string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	groups := f.groups()
	if i := groupOf(groups, server); i > 0 && i != groupOf(groups, f.answered) {
		// Where other makers' phones fetch their files, most likely.
		f.cfg.Log.Warn("the network names what does not answer as a storing server", "named", slices.Concat(groups[:i]...), "answers", server)
	}
	f.answered, f.doubt, f.doubted = server, false, time.Time{}
	f.tell()
}

// Doubt tells that none of the servers answers.
func (f *Finder) Doubt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.doubted.IsZero() {
		f.doubted = now
	}
	if f.answered != "" && now.Sub(f.doubted) >= faithful {
		f.answered = ""
		f.tell()
	}
	f.doubt = true
	f.nudge()
}

// Mute reports whether nobody knows where the server is since name servers do not
// answer, as on a line that is dead: another network may know.
func (f *Finder) Mute() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mute && len(f.told) == 0
}

// Again has a search that was in vain made again at once: there is reason to hope
// for another answer, such as other name servers.
func (f *Finder) Again() {
	f.mu.Lock()
	f.again = true
	f.mu.Unlock()
	f.nudge()
}

func (f *Finder) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// tell tells the groups, if they are others than before; f.mu is held.
func (f *Finder) tell() {
	groups := f.groups()
	if i := groupOf(groups, f.answered); i >= 0 {
		groups = groups[i : i+1]
	}
	if slices.EqualFunc(groups, f.told, slices.Equal) {
		return
	}
	f.told = groups
	f.cfg.Found(groups)
}

// groups are the servers that are known, the surest first; f.mu is held.
func (f *Finder) groups() [][]string {
	groups := slices.Clone(f.named)
	if len(f.services) > 0 {
		groups = append(groups, f.services)
	}
	return groups
}

// groupOf returns which of groups has server, -1 for none.
func groupOf(groups [][]string, server string) int {
	return slices.IndexFunc(groups, func(g []string) bool { return slices.Contains(g, server) })
}

// Run searches the DNS until ctx is done.
func (f *Finder) Run(ctx context.Context) error {
	var (
		version  int
		wait     time.Duration
		earliest time.Time // of the next search
		since    time.Time // when the first search in vain began; zero: none was
		said     string
	)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		f.mu.Lock()
		n, now := f.network, time.Now()
		if f.version != version {
			version, wait, earliest, since, said = f.version, retryFirst, now, time.Time{}, ""
		}
		if f.again {
			f.again, wait, earliest, since = false, retryFirst, now, time.Time{}
		}
		wanted := f.cfg.Fixed == "" && len(n.Domains) > 0 && (f.doubt || len(f.services) == 0 && !f.sure)
		f.mu.Unlock()
		if !wanted || now.Before(earliest) {
			var alarm <-chan time.Time
			if wanted {
				timer.Reset(earliest.Sub(now))
				alarm = timer.C
			}
			select {
			case <-f.wake:
			case <-alarm:
			case <-ctx.Done():
			}
			continue
		}
		if since.IsZero() {
			since = now
		}
		services, err := f.search(ctx, version, n.Domains)
		f.mu.Lock()
		current := ctx.Err() == nil && f.version == version
		if current {
			f.mute = errors.Is(err, errMute)
		}
		f.mu.Unlock()
		if !current {
			continue
		}
		if err != nil {
			pause := wait
			if errors.Is(err, errMute) {
				pause = min(max(time.Since(since)/muteShare, mutePause), retryMost)
			} else {
				wait = min(2*wait, retryMost)
			}
			earliest = time.Now().Add(pause)
			if said != err.Error() {
				said = err.Error()
				f.cfg.Log.Warn("the DNS names no storing server; it is asked again", "retry", time.Until(earliest), "err", err)
			}
			continue
		}
		wait, since, said = retryFirst, time.Time{}, ""
		earliest = time.Now().Add(doubtEvery)
		f.mu.Lock()
		if f.version == version {
			f.services, f.doubt = services, false
			f.tell()
		}
		f.mu.Unlock()
	}
	return ctx.Err()
}

// errMute: of the name servers that were asked some have not answered.
var errMute = errors.New("no answer")

func (f *Finder) changed(version int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version != version
}

// search asks in all domains at once. The first of them that knows servers counts;
// those before it are waited for no longer than a second server would be.
func (f *Finder) search(ctx context.Context, version int, domains []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, searchMost)
	type result struct {
		i        int
		services []string
		err      error
	}
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	for i, d := range domains {
		running++
		go func() {
			services, err := f.cfg.Services(ctx, strings.TrimSuffix(d, "."))
			results <- result{i, services, err}
		}()
	}
	found := make([][]string, len(domains))
	open := make([]bool, len(domains))
	for i := range open {
		open[i] = true
	}
	var failure error
	var patience <-chan time.Time
	first := func() ([]string, bool) { // the first with servers, and whether one before it is open
		before := false
		for i, s := range found {
			if len(s) > 0 {
				return s, before
			}
			before = before || open[i]
		}
		return nil, true
	}
	for running > 0 {
		select {
		case r := <-results:
			running--
			open[r.i], found[r.i] = false, r.services
			if r.err != nil && !errors.Is(r.err, ErrNoName) {
				r.err = fmt.Errorf("%w: %w", errMute, r.err)
			}
			failure = errors.Join(failure, r.err)
		case <-patience:
			s, _ := first()
			return s, nil
		case <-f.wake: // put back: Run looks at it, but only what is new ends this
			if f.changed(version) {
				f.nudge()
				return nil, context.Canceled
			}
		}
		s, before := first()
		switch {
		case s != nil && !before:
			return s, nil
		case s != nil && patience == nil:
			t := time.NewTimer(nextServer)
			defer t.Stop()
			patience = t.C
		}
	}
	return nil, failure
}
