package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Peer is a DHCP client of another make.
type Peer struct {
	Name    string // of its program
	Package string // Debian's
	// Renew has it renew at once; nil: it keeps to the T1 that it is given.
	Renew func(*Process) error
	// Release has it give its address back; it may end then. Nil: not known how.
	Release func(n *Namespace, p *Process, dir string) error
	files   map[string]string
	args    func(dir string) []string
	via     string // one of files, which starts the program; empty: none
	script  string // of its package, that applies its leases; empty: none
}

// Peers returns the clients that Debian has, as they come: with Debian's own
// scripts and settings, in an /etc of their own.
func Peers() []Peer {
	return []Peer{
		{
			Name: "udhcpc", Package: "udhcpc", script: "/etc/udhcpc/default.script", // the bare busybox has none
			Renew:   func(p *Process) error { return p.Signal(unix.SIGUSR1) },
			Release: func(_ *Namespace, p *Process, _ string) error { return p.Signal(unix.SIGUSR2) },
			args: func(dir string) []string {
				return []string{"-f", "-i", NearName, "-p", dir + "/pid"}
			},
		},
		{
			Name: "dhclient", Package: "isc-dhcp-client",
			Release: func(n *Namespace, _ *Process, dir string) error {
				// Its script must not meet the host's /etc.
				p, err := n.Start(exec.Command("dhclient", "-4", "-r", "-lf", dir+"/leases", "-pf", dir+"/pid", NearName), dir)
				if err != nil {
					return err
				}
				<-p.Done()
				return p.err
			},
			args: func(dir string) []string {
				return []string{"-4", "-d", "-lf", dir + "/leases", "-pf", dir + "/pid", NearName}
			},
		},
		{
			Name: "dhcpcd", Package: "dhcpcd-base",
			files: map[string]string{"conf": dhcpcdConf},
			args: func(dir string) []string {
				return []string{"-4", "-B", "-f", dir + "/conf", "-c", "/bin/true", NearName}
			},
		},
	}
}

// Networkd returns systemd-networkd, as it is run by hand. It does without udev,
// which tells nothing in a namespace, where /sys cannot be written.
func Networkd() Peer {
	const program = "/lib/systemd/systemd-networkd"
	return Peer{
		Name: program, Package: "systemd",
		Release: func(_ *Namespace, p *Process, _ string) error { return p.Signal(unix.SIGTERM) },
		files: map[string]string{"10-lab.network": networkdConf, "start": `#!/bin/sh
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
cp "$1/10-lab.network" /run/systemd/network/
mount -t sysfs -o ro sysfs /sys && exec ` + program + "\n"},
		args: func(dir string) []string { return []string{dir} },
		via:  "start",
	}
}

// Quick returns dhcpcd without the seconds of ARP probes that it makes before
// it uses an address, and every other client as it is.
func (p Peer) Quick() Peer {
	if p.Name == "dhcpcd" {
		p.files = map[string]string{"conf": dhcpcdConf + "noarp\n"}
	}
	return p
}

// Missing says what to install; empty: nothing.
func (p Peer) Missing() string {
	_, err := exec.LookPath(p.Name)
	if err == nil && p.script != "" {
		_, err = os.Stat(p.script)
	}
	if err != nil {
		return fmt.Sprintf("needs %s (Debian: %s)", p.Name, p.Package)
	}
	return ""
}

// Start runs the client on eth0 of n, with its state in dir. Its log is
// dir/log.
func (p Peer) Start(n *Namespace, dir string) (*Process, error) {
	for name, text := range p.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return nil, fmt.Errorf("lab: start %s: %w", p.Name, err)
		}
	}
	if err := n.Do(func() error { return setUp(NearName) }); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("lab: start %s: %w", p.Name, err)
	}
	defer log.Close()
	program := p.Name
	if p.via != "" {
		program = filepath.Join(dir, p.via)
	}
	cmd := exec.Command(program, p.args(dir)...)
	cmd.Stdout, cmd.Stderr = log, log
	return n.Start(cmd, dir)
}

const networkdConf = `[Match]
Name=` + NearName + `
[Network]
DHCP=ipv4
IPv6AcceptRA=no
LinkLocalAddressing=no
`

const dhcpcdConf = `hostname
clientid
option subnet_mask, classless_static_routes, routers, domain_name_servers, domain_name, interface_mtu
noipv4ll
`
