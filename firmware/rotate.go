package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/control"
	"flexphone/firmware/internal/finder"
	"flexphone/firmware/internal/sip"
	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// rotateMost bounds the talk with the storing server.
const rotateMost = time.Minute

// A rotateCommand gives a phone that does not run another key.
type rotateCommand struct{ config, server string }

func (r *rotateCommand) flags(fs *flag.FlagSet) {
	fs.StringVar(&r.config, "config", "", "Settings of the phone, in TOML: `FILE`.")
	fs.StringVar(&r.server, "server", "", "Storing server, where the settings leave it to the network: `HOST[:PORT]`.")
}

func (r *rotateCommand) run(ctx context.Context, out, errs io.Writer) error {
	settings := config.Default()
	if r.config != "" {
		var err error
		if settings, err = config.Load(r.config, checks()); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	if r.server != "" {
		settings.StoringServer = r.server
	}
	if settings.StoringServer == "" {
		return fmt.Errorf("%w: name the storing server with --server", errUsage)
	}
	if control.Answers(ctx, settings.Control) {
		return fmt.Errorf("rotate key: a phone runs at %s: stop it first", settings.Control)
	}
	if settings.Interface == "" {
		board, err := findBoard(settings.Board)
		if err != nil {
			return err
		}
		settings.Interface = board.Port
	}
	mac, err := macOf(settings.Interface)
	if err != nil {
		return err
	}
	addrs, err := addrsAt(settings.Interface)
	if err != nil {
		return err
	}
	sequence, err := registry.OpenSequence(filepath.Join(settings.Data, "sequence"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rotateMost)
	defer cancel()
	servers, err := finder.Parse(settings.StoringServer)
	if len(servers) == 0 {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Address)
	}
	cfg := registry.Config{
		Server: strings.Join(addresses, ","), Order: reachable, Pins: registry.NewFilePins(filepath.Join(settings.Data, "servers.json")), Log: newLog(errs, "text", false),
	}
	// The row ends at once: the phone announces itself when it is started.
	key, err := registry.Rotate(ctx, cfg, settings.Data, mac, sequence, wire.Registration{
		MAC: mac, Addrs: addrs, Ports: wire.Ports{SIP: sip.Port, SIPS: sip.SecurePort}, Lifetime: wire.MinLifetime,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, key)
	return err
}

// addrsAt returns the addresses of an interface that others can call.
func addrsAt(ifname string) (out []netip.Addr, err error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("rotate key: find network interface: %w", err)
	}
	all, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("rotate key: addresses of %s: %w", ifname, err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && wire.Callable(p.Addr()) && len(out) < wire.MaxAddrs {
			out = append(out, p.Addr())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("rotate key: %s has no address to reach the storing server from", ifname)
	}
	return out, nil
}
