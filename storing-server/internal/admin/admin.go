// Package admin lets the operator's commands act on a running server: HTTP and
// JSON over a Unix socket in the data folder, which only the server's user may
// open.
//
// It knows the commands and their errors. It refuses to be reached over a
// network.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
	"flexphone/storing-server/internal/trust"
)

// socketName is the socket's name in the data folder.
const socketName = "admin.sock"

// ErrNotRunning: no server listens in the data folder.
var ErrNotRunning = errors.New("no server is running there")

// Rows is what the commands do. store.Store and Client are Rows.
type Rows interface {
	Trust
	Access
	CallLinks
	Regions
	SetNumber(ctx context.Context, mac wire.MAC, digits string) error
	Forget(ctx context.Context, mac wire.MAC) error
	SetNaming(ctx context.Context, mac wire.MAC, n store.Naming) error
}

// A Lister has all rows in memory.
type Lister interface {
	Rows
	Approver
	Rows() iter.Seq[wire.Row]
	Naming(mac wire.MAC) store.Naming
	Phones() []store.Phone
	Tokens() []store.Token
	APITokens() []store.APIToken
	CallLinks() []store.CallLink
	Regions() []store.Region
}

// A Row is a wire.Row as JSON, the same in `rows --json`.
type Row struct {
	MAC         wire.MAC         `json:"mac"`
	Digits      string           `json:"digits"` // of the MAC, to dial
	Number      string           `json:"number,omitempty"`
	State       wire.State       `json:"state"`
	Since       time.Time        `json:"since"`
	Addrs       []string         `json:"addrs"`
	SIP         uint16           `json:"sip,omitempty"`
	SIPS        uint16           `json:"sips,omitempty"`
	Expiry      time.Time        `json:"expiry"`
	Sequence    uint64           `json:"sequence"`
	Fingerprint wire.Fingerprint `json:"fingerprint"`
	Name        string           `json:"name,omitempty"` // for people
	Labels      []string         `json:"labels,omitempty"`
}

// RowOf returns the row of a phone that is called n as JSON has it.
func RowOf(r wire.Row, n store.Naming) Row {
	out := Row{
		MAC: r.MAC, Digits: r.MAC.Digits(), Number: r.Number, State: r.State, Since: r.Since.UTC(),
		SIP: r.Ports.SIP, SIPS: r.Ports.SIPS, Expiry: r.Expiry.UTC(), Sequence: r.Sequence, Fingerprint: r.Fingerprint,
		Name: n.Name, Labels: n.Labels,
	}
	for _, a := range r.Addrs {
		out.Addrs = append(out.Addrs, a.String())
	}
	if out.Name == "" && r.Name != "" {
		out.Name = "browser: " + r.Name
	}
	return out
}

// Serve answers commands that come to l until ctx is done. waiting may be nil:
// then nobody waits.
func Serve(ctx context.Context, l net.Listener, rows Lister, waiting *trust.Waiting) error {
	srv := &http.Server{Handler: handler(rows, waiting), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: serve: %w", err)
	}
	return nil
}

// Listen makes the socket in dir anew: whoever holds the data folder's lock may. The
// path goes through the folder's descriptor, since a socket's may have 107
// bytes only.
func Listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("admin: listen: %w", err)
	}
	defer d.Close()
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin: listen: %w", err)
	}
	l, err := net.Listen("unix", through(d))
	if err != nil {
		return nil, fmt.Errorf("admin: listen in %s: %w", dir, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the path ends with d
	if err := os.Chmod(filepath.Join(dir, socketName), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("admin: listen: %w", err)
	}
	return l, nil
}

func through(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName)
}

func handler(rows Lister, waiting *trust.Waiting) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rows", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jsonl")
		enc := json.NewEncoder(w)
		for row := range rows.Rows() {
			if enc.Encode(RowOf(row, rows.Naming(row.MAC))) != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /backup", backUp(rows))
	mux.HandleFunc("PUT /rows/{mac}/number", func(w http.ResponseWriter, r *http.Request) {
		mac, err := wire.ParseMAC(r.PathValue("mac"))
		var digits []byte
		if err == nil {
			digits, err = io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		}
		if err == nil {
			err = rows.SetNumber(r.Context(), mac, string(digits))
		}
		answer(w, err)
	})
	mux.HandleFunc("PUT /rows/{mac}/name", func(w http.ResponseWriter, r *http.Request) {
		var b namingBody
		if !read(w, r, &b) {
			return
		}
		mac, err := wire.ParseMAC(r.PathValue("mac"))
		if err == nil {
			err = rows.SetNaming(r.Context(), mac, store.Naming(b))
		}
		answer(w, err)
	})
	mux.HandleFunc("DELETE /rows/{mac}", func(w http.ResponseWriter, r *http.Request) {
		mac, err := wire.ParseMAC(r.PathValue("mac"))
		if err == nil {
			err = rows.Forget(r.Context(), mac)
		}
		answer(w, err)
	})
	trustHandlers(mux, rows)
	accessHandlers(mux, rows)
	callLinkHandlers(mux, rows)
	regionHandlers(mux, rows)
	waitingHandlers(mux, rows, waiting)
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// A Client gives commands to a running server.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client of the server whose data folder is dir.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		var nd net.Dialer
		return nd.DialContext(ctx, "unix", through(d))
	}
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// List returns all rows, ordered by MAC.
func (c *Client) List(ctx context.Context) ([]Row, error) {
	resp, err := c.do(ctx, http.MethodGet, "/rows", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out []Row
	for dec := json.NewDecoder(resp.Body); ; {
		var r Row
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("admin: read rows: %w", err)
		}
		out = append(out, r)
	}
}

// SetNumber implements Rows.
func (c *Client) SetNumber(ctx context.Context, mac wire.MAC, digits string) error {
	return c.command(ctx, http.MethodPut, "/rows/"+mac.Hex()+"/number", []byte(digits))
}

type namingBody struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

// SetNaming implements Rows.
func (c *Client) SetNaming(ctx context.Context, mac wire.MAC, n store.Naming) error {
	body, err := json.Marshal(namingBody(n))
	if err != nil {
		return fmt.Errorf("admin: ask server: %w", err)
	}
	return c.command(ctx, http.MethodPut, "/rows/"+mac.Hex()+"/name", body)
}

// Forget implements Rows.
func (c *Client) Forget(ctx context.Context, mac wire.MAC) error {
	return c.command(ctx, http.MethodDelete, "/rows/"+mac.Hex(), nil)
}

func (c *Client) command(ctx context.Context, method, path string, body []byte) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://storing-server"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("admin: ask server: %w", err)
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("admin: ask server in %s: %w", c.dir, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("admin: ask server: %w", err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return resp, nil
}
