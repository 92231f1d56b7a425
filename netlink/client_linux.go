package netlink

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
	"flexphone/netlink/internal/resolvconf"
)

// Config says how an interface's address is kept. The zero values of all but
// Interface are usable.
type Config struct {
	// Interface is the name of an Ethernet interface; it need not exist yet.
	Interface string
	// LeaseFile is where the lease survives a restart; empty: nowhere.
	LeaseFile string
	// ResolvConf is the file to write name servers to, and to leave as it was found
	// at the end; empty: none. Of Sources within each other the outermost writes it.
	ResolvConf string
	// Hostname is told to the DHCP server (option 12) when not empty.
	Hostname string
	// UserClass is told to the DHCP server (option 77) when not empty; at most
	// 64 bytes.
	UserClass string
	// FullCheck has an address probed as RFC 5227 §2.1.1 asks, for four to seven
	// seconds before it is used. Otherwise it is used after a millisecond without
	// an answer, and probed on.
	FullCheck bool
	// OnlyIPv6 has the client do without an IPv4 address where the network prefers
	// that (RFC 8925): for who has IPv6 beside it.
	OnlyIPv6 bool
	// Metric is that of the routes: where several interfaces have a default
	// route, the one with the least is used.
	Metric int
	// Trace is told of each message of DHCP and DHCPv6 that comes for this client
	// or goes, and may not keep it. Nil: nobody is.
	Trace func(sent bool, message []byte)
	// Granted is told of each address that a server grants, before it is probed and
	// used: what else it takes to use it can begin. It may not block. Nil: nobody is.
	Granted func()
	// Log may be nil.
	Log *slog.Logger
}

// trace tells of a message, if that is wanted.
func (c Config) trace(sent bool, message []byte) {
	if c.Trace != nil {
		c.Trace(sent, message)
	}
}

// Check returns c as it is used, with its defaults, or an error that says what cannot be.
func (c Config) Check() (Config, error) {
	if c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ {
		return c, fmt.Errorf("netlink: configure: bad interface name %q", c.Interface)
	}
	if c.Metric < 0 {
		return c, fmt.Errorf("netlink: configure: metric %d is less than 0", c.Metric)
	}
	if len(c.UserClass) > 64 {
		return c, fmt.Errorf("netlink: configure: the user class has %d bytes, at most 64 are sent", len(c.UserClass))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("interface", c.Interface)
	return c, nil
}

// A Client leases an address by DHCP and keeps it. It is a Source.
type Client struct {
	cfg    Config
	events *Queue
	doubts chan struct{}
	shun   atomic.Bool
	shuns  chan struct{}        // shun is another
	since  func() time.Duration // as in clock
}

// NewClient returns a Client of cfg.Interface. Nothing happens before Run.
func NewClient(cfg Config) (*Client, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, events: NewQueue(), doubts: make(chan struct{}, 1), shuns: make(chan struct{}, 1), since: bootTime}, nil
}

// Next implements Source.
func (c *Client) Next(ctx context.Context) (Event, error) { return c.events.Next(ctx) }

// Doubt has the lease asked about; see the function of that name.
func (c *Client) Doubt() { wake(c.doubts) }

// Shun has the routes come after others'; see the function of that name.
func (c *Client) Shun(yes bool) bool {
	c.shun.Store(yes)
	wake(c.shuns)
	return true
}

