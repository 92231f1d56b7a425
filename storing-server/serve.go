package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/directory"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/pairs"
	"flexphone/storing-server/internal/quality"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// RunCmd is `run`.
type RunCmd struct {
	Data
	Listen string `help:"UDP address for phones (CoAP over DTLS); ${default} by default." default:":5684" placeholder:"[HOST]:PORT"`
	NATS   string `name:"nats" help:"URLs of a NATS JetStream cluster, with commas between; by default the rows are kept in the data folder." placeholder:"URL"`
	// Replicas and Partitions are of the streams.
	Replicas   int    `help:"Nodes of the cluster that keep each row; ${default} by default." default:"3" placeholder:"N"`
	Partitions int    `help:"Streams that the rows are divided among, fixed when the first server starts; by default as it is, or 1." placeholder:"N"`
	Numbers    string `help:"Range that short numbers are given out from; ${default} by default." default:"101-99999999" placeholder:"FIRST-LAST"`
	// NumberRest is for numbers that are freed from now on.
	NumberRest time.Duration `help:"For how long a number that a phone had is given to no other; ${default} by default." default:"720h" placeholder:"DURATION"`
	TrustFlags
	LimitFlags
	HTTPFlags
	SIPFlags
	DNSFlags
	SoundFlags
	NewKey     bool   `name:"new-server-key" help:"Make a new server key where there are rows and none is left, and have every phone told: each has pinned the old one."`
	AcceptLoss bool   `help:"Go on with what is left when acknowledged rows are missing from the data folder. The damaged files are kept aside there."`
	Log        string `help:"Form of the log on standard error." enum:"text,json" default:"text"`
	Verbose    bool   `short:"v" help:"Log details too."`
}

// sessionsName is the file in the data folder that keeps sessions while the
// server does not run.
const sessionsName = "sessions"

// phonesHeard is of how many phones the last calls are kept in memory, 600 bytes each.
const phonesHeard = 20_000

// maxReplicas is how many NATS keeps of a stream at the most.
const maxReplicas = 5

// settings are what the flags mean. They are checked before the rows are read,
// which takes its time.
type settings struct {
	numbers      store.Numbers
	policy       trust.Policy
	limits       exchange.Limits
	links        links.Limits
	pairs        pairs.Limits
	pages, calls *certificate // of the operator's, for --http and --sip-tls; nil: none
}

func (c *RunCmd) settings() (s settings, err error) {
	if s.numbers, err = parseNumbers(c.Numbers); err != nil {
		return s, err
	}
	s.numbers.Rest = c.NumberRest
	switch {
	case c.NumberRest < 0:
		return s, &usageError{fmt.Sprintf("--number-rest=%v: want 0s or more", c.NumberRest)}
	case c.Replicas < 1 || c.Replicas > maxReplicas:
		return s, &usageError{fmt.Sprintf("--replicas=%d: want 1 to %d", c.Replicas, maxReplicas)}
	}
	for _, f := range []struct{ flag, at string }{
		{"--listen", c.Listen}, {"--http", c.HTTP}, {"--health", c.Health}, {"--sip", c.SIP}, {"--sip-tls", c.SIPTLS}, {"--dns", c.DNS},
		{"--stun", c.STUN}, {"--relay", c.Relay}, {"--turn", c.TURN},
	} {
		if err := checkAddress(f.flag, f.at); err != nil {
			return s, err
		}
	}
	if err := c.DNSFlags.check(); err != nil {
		return s, err
	}
	has := memory()
	if s.limits, err = c.LimitFlags.limits(has); err != nil {
		return s, err
	}
	if s.links, err = c.LimitFlags.links(); err != nil {
		return s, err
	}
	if s.pairs, err = c.SoundFlags.pairs(); err != nil {
		return s, err
	}
	if err = c.LimitFlags.policy(&s.policy, has); err != nil {
		return s, err
	}
	if err = c.TrustFlags.policy(&s.policy); err != nil {
		return s, err
	}
	if s.pages, err = c.HTTPFlags.certificate(); err != nil {
		return s, err
	}
	s.calls, err = c.SIPFlags.certificate()
	return s, err
}

// files are those that the operator may change while the server runs.
func (s settings) files() (all []reloader) {
	if s.pages != nil {
		all = append(all, s.pages)
	}
	if s.calls != nil {
		all = append(all, s.calls)
	}
	if s.policy.Authorities != nil {
		all = append(all, s.policy.Authorities)
	}
	if s.policy.Expected != nil {
		all = append(all, s.policy.Expected)
	}
	return all
}

// Run serves until the edges' context ends.
func (c *RunCmd) Run(e *edges) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(e.stderr, opts)
	if c.Log == "json" {
		h = slog.NewJSONHandler(e.stderr, opts)
	}
	return c.serve(e, s, slog.New(h))
}

