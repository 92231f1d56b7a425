package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"flexphone/testbed/lab"
)

// A power is what a person waits for who switches a phone on: from the start of its
// program to its address, and to its row at the storing server.
type power struct{ address, registered time.Duration }

// powerUp starts a whole phone twice: once as it comes, and once more after it was
// killed, with its key and its lease stored.
func powerUp(ctx context.Context, cl client) (first, again power, err error) {
	_, err = measure(ctx, measurement{run: func(b *bench) (time.Duration, error) {
		b.provider = lab.Providers()[0]
		server, err := b.program(b.cable.Far, b.dirs[0], "storing-server", "run", "--data", filepath.Join(b.dirs[0], "rows"),
			"--listen", home.Addr().String()+":5684")
		if err != nil {
			return 0, err
		}
		defer server.Kill()
		if err := b.serve(hour(home, addrA)); err != nil {
			return 0, err
		}
		<-time.After(time.Second) // both have begun
		if first, err = b.powerUp(); err != nil {
			return 0, err
		}
		if err = b.cable.Bare(); err == nil {
			again, err = b.powerUp()
		}
		return 0, err
	}}, cl)
	return first, again, err
}

func (b *bench) powerUp() (p power, err error) {
	socket := filepath.Join(b.dirs[1], "control")
	_ = os.Remove(socket) // of a phone that was killed
	settings := fmt.Sprintf("board = \"host\"\ninterface = %q\nstoring_server = \"%v:5684\"\ndata = %q\ncontrol = %q\n[audio]\nbackend = \"wav\"\n",
		lab.NearName, home.Addr(), filepath.Join(b.dirs[1], "phone"), socket)
	config := filepath.Join(b.dirs[1], "phone.toml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return p, err
	}
	phone, err := b.program(b.cable.Near, b.dirs[1], "flexphone", "run", "--config", config)
	if err != nil {
		return p, err
	}
	defer phone.Kill()
	registered := make(chan time.Time, 1)
	failed := make(chan error, 1)
	go func() {
		at, err := untilRegistered(socket, phone)
		if err != nil {
			failed <- err
			return
		}
		registered <- at
	}()
	at, err := b.usable(addrA)
	if err != nil {
		return p, err
	}
	p.address = at.Sub(phone.Began)
	select {
	case at := <-registered:
		p.registered = at.Sub(phone.Began)
		return p, nil
	case err := <-failed:
		return p, err
	}
}

// untilRegistered asks a phone every millisecond whether it is registered, and
// returns when it was.
func untilRegistered(socket string, phone *lab.Process) (time.Time, error) {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.After(benchLimit); ; {
		select {
		case <-again.C:
		case <-phone.Done():
			return time.Time{}, errors.New("compare: the phone ended by itself")
		case <-end:
			return time.Time{}, errLate
		}
		if yes, err := isRegistered(socket); err == nil && yes {
			return time.Now(), nil
		}
	}
}

func isRegistered(socket string) (bool, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(benchLimit)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, "{\"command\":\"status\"}\n"); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return false, err
	}
	var answer struct {
		Result struct {
			Registered bool `json:"registered"`
		}
	}
	err = json.Unmarshal(line, &answer)
	return answer.Result.Registered, err
}

// runStarts prints how long a whole phone takes from the start of its program, and
// between two of its starts the address agent alone, in a program that runs: on a
// busy machine all of them are slow.
func runStarts(ctx context.Context, cl client, n int, out io.Writer) error {
	var address, registered [2][]time.Duration
	var alone []time.Duration
	for range n {
		first, again, err := powerUp(ctx, cl)
		if err != nil {
			return err
		}
		for i, p := range []power{first, again} {
			address[i], registered[i] = append(address[i], p.address), append(registered[i], p.registered)
		}
		agent, err := measure(ctx, measurement{run: func(b *bench) (time.Duration, error) { return benchStart(b, lab.Providers()[0]) }}, cl)
		if err != nil {
			return err
		}
		alone = append(alone, agent)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "the whole phone, its program started\tstart to address\tstart to registered")
	agent := median(alone)
	for i, name := range []string{"for the first time", "again, after it was killed"} {
		whole := median(address[i])
		fmt.Fprintf(w, "%s\t%s (%.1f of the agent alone)\t%s\n", name, milliseconds(whole), float64(whole)/float64(agent), milliseconds(median(registered[i])))
	}
	fmt.Fprintf(w, "the agent alone, in a program that runs\t%s\n", milliseconds(agent))
	return w.Flush()
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
