package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Server is the storing server, the real binary on a host with a fixed
// address. Its data outlives it.
type Server struct {
	host   *host
	dir    string
	name   string // of its files
	port   int
	binary string
	proc   *process

	flags   []string // of its run, beside the usual ones
	lookups int      // as in Config
	pages   bool     // likewise
	turn    int      // likewise
}

// storingPort is the port of the bed's own storing server (RFC 7252, section 12.7).
const storingPort = 5684

// pagesPort is where the pages are, by TLS.
const pagesPort = 8443

// Site is where browsers find the pages of a bed's own server that has them.
func Site() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(serverAddress.Addr(), pagesPort))
}

// Link makes a link by which who is called name calls from a browser, as an operator
// does: args are further ones of the command.
func (s *Server) Link(ctx context.Context, name string, args ...string) (string, error) {
	out, err := s.command(ctx, append([]string{"link", "new", name, "--site", Site()}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// Password sets another password of the operator's pages, and returns it.
func (s *Server) Password(ctx context.Context) (string, error) {
	out, err := s.command(ctx, "password")
	return strings.TrimSpace(string(out)), err
}

// RevokeLinks makes all links worth nothing.
func (s *Server) RevokeLinks(ctx context.Context) error {
	out, err := s.command(ctx, "link", "list", "--json")
	for dec := json.NewDecoder(bytes.NewReader(out)); err == nil; {
		var link struct{ ID string }
		if err := dec.Decode(&link); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("testbed: list links: %w", err)
		}
		_, err = s.command(ctx, "link", "revoke", link.ID)
	}
	return err
}

// A Row is what the storing server tells of a phone (`rows --json`).
type Row struct {
	MAC      string   `json:"mac"`
	Number   string   `json:"number"`
	Addrs    []string `json:"addrs"`
	Sequence uint64   `json:"sequence"`
	State    string   `json:"state"` // "online" or "offline"
}

func newServer(ctx context.Context, isp *ISP, dir string, c Config) (*Server, error) {
	binary, err := findBinary("storing-server")
	if err != nil {
		return nil, err
	}
	h, err := newHost("server")
	if err != nil {
		return nil, err
	}
	if err := h.cable(isp.host, street, nil); err != nil {
		return nil, err
	}
	if err := h.up("eth0"); err != nil {
		return nil, err
	}
	if err := h.address("eth0", serverAddress, fixedRouter.Addr()); err != nil {
		return nil, err
	}
	s := &Server{host: h, dir: dir, name: "server", port: storingPort, binary: binary, lookups: c.Lookups, pages: c.Pages, turn: c.TURN}
	return s, s.Start(ctx)
}

// AddServer starts another storing server on the host of the bed's own, with rows and
// a key of its own.
func (b *Bed) AddServer(ctx context.Context, name string, port int) (*Server, error) {
	s := &Server{host: b.Server.host, dir: b.Dir, name: name, port: port, binary: b.Server.binary}
	b.onClose(func() error {
		if s.proc == nil {
			return nil
		}
		return s.Stop()
	})
	return s, s.Start(ctx)
}

// Address returns where phones reach the server, as host:port.
func (s *Server) Address() string {
	return netip.AddrPortFrom(serverAddress.Addr(), uint16(s.port)).String()
}

func (s *Server) data() string { return filepath.Join(s.dir, s.name+"-data") }

// Start starts the storing server, on the data that it left when it last ran,
// and waits until it serves.
func (s *Server) Start(ctx context.Context) error {
	args := []string{"run", "--data", s.data(), "--listen", fmt.Sprintf(":%d", s.port), "--health", s.health()}
	if s.port == storingPort { // one on that host can have these ports
		args = append(args, "--stun", ":3478", "--relay", ":3480")
	}
	if s.lookups > 0 {
		args = append(args, fmt.Sprintf("--lookups=%d", s.lookups))
	}
	if s.pages {
		args = append(args, fmt.Sprintf("--http=:%d", pagesPort))
	}
	if s.turn > 0 {
		args = append(args, fmt.Sprintf("--turn=:%d", s.turn))
	}
	args = append(args, s.flags...)
	p, err := s.host.run(s.dir, command{name: "storing-" + s.name, path: s.binary, args: args})
	if err != nil {
		return err
	}
	s.proc = p
	if _, _, err := p.await(ctx, 0, func(line string) bool {
		return strings.Contains(line, "msg=ready")
	}); err != nil {
		return fmt.Errorf("testbed: start storing server: %w", err)
	}
	return s.awaitOperator(ctx)
}

// awaitOperator waits until the operator's commands are answered too.
func (s *Server) awaitOperator(ctx context.Context) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		_, err := s.Rows(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("testbed: start storing server: %w: %w", ctx.Err(), err)
		}
	}
}

