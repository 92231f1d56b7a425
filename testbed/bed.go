package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A Bed is an Internet of one's own: a provider, a storing server, and the
// telephones that were added to it.
type Bed struct {
	ISP    *ISP
	Server *Server
	Dir    string // everybody's files; Close removes it
	Board  string // that the phones are, unless they are made otherwise

	hosts    []*host
	phones   []*Phone
	fixed    int            // how many fixed addresses are given out
	closings []func() error // in order of their making; done in the opposite order
}

// onClose has Close do something before it takes the hosts away.
func (b *Bed) onClose(f func() error) { b.closings = append(b.closings, f) }

// A Config says how to build a Bed. The zero Config is fit for most.
type Config struct {
	// Renew is T1, the time after which a phone asks for its lease again:
	// 3 s at least; zero: half of LeaseTime.
	Renew time.Duration
	// Board is what the phones are: "host", or one whose image was made. Empty:
	// "host".
	Board string
	// Lookups is how many the storing server lets a client ask for each second in the
	// long run, for who lives faster than people do; 0: as many as it does by itself.
	Lookups int
	// Pages: the storing server has pages, and browsers call by them.
	Pages bool
	// TURN is the server's port by which browsers are relayed to phones; 0: there is none.
	TURN int
}

// New builds a provider and a storing server, and starts both. It is called
// inside of an enclosure. Whoever calls it calls Close.
func New(ctx context.Context, c Config) (*Bed, error) {
	root, err := inside()
	if err != nil {
		return nil, err
	}
	// Paths of sockets must be short, so the folder's name is.
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		return nil, fmt.Errorf("testbed: make files: %w", err)
	}
	b := &Bed{Dir: dir, Board: cmp.Or(c.Board, hostBoard)}
	if b.ISP, err = newISP(ctx, dir, c.Renew); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if b.Server, err = newServer(ctx, b.ISP, dir, c); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Close ends every program, the phones first, and removes all files.
func (b *Bed) Close() error {
	var problems []error
	for _, p := range b.phones {
		switch {
		case p.proc == nil:
		case p.board == hostBoard:
			problems = append(problems, p.PowerOff())
		case p.on(): // a virtual machine takes long to end, and leaves nothing behind
			p.PowerCut()
		}
	}
	for _, f := range slices.Backward(b.closings) {
		problems = append(problems, f())
	}
	if b.Server != nil {
		if b.Server.proc != nil {
			problems = append(problems, b.Server.Stop())
		}
		b.Server.host.close()
	}
	for _, h := range b.hosts {
		h.close()
	}
	if b.ISP != nil {
		if b.ISP.proc != nil {
			problems = append(problems, b.ISP.Stop())
		}
		b.ISP.host.close()
	}
	return errors.Join(append(problems, os.RemoveAll(b.Dir))...)
}

// Logs returns the paths of the log files of all programs.
func (b *Bed) Logs() []string {
	near, _ := filepath.Glob(filepath.Join(b.Dir, "*.log"))
	deep, _ := filepath.Glob(filepath.Join(b.Dir, "*", "*.log"))
	return append(near, deep...)
}
