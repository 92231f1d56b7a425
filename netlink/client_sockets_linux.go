package netlink

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"flexphone/netlink/internal/arp"
	"flexphone/netlink/internal/link"
)

// What the client's machine sends, and which sockets its state needs.

// send sends a message to all or, from a leased address, to the server.
func (r *runner) send(ctx context.Context, a sendMessage) error {
	b := a.msg.ToBytes()
	r.cfg.trace(true, b)
	if a.to.IsValid() {
		if r.server == nil {
			conn, err := dialServer(ctx, r.cfg.Interface, a.from, a.to)
			if err != nil {
				return err
			}
			r.server = conn
		}
		if _, err := r.server.Write(b); err != nil {
			return err
		}
		if !r.machine.listening() { // a RELEASE: the address goes next
			flush(r.server, 200*time.Millisecond)
		}
		return nil
	}
	t := r.dhcp
	if t == nil { // a DECLINE: nothing answers it
		var err error
		if t, err = link.OpenTap(r.link.Index, unix.ETH_P_IP, replyFilter(r.machine.mac, r.machine.xid), nil); err != nil {
			return err
		}
		defer t.Discard()
	}
	return t.Broadcast(wrap(b, a.from))
}

func (r *runner) sendARP(addr netip.Addr, announce bool) {
	if r.arp == nil {
		return
	}
	if err := r.arp.Broadcast(arp.Packet(r.machine.mac, addr, announce)); err != nil {
		r.cfg.Log.Debug("cannot send ARP", "error", err)
	}
}

// openSockets opens what the machine's state needs.
func (r *runner) openSockets() (err error) {
	m := &r.machine
	if r.link.Index == 0 {
		return nil
	}
	if m.listening() && (r.dhcp == nil || r.xid != m.xid) {
		r.xid = m.xid
		if r.dhcp, err = r.openTap(r.dhcp, unix.ETH_P_IP, replyFilter(m.mac, m.xid), r.packets); err != nil {
			return err
		}
	}
	if a, others := m.watched(), m.overheard(); a.IsValid() && (r.arp == nil || r.watched != a || !slices.Equal(r.overheard, others)) {
		r.watched, r.overheard = a, others
		r.arp, err = r.openTap(r.arp, unix.ETH_P_ARP, arp.Filter(m.mac, a, others...), r.arps)
	}
	return err
}

// openTap changes the filter of t, or opens it when it is nil.
func (r *runner) openTap(t *link.Tap, proto uint16, filter []bpf.Instruction, out chan<- []byte) (*link.Tap, error) {
	if t != nil {
		return t, t.Filter(filter)
	}
	t, err := link.OpenTap(r.link.Index, proto, filter, out)
	if err == nil {
		r.readers.Go(t.Read)
	}
	return t, err
}

// closeSockets closes what the machine's state does not need.
func (r *runner) closeSockets() {
	if r.dhcp != nil && !r.machine.listening() {
		r.dhcp.Close()
		r.dhcp = nil
	}
	if r.arp != nil && !r.machine.watched().IsValid() {
		r.arp.Close()
		r.arp = nil
	}
	if r.server != nil && r.machine.state != stateRenewing {
		r.server.Close()
		r.server = nil
	}
}

func (r *runner) closeTaps() {
	for _, t := range []**link.Tap{&r.dhcp, &r.arp} {
		if *t != nil {
			(*t).Close()
			*t = nil
		}
	}
}

func (r *runner) close() {
	if err := r.names.Restore(); err != nil {
		r.cfg.Log.Error("cannot leave the name servers as they were", "error", err)
	}
	r.alarm.close()
	r.closeTaps()
	if r.server != nil {
		r.server.Close()
	}
}