// health is where the server tells of itself, on its host alone.
func (s *Server) health() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Metrics returns what Prometheus would read.
func (s *Server) Metrics(ctx context.Context) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.host.dial}}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.health()+"/metrics", nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(ask)
	if err != nil {
		return "", fmt.Errorf("testbed: read metrics: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("testbed: read metrics: %w", err)
	}
	return string(text), nil
}

// Load announces and looks up rows at the server, a few at a time, for about as long as
// is said or until ctx is done.
func (s *Server) Load(ctx context.Context, d time.Duration) error {
	_, err := s.host.output(ctx, s.binary, "bench", "--server", s.Address(), "--phones", "20", "--window", "2", "--rows", "100", "--idle", "20", "--time", (d / 4).String())
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Pid is its process.
func (s *Server) Pid() int { return s.proc.cmd.Process.Pid }

// Kill9 ends the storing server at once, as a crash would.
func (s *Server) Kill9() { s.proc.kill() }

// Stop ends the storing server in order.
func (s *Server) Stop() error { return s.proc.stop() }

// Rows returns the table, as an operator sees it.
func (s *Server) Rows(ctx context.Context) ([]Row, error) {
	out, err := s.command(ctx, "rows", "--json")
	if err != nil {
		return nil, err
	}
	var rows []Row
	for lines := json.NewDecoder(bytes.NewReader(out)); ; {
		var r Row
		switch err := lines.Decode(&r); {
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return nil, fmt.Errorf("testbed: read rows: %w: %s", err, out)
		}
		rows = append(rows, r)
	}
}

// Row returns the row of one phone.
func (s *Server) Row(ctx context.Context, mac MAC) (Row, error) {
	rows, err := s.Rows(ctx)
	if err != nil {
		return Row{}, err
	}
	for _, r := range rows {
		if strings.EqualFold(r.MAC, mac.String()) {
			return r, nil
		}
	}
	return Row{}, fmt.Errorf("testbed: no row for %s", mac)
}

// AwaitState waits until the row of a phone is "online" or "offline".
func (s *Server) AwaitState(ctx context.Context, mac MAC, state string) error {
	look := time.NewTicker(250 * time.Millisecond) // the server tells operators nothing unasked
	defer look.Stop()
	for {
		row, err := s.Row(ctx, mac)
		if err == nil && row.State == state {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("testbed: wait for %s to be %s: %w; the row is %+v (%w)", mac, state, ctx.Err(), row, err)
		}
	}
}

// SetNumber gives a phone its short number, as an operator does.
func (s *Server) SetNumber(ctx context.Context, mac MAC, number string) error {
	_, err := s.command(ctx, "number", "set", mac.String(), number)
	return err
}

// FreeNumber ends the rest of a number that a phone had, as an operator does.
func (s *Server) FreeNumber(ctx context.Context, number string) error {
	_, err := s.command(ctx, "number", "free", number)
	return err
}

// SetRegion says that a server keeps the rows of some phones: "MAC", "MAC-MAC" or the
// first digits of numbers.
func (s *Server) SetRegion(ctx context.Context, of string, at *Server) error {
	key, err := at.key()
	if err == nil {
		_, err = s.command(ctx, "region", "set", of, at.Address(), key)
	}
	return err
}

// key returns the fingerprint of the server's key, from its log.
func (s *Server) key() (string, error) {
	for _, line := range s.proc.log.since(0) {
		if _, rest, ok := strings.Cut(line, " key="); ok && strings.Contains(line, "msg=ready") {
			return strings.Fields(rest)[0], nil
		}
	}
	return "", fmt.Errorf("testbed: the log of %s names no key", s.name)
}

// command runs one of the storing server's commands for operators, on its host.
func (s *Server) command(ctx context.Context, args ...string) ([]byte, error) {
	args = append(args, "--data", s.data())
	return s.host.output(ctx, s.binary, args...)
}

// output runs a program on the host and returns what it prints.
func (h *host) output(ctx context.Context, path string, args ...string) ([]byte, error) {
	var out []byte
	err := h.within(func() (err error) {
		var complaint strings.Builder
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stderr = &complaint
		if out, err = cmd.Output(); err != nil {
			return fmt.Errorf("testbed: %s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
		}
		return nil
	})
	return out, err
}

// ServerAddr returns the storing server's address, which never changes.
func ServerAddr() netip.Addr { return serverAddress.Addr() }