// Run leases an address and keeps it until ctx is done; then it gives it back,
// takes it away, and returns nil. Other errors mean that the kernel refuses what
// Run needs, such as a packet socket. Run may be called once.
func (c *Client) Run(ctx context.Context) error {
	h, err := link.OpenHinter(link.Hints4()...)
	if err != nil {
		return err
	}
	a, err := newAlarm()
	if err != nil {
		h.Close()
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	r := &runner{
		Client: c, clock: newClock(c.since), alarm: a, names: resolvconf.File{Path: c.cfg.ResolvConf},
		hints: make(chan struct{}, 1), packets: make(chan []byte, 64), arps: make(chan []byte, 8),
		machine: machine{
			ifname: c.cfg.Interface, hostname: c.cfg.Hostname, userClass: c.cfg.UserClass, fullCheck: c.cfg.FullCheck,
			onlySix: c.cfg.OnlyIPv6, metric: c.cfg.Metric,
			rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		},
	}
	r.readers.Go(func() { h.Run(inner, r.hints) })
	r.readers.Go(a.run)
	defer r.readers.Wait()
	defer cancel()
	defer r.close()
	return r.loop(ctx)
}

// A runner is the one goroutine that owns the machine, and its sockets.
type runner struct {
	*Client
	clock     clock // the machine's
	alarm     *alarm
	names     resolvconf.File
	left      netip.Addr // held when the last event was told; zero: none
	machine   machine
	link      link.State
	site      site
	dhcp      *link.Tap // open while the machine is listening
	xid       transaction
	arp       *link.Tap // open while an address is watched
	watched   netip.Addr
	overheard []netip.Addr
	server    *net.UDPConn // open during a renewal
	readers   sync.WaitGroup
	hints     chan struct{}
	packets   chan []byte
	arps      chan []byte
}

func (r *runner) loop(ctx context.Context) error {
	err := r.look(ctx)
	for err == nil {
		if d := r.machine.deadline(); d.IsZero() {
			err = r.alarm.stop()
		} else {
			err = r.alarm.set(d.Sub(r.clock.now()))
		}
		if err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return r.step(context.WithoutCancel(ctx), stopped{})
		case <-r.alarm.c:
			err = r.tick(ctx)
		case <-r.hints:
			err = r.look(ctx)
		case <-r.doubts:
			err = r.step(ctx, doubted{})
		case <-r.shuns:
			err = r.step(ctx, shunned{r.shun.Load()})
		case b := <-r.packets:
			err = r.packet(ctx, b)
		case b := <-r.arps:
			if a, ok := claimOfAnother(b); ok {
				err = r.step(ctx, a)
			}
		}
	}
	return err
}

// tick tells the machine that time has passed, but before that what the kernel
// heard by then: an address is free when nobody answered, not when nobody had
// the time to read the answer.
func (r *runner) tick(ctx context.Context) error {
	var heard [][]byte
	if (r.machine.state == stateChecking || r.machine.suspicion.pending()) && r.arp != nil {
		heard = r.arp.Pending()
		for len(r.arps) > 0 {
			heard = append(heard, <-r.arps)
		}
	}
	for _, b := range heard {
		if a, ok := claimOfAnother(b); ok {
			if err := r.step(ctx, a); err != nil {
				return err
			}
		}
	}
	return r.step(ctx, tick{})
}

// claimOfAnother reads what an ARP packet claims; false: nothing, or it is this host
// that claims it. Linux answers for each of its addresses by every interface (arp_ignore),
// so that Wi-Fi says that it has what Ethernet asks for, where both are in one network.
func claimOfAnother(b []byte) (arp.Claim, bool) {
	a, err := arp.Parse(b)
	return a, err == nil && !link.Owns(a.From)
}

// look reads the state of the interface again, and tells the machine what is
// different.
func (r *runner) look(ctx context.Context) error {
	l, err := link.Read(r.cfg.Interface)
	if err != nil {
		return err
	}
	if l.Index != 0 && l.MAC == (MAC{}) {
		return fmt.Errorf("netlink: lease an address on %s: not an Ethernet interface", r.cfg.Interface)
	}
	if l.Index != r.link.Index || l.MAC != r.link.MAC {
		if err := r.step(ctx, linkChanged{up: false}); err != nil {
			return err
		}
		r.closeTaps()
		if l.Index == 0 {
			r.cfg.Log.Warn("waiting for the interface to appear")
		} else if !r.machine.held.Prefix.IsValid() {
			r.load(l.MAC)
		}
	}
	if l.Index != 0 && !l.Enabled && l.Index != r.link.Index {
		// At the start, and for a new interface: afterwards an operator who
		// sets it down means it, whatever else is hinted at meanwhile.
		if err := link.Enable(l.Index); err != nil && !link.IsGone(err) {
			return err
		}
	}
	if l.Index == r.link.Index && l.Changes != r.link.Changes {
		// The carrier may be back already: whatever it is a carrier to now, it
		// was away.
		if err := r.step(ctx, linkChanged{up: false}); err != nil {
			return err
		}
	}
	if l.Index != r.link.Index {
		r.site = site{ifname: r.cfg.Interface, index: l.Index, mtu: l.MTU}
	}
	r.link = l
	if err := r.step(ctx, linkChanged{up: l.Running, mac: l.MAC}); err != nil {
		return err
	}
	if held := r.machine.held; l.Running && r.machine.using() {
		ok, err := r.site.has(held)
		if err != nil {
			return err
		}
		if !ok {
			return r.step(ctx, tampered{})
		}
	}
	return nil
}