func parseNumbers(s string) (store.Numbers, error) {
	first, last, _ := strings.Cut(s, "-")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if errA != nil || errB != nil || a < 100 || b > 99999999 || a > b {
		return store.Numbers{}, &usageError{fmt.Sprintf("--numbers=%s: want FIRST-LAST from 100 to 99999999", s)}
	}
	return store.Numbers{First: a, Last: b}, nil
}

// serve puts the parts together: rows, their directory, its port, and the
// operator's socket. It returns when all of them have ended.
func (c *RunCmd) serve(e *edges, s settings, log *slog.Logger) error {
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	if err := exchange.SelfTest(ctx); err != nil {
		return err
	}
	m := newMetrics()
	changed := &relay{}
	began := c.Data.exists() == nil
	audit := trust.NewAudit(c.Data.Data)
	rows, err := openRows(ctx, store.Options{
		Audit: audit.Append, Dir: c.Data.Data, NATS: c.NATS, Replicas: c.Replicas, Partitions: c.Partitions, Numbers: s.numbers, Log: log,
		Changed: changed.tell, Committed: m.committed, AcceptLoss: c.AcceptLoss, Now: e.now,
	})
	if err != nil {
		return err
	}
	defer rows.Close()
	m.rows(rows.Size)
	if began && rows.Size() > 0 && !c.NewKey {
		if err := keyLost(c.Data.Data, rows.Size()); err != nil {
			return err
		}
	}
	cert, err := serverCertificate(c.Data.Data)
	if err != nil {
		return err
	}
	door, err := trust.NewDoor(cert.PrivateKey.(ed25519.PrivateKey))
	if err != nil {
		return err
	}
	log.Info("limits", "sessions", s.limits.Sessions, "handshakes", s.limits.Handshakes, "rows", s.policy.MostRows)
	calls := quality.NewBook(phonesHeard, m.heard)
	rowsDirectory := directory.New(rows, log, m.request).Under(s.policy).As(door).Hearing(func(r wire.Registration) { calls.Tell(r, time.Now()) })
	phones, err := exchange.Listen(ctx, c.Listen, cert, rowsDirectory, s.limits, m, log)
	if err != nil {
		return hint(err)
	}
	pages := newBrowsers(ctx, rows, links.New(s.links, m))
	pages.pass, pages.seen, pages.seenAway = passOn(phones, pages, rows), phones.Seen, rows.ShareSeen(phones.Seen)
	rowsDirectory.Relaying(pages.relay, pages.pass)
	sound, beside, err := c.SoundFlags.open(ctx, s, rowsDirectory, m, cert.PrivateKey.(ed25519.PrivateKey).Seed())
	if err != nil {
		return hint(err)
	}
	changed.to(phones.Changed)
	if n, err := phones.Resume(filepath.Join(c.Data.Data, sessionsName)); err != nil {
		log.Warn("sessions not resumed: phones shake hands again", "resumed", n, "err", err)
	} else if n > 0 {
		log.Info("sessions resumed", "sessions", n)
	}
	others, err := c.services(ctx, s, beside, cert, rows, calls, pages, audit, m, changed, log)
	if err != nil {
		return err
	}
	others = append(others, sound...)
	ready := []any{"listen", phones.Addr().String(), "rows", rows.Size(), "key", fingerprint(cert).String()}

	var all sync.WaitGroup
	ended := make(chan error, 8)
	start := func(part func(context.Context) error) {
		all.Go(func() {
			ended <- part(ctx)
			stop()
		})
	}
	operator, err := admin.Listen(c.Data.Data)
	if err != nil {
		return err
	}
	for _, o := range others {
		ready = append(ready, o.name, o.at)
		if o.serve != nil {
			start(o.serve)
		}
	}
	start(phones.Serve)
	start(func(ctx context.Context) error { return admin.Serve(ctx, operator, rows, s.policy.Waiting) })
	start(func(ctx context.Context) error { reloadFiles(ctx, reload, s.files(), log); return nil })
	log.Info("ready", ready...)
	if err := tellManager("READY=1"); err != nil {
		log.Warn("service manager not told", "err", err)
	}
	all.Wait()
	close(ended)
	var failed error
	for err := range ended {
		failed = errors.Join(failed, err)
	}
	log.Info("stopped")
	return failed
}

// A relay hands changes from the store to the servers that are made after it.
type relay struct {
	mu  sync.Mutex
	dst []func([]wire.Query)
}

func (r *relay) to(dst func([]wire.Query)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dst = append(slices.Clone(r.dst), dst)
}

func (r *relay) tell(qs []wire.Query) {
	r.mu.Lock()
	all := r.dst
	r.mu.Unlock()
	for _, dst := range all {
		dst(qs)
	}
}
