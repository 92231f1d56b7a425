package lab

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Provider is a DHCP server of Debian's.
type Provider struct {
	Name    string // of its program
	Package string // Debian's
	ready   string // what it logs once it serves
	command func(dir string, o Offer) (*exec.Cmd, error)
}

// An Offer is what a provider has to give: one address.
type Offer struct {
	Server        netip.Prefix // its own address, and the network
	Addr          netip.Addr
	Lease, T1, T2 int  // seconds; Lease is 120 or more, since dnsmasq gives no less
	Silent        bool // about addresses that it does not know: not authoritative
	Reserved      bool // Addr is for NearMAC alone, whatever it had before
}

// Providers returns the servers that Debian has.
func Providers() []Provider {
	return []Provider{
		{"dnsmasq", "dnsmasq-base", "IP range", dnsmasqCommand},
		{"kea-dhcp4", "kea-dhcp4-server", "DHCP4_STARTED", keaCommand},
		{"dhcpd", "isc-dhcp-server", "Server starting service", dhcpdCommand},
	}
}

// Missing says what to install; empty: nothing.
func (p Provider) Missing() string {
	if _, err := exec.LookPath(p.Name); err != nil {
		return fmt.Sprintf("needs %s (Debian: %s)", p.Name, p.Package)
	}
	return ""
}

// A Service is a provider that runs.
type Service struct {
	*Process
	done  sync.WaitGroup
	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

// Start runs the provider at the far end of c, which must have the address
// o.Server, and waits until it serves. What it knows of leases is in dir, and
// is known again to a provider that is started there later.
func (p Provider) Start(c *Cable, dir string, o Offer) (*Service, error) {
	cmd, err := p.command(dir, o)
	if err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", p.Name, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", p.Name, err)
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	s := &Service{news: make(chan struct{})}
	if s.Process, err = c.Far.Start(cmd, dir); err != nil {
		r.Close()
		return nil, err
	}
	s.done.Go(func() { s.read(r) })
	if !s.Logs(20*time.Second, p.ready) {
		s.Stop()
		return nil, fmt.Errorf("lab: start %s: it does not serve: %s", p.Name, s.Log())
	}
	return s, nil
}

// Stop ends the provider at once, as a power cut does.
func (s *Service) Stop() {
	s.Kill()
	s.done.Wait()
}

func (s *Service) read(r io.ReadCloser) {
	defer r.Close()
	for scan := bufio.NewScanner(r); scan.Scan(); {
		s.mu.Lock()
		s.lines = append(s.lines, scan.Text())
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
}

// Log returns what the provider has logged.
func (s *Service) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// Logs waits, at most so long, until the provider has logged text, in capitals
// or not.
func (s *Service) Logs(within time.Duration, text string) bool {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		log, news := strings.Join(s.lines, "\n"), s.news
		s.mu.Unlock()
		if strings.Contains(strings.ToLower(log), strings.ToLower(text)) {
			return true
		}
		select {
		case <-news:
		case <-s.Process.Done():
			return false
		case <-timeout.C:
			return false
		}
	}
}

func dnsmasqCommand(dir string, o Offer) (*exec.Cmd, error) {
	args := []string{
		"--no-daemon", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--port=0", "--no-ping",
		"--no-resolv", "--interface=" + FarName, "--pid-file=", "--dhcp-leasefile=" + filepath.Join(dir, "leases"),
		fmt.Sprintf("--dhcp-range=%v,%v,%d", o.Addr, o.Addr, o.Lease),
		fmt.Sprintf("--dhcp-option=option:T1,%d", o.T1), fmt.Sprintf("--dhcp-option=option:T2,%d", o.T2),
	}
	if !o.Silent {
		args = append(args, "--dhcp-authoritative")
	}
	if o.Reserved {
		args = append(args, fmt.Sprintf("--dhcp-host=%v,%v", NearMAC, o.Addr))
	}
	return exec.Command("dnsmasq", args...), nil
}

func keaCommand(dir string, o Offer) (*exec.Cmd, error) {
	conf, reservations := filepath.Join(dir, "kea.conf"), ""
	if o.Reserved {
		reservations = fmt.Sprintf(`{"hw-address": "%v", "ip-address": "%v"}`, NearMAC, o.Addr)
	}
	text := fmt.Sprintf(`{"Dhcp4": {
	"interfaces-config": {"interfaces": [%q], "dhcp-socket-type": "raw"},
	"lease-database": {"type": "memfile", "persist": true, "name": %q},
	"valid-lifetime": %d, "renew-timer": %d, "rebind-timer": %d, "authoritative": %v,
	"subnet4": [{"id": 1, "subnet": %q, "pools": [{"pool": "%v - %v"}],
		"option-data": [{"name": "routers", "data": "%v"}], "reservations": [%s]}],
	"loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]
}}`, FarName, filepath.Join(dir, "leases"), o.Lease, o.T1, o.T2, !o.Silent, o.Server.Masked(), o.Addr, o.Addr, o.Server.Addr(), reservations)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command("kea-dhcp4", "-c", conf)
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir)
	return cmd, nil
}

func dhcpdCommand(dir string, o Offer) (*exec.Cmd, error) {
	conf, leases := filepath.Join(dir, "dhcpd.conf"), filepath.Join(dir, "leases")
	authority := "authoritative"
	if o.Silent {
		authority = "not authoritative"
	}
	what := fmt.Sprintf("range %v %v;", o.Addr, o.Addr)
	if o.Reserved {
		what = fmt.Sprintf("host phone { hardware ethernet %v; fixed-address %v; }", NearMAC, o.Addr)
	}
	mask := netip.AddrFrom4([4]byte{255, 255, 255, 0}) // of the /24s that we use
	text := fmt.Sprintf(`%s;
ping-check false;
default-lease-time %d; max-lease-time %d;
option dhcp-renewal-time %d; option dhcp-rebinding-time %d;
subnet %v netmask %v { %s option routers %v; }
`, authority, o.Lease, o.Lease, o.T1, o.T2, o.Server.Masked().Addr(), mask, what, o.Server.Addr())
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(leases, os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	f.Close()
	return exec.Command("dhcpd", "-4", "-f", "-d", "-cf", conf, "-lf", leases, "--no-pid", FarName), nil
}