// load gives the machine the stored lease.
func (r *runner) load(mac MAC) {
	if r.cfg.LeaseFile == "" {
		return
	}
	l, err := loadLease(r.cfg.LeaseFile, mac, time.Now())
	if err != nil {
		r.cfg.Log.Warn("ignoring the stored lease", "error", err)
		return
	}
	l.Interface, l.Metric = r.cfg.Interface, r.cfg.Metric
	r.machine.start(r.clock.in(l))
}

// packet hands a reply to the machine.
func (r *runner) packet(ctx context.Context, b []byte) error {
	payload, err := unwrap(b)
	if err != nil {
		return nil
	}
	r.cfg.trace(false, payload)
	rep, err := parseReply(payload, r.machine.mac)
	if err != nil {
		r.cfg.Log.Debug("dropping a packet", "error", err)
		return nil
	}
	return r.step(ctx, received{rep})
}

// step runs the machine, and then what it wants done. Answers of the kernel are
// further inputs.
func (r *runner) step(ctx context.Context, in any) error {
	for inputs := []any{in}; len(inputs) > 0; inputs = inputs[1:] {
		actions := r.machine.step(r.clock.now(), inputs[0])
		if err := r.openSockets(); err != nil {
			if !link.IsGone(err) {
				return err
			}
			r.closeTaps() // a hint about the link is on its way
		}
		for _, a := range actions {
			if answer := r.act(ctx, a); answer != nil {
				inputs = append(inputs, answer)
			}
		}
	}
	r.closeSockets()
	return nil
}

// act does one action; it returns the kernel's answer as an input, if any.
func (r *runner) act(ctx context.Context, a any) any {
	switch a := a.(type) {
	case sendMessage:
		if err := r.send(ctx, a); err != nil {
			r.cfg.Log.Debug("cannot send", "message", a.msg.MessageType(), "error", err)
		}
	case sendProbe:
		r.sendARP(a.addr, false)
	case sendAnnounce:
		r.sendARP(a.addr, true)
	case sendAsk:
		if r.arp == nil {
			break
		}
		to := a.to
		if to == (MAC{}) {
			to = link.Everybody()
		}
		if err := r.arp.Send(arp.Query(r.machine.mac, a.from, a.addr), to); err != nil {
			r.cfg.Log.Debug("cannot send ARP", "error", err)
		}
	case install:
		err := r.site.install(a.lease, a.old, r.clock.now())
		return installed{err, r.site.notTaken()}
	case disown:
		answerARP(r.cfg.Interface, false)
	case remove:
		defer answerARP(r.cfg.Interface, true)
		if err := removeLease(r.link.Index, a.lease); err != nil {
			r.cfg.Log.Error("cannot remove the address", "error", err)
		}
	case grant:
		if r.cfg.Granted != nil {
			r.cfg.Granted()
		}
	case tell:
		r.tell(a.event)
	case store:
		if r.cfg.LeaseFile == "" {
			break
		}
		if err := saveLease(r.cfg.LeaseFile, r.clock.out(a.lease)); err != nil {
			r.cfg.Log.Error("cannot store the lease", "error", err)
		}
	case note:
		r.cfg.Log.Log(ctx, a.level, a.text, a.args...)
	}
	return nil
}

func (r *runner) tell(e Event) {
	e.Lease, e.At = r.clock.out(e.Lease), time.Now()
	r.events.Push(e)
	if was := r.left; was.IsValid() && was != r.machine.held.Addr() {
		if err := endConnections(was); err != nil {
			r.cfg.Log.Debug("cannot end connections", "address", was, "error", err)
		}
	}
	r.left = r.machine.held.Addr()
	r.cfg.Log.Debug(e.Kind.String(), "address", e.Lease.Prefix, "router", e.Lease.Router, "expiry", e.Lease.Expiry, "reason", e.Reason)
	if e.Kind != Lost {
		if err := r.names.Write(e.Lease.names()); err != nil {
			r.cfg.Log.Error("cannot use the name servers", "error", err)
		}
	}
}
