package sip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	gosip "github.com/emiago/sipgo/sip"
)

// A path is how a request leaves: by which transport, from where, to where.
type path struct {
	transport string          // "UDP", "TCP" or "TLS"
	local     netip.AddrPort  // ours, as Via and Contact say it
	bind      gosip.Addr      // which of sipgo's connections; zero: by dest
	dest      string          // host:port
	lost      <-chan struct{} // closed when the connection is; nil: never known
	link      *link           // the connection, of TLS
	idle      bool            // it has just been without a call
}

// plainPath is how a request reaches dest without TLS.
func (a *Agent) plainPath(dest netip.AddrPort, transport string) (path, error) {
	if a.udp == nil {
		return path{}, errors.New("sip: find path: plain SIP is off")
	}
	ip, err := localFor(dest)
	if err != nil {
		return path{}, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	p := path{transport: transport, local: netip.AddrPortFrom(ip, a.sip.Port()), dest: dest.String()}
	if transport == "UDP" {
		own := a.udp.LocalAddr().(*net.UDPAddr)
		p.bind = gosip.Addr{IP: own.IP, Port: own.Port}
	}
	return p, nil
}

// streamPath is how a request leaves on a connection that the peer has opened.
func (a *Agent) streamPath(s *stream) (path, error) {
	p, err := a.plainPath(s.from, "TCP")
	p.lost = s.closed
	return p, err
}

// linkPath is how a request leaves on k to a peer that is at dest. Contact and Via
// name the port at which we listen, so that the peer can come back when k is gone, and
// our own address, also where k has none.
func (a *Agent) linkPath(k *link, dest netip.Addr) path {
	p := path{transport: "TLS", local: k.local, dest: k.remote.String(), lost: k.closed, link: k}
	if a.sips.IsValid() {
		p.local = netip.AddrPortFrom(k.local.Addr(), a.sips.Port())
	}
	switch {
	case k.user != "":
		if own := a.ownFor(dest); own.IsValid() { // else nobody comes back by it
			p.local = netip.AddrPortFrom(own, p.local.Port())
		}
	case k.dialled:
		p.bind = gosip.Addr{IP: k.local.Addr().AsSlice(), Port: int(k.local.Port())}
	}
	return p
}

// reaches reports whether there is a way from here to the phone that was at the other end
// of k: by the relay, where this phone has any address.
func (a *Agent) reaches(k *link) bool {
	if k.user != "" {
		return a.cfg.AddressFor == nil || a.cfg.AddressFor(k.remote.Addr()).IsValid()
	}
	_, err := localFor(k.remote)
	return err == nil
}

// ownFor is our address for whom dest is, or any that we have: over the relay the peer
// may be of a family that we have none of. The zero Addr: there is none.
func (a *Agent) ownFor(dest netip.Addr) netip.Addr {
	if dest.IsValid() && !isRelayed(dest) {
		if own, err := localFor(netip.AddrPortFrom(dest, SecurePort)); err == nil {
			return own
		}
	}
	if a.cfg.AddressFor == nil {
		return netip.Addr{}
	}
	return a.cfg.AddressFor(dest)
}
