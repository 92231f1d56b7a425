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
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"flexphone/testbed/lab"
)

// What a lease is for: a whole phone and a storing server, their programs as
// `make build` leaves them, on the cable. The phone leases its address itself,
// or watches another client do it.

// binaries is where the programs are.
const binaries = "build/host"

// A journey is how far the news of an address got: from the carrier to the
// address, and from there to registry-client and to the answer of the storing
// server. Again is the last one for another address, when the server is known, and
// asked what of that was the server's: from the datagram to its answer.
type journey struct{ address, told, registered, again, asked time.Duration }

// A phoneEvent is what the phone's control socket tells of an event.
type phoneEvent struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Took  string    `json:"took"` // of registered
}

// travel measures a journey with cl as the one who leases.
func travel(ctx context.Context, cl client) (j journey, err error) {
	_, err = measure(ctx, measurement{run: func(b *bench) (time.Duration, error) {
		b.provider = lab.Providers()[0]
		j, err = b.travel()
		return 0, err
	}}, cl)
	return j, err
}

func (b *bench) travel() (j journey, err error) {
	server, err := b.program(b.cable.Far, b.dirs[0], "storing-server", "run", "--data", filepath.Join(b.dirs[0], "rows"),
		"--listen", home.Addr().String()+":5684")
	if err != nil {
		return j, err
	}
	defer server.Kill()
	if err := b.serve(hour(home, addrA)); err != nil {
		return j, err
	}
	if err := b.cable.Unplug(); err != nil {
		return j, err
	}
	source := "dhcp"
	if b.client.name != oursName {
		source = "watch"
		if err := b.start(); err != nil {
			return j, err
		}
	}
	socket := filepath.Join(b.dirs[1], "control")
	settings := fmt.Sprintf("board = \"host\"\ninterface = %q\nstoring_server = \"%v:5684\"\ndata = %q\ncontrol = %q\n[audio]\nbackend = \"wav\"\n[address]\nsource = %q\n",
		lab.NearName, home.Addr(), filepath.Join(b.dirs[1], "phone"), socket, source)
	config := filepath.Join(b.dirs[1], "phone.toml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return j, err
	}
	phone, err := b.program(b.cable.Near, b.dirs[1], "flexphone", "run", "--config", config)
	if err != nil {
		return j, err
	}
	defer phone.Kill()
	events, err := listenTo(socket, phone)
	if err != nil {
		return j, err
	}
	defer events.Close()
	<-time.After(time.Second)
	begin := time.Now()
	if err := b.cable.Plug(); err != nil {
		return j, err
	}
	at, err := b.usable(addrA)
	if err != nil {
		return j, err
	}
	j.address = at.Sub(begin)
	lines := bufio.NewScanner(events)
	if j.told, j.registered, _, err = follow(events, lines, at); err != nil || source != "dhcp" {
		return j, err
	}
	if err := b.serve(hour(home, addrB)); err != nil {
		return j, err
	}
	if err := b.cable.Blink(); err != nil {
		return j, err
	}
	if at, err = b.usable(addrB); err != nil {
		return j, err
	}
	_, j.again, j.asked, err = follow(events, lines, at)
	return j, err
}

// follow waits until the phone has registered, and returns how long after at it
// knew of the lease and was registered, and what of that the server took.
func follow(conn net.Conn, lines *bufio.Scanner, at time.Time) (told, registered, asked time.Duration, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(benchLimit)); err != nil {
		return 0, 0, 0, err
	}
	for lines.Scan() {
		var answer struct{ Result phoneEvent }
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			return 0, 0, 0, fmt.Errorf("compare: read the phone's events: %w", err)
		}
		switch e := answer.Result; e.Event {
		case "lease.bound":
			told = e.Time.Sub(at)
		case "registered":
			asked, err = time.ParseDuration(e.Took)
			return told, e.Time.Sub(at), asked, err
		}
	}
	return 0, 0, 0, errLate
}

// program starts one of ours, with its log in dir.
func (b *bench) program(where *lab.Namespace, dir, name string, args ...string) (*lab.Process, error) {
	path, err := filepath.Abs(filepath.Join(binaries, name))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	return where.Start(cmd, dir)
}

// listenTo asks a phone for its events, once it is there.
func listenTo(socket string, phone *lab.Process) (net.Conn, error) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.After(benchLimit); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_, err = io.WriteString(conn, "{\"command\":\"events\"}\n")
			return conn, err
		}
		select {
		case <-again.C:
		case <-phone.Done():
			return nil, errors.New("compare: the phone ended by itself")
		case <-end:
			return nil, err
		}
	}
}

// built reports whether the programs are there, and says what is not.
func built(out io.Writer) bool {
	for _, name := range []string{"flexphone", "storing-server"} {
		if _, err := os.Stat(filepath.Join(binaries, name)); err != nil {
			fmt.Fprintf(out, "Not measured: the whole phone needs %s/%s (make build)\n", binaries, name)
			return false
		}
	}
	return true
}

// runJourneys prints how long it takes from the carrier to the storing server.
func runJourneys(ctx context.Context, list []client, n int, out io.Writer) error {
	median := func(all []journey, of func(journey) time.Duration) string {
		var d []time.Duration
		for _, j := range all {
			d = append(d, of(j))
		}
		slices.Sort(d)
		return milliseconds(d[len(d)/2])
	}
	rows := make([]string, len(list))
	errs := make([]error, len(list))
	one := func(i int, n int) {
		name := list[i].name
		if i > 0 {
			name += ", watched"
		}
		var all []journey
		for range n {
			j, err := travel(ctx, list[i])
			if err != nil {
				rows[i], errs[i] = fmt.Sprintf("%s\t%s", name, oneLine(err)), err
				return
			}
			all = append(all, j)
		}
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s", name, median(all, func(j journey) time.Duration { return j.address }),
			median(all, func(j journey) time.Duration { return j.told }), median(all, func(j journey) time.Duration { return j.registered }))
		if i == 0 {
			rows[i] += fmt.Sprintf("\t%s (%s the server's)", median(all, func(j journey) time.Duration { return j.again }), median(all, func(j journey) time.Duration { return j.asked }))
		}
	}
	one(0, max(n, 10))
	var others sync.WaitGroup
	for i := range list[1:] {
		others.Go(func() { one(i+1, 2) })
	}
	others.Wait()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "a phone, whose address is leased by\tcarrier to address\taddress to registry-client\taddress to registered\tanother address to registered")
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return errors.Join(w.Flush(), errs[0])
}
