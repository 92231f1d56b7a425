package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"flexphone/testbed"
)

// doors are where this machine's browsers come in: the two listeners of its loopback that the
// story has, which were opened before it went into its enclosure.
type doors struct{ pages, turn net.Listener }

// openDoors opens both, on ports that are free.
func openDoors() (files []*os.File, err error) {
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		file, err := l.(*net.TCPListener).File()
		if err := errors.Join(err, l.Close()); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// doorsOf is what openDoors has opened; nil: nothing.
func doorsOf(files []*os.File) (*doors, error) {
	if len(files) == 0 {
		return nil, nil
	}
	if len(files) != 2 {
		return nil, fmt.Errorf("%d files were carried in; want 2", len(files))
	}
	var all [2]net.Listener
	for i, f := range files {
		var err error
		if all[i], err = net.FileListener(f); err != nil {
			return nil, err
		}
		f.Close()
	}
	return &doors{all[0], all[1]}, nil
}

// port is that of TURN; 0: there are no doors.
func (d *doors) port() int {
	if d == nil {
		return 0
	}
	return d.turn.Addr().(*net.TCPAddr).Port
}

// letIn says where a browser of this machine calls 101.
func (t *teller) letIn(ctx context.Context, d *doors) error {
	site, err := t.bed.LetIn(d.pages, d.turn)
	if err != nil {
		return err
	}
	link, err := t.bed.Server.Link(ctx, "you", "--number=101", "--valid=0")
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "\nCall 101 from a browser of this machine (Chrome, Edge, Firefox or Safari), and type here 101 off when it rings:\n  %s\n", testbed.Outside(link, site))
	return nil
}
