package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Requests to peers.
const (
	sipRegister = "REGISTER"
	sipInvite   = "INVITE to 302"
	dnsUpdate   = "dynamic update"
	dnsQuery    = "query"
)

const (
	peerStart = 20 * time.Second
	peerPoll  = 100 * time.Millisecond
	// peerPhones is how many names the load on peers uses.
	peerPhones = 10000
)

// peers measures the other servers that are installed.
func peers(ctx context.Context, o Options, r *Report) error {
	for _, peer := range []struct {
		name    string
		needs   []string // Debian packages
		find    []string // files that show that they are there; one pattern each
		measure func(context.Context, Options, *Report) error
	}{
		{"Kamailio in memory", []string{"kamailio"}, []string{"/usr/sbin/kamailio"}, kamailioMemory},
		{"Kamailio through to PostgreSQL", []string{"kamailio", "kamailio-postgres-modules", "postgresql"},
			[]string{"/usr/sbin/kamailio", kamailioModules + "/db_postgres.so", postgresBin + "/postgres"}, kamailioPostgres},
		{"BIND", []string{"bind9"}, []string{"/usr/sbin/named"}, bind},
	} {
		missing := false
		for _, pattern := range peer.find {
			if found, _ := filepath.Glob(pattern); len(found) == 0 {
				missing = true
			}
		}
		if missing {
			r.Absent = append(r.Absent, fmt.Sprintf("%s: not installed (apt-get install %s)", peer.name, strings.Join(peer.needs, " ")))
			continue
		}
		o.Say("%s, %v for each load", peer.name, o.Time)
		if err := peer.measure(ctx, o, r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Absent = append(r.Absent, fmt.Sprintf("%s: %v", peer.name, err))
		}
	}
	return nil
}

// A daemon is a peer's process.
type daemon struct {
	cmd  *exec.Cmd
	said *tail
	gone chan struct{} // closed when it has ended
}

// startDaemon runs a program in the foreground, as the user with that name when
// there is one given.
func startDaemon(as string, name string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(name, args...), said: &tail{}, gone: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = d.said, d.said
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := runAs(d.cmd, as); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process, which stop waits for
		_ = d.cmd.Wait()
		close(d.gone)
	}()
	return d, nil
}

// runAs lets cmd run as a user, when this is root and there is one given.
func runAs(cmd *exec.Cmd, as string) error {
	if as == "" || os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := lookUser(as)
	if err != nil {
		return err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return nil
}

func lookUser(name string) (uid, gid uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("find user: %w", err)
	}
	a, errA := strconv.ParseUint(u.Uid, 10, 32)
	b, errB := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(a), uint32(b), errors.Join(errA, errB)
}

// stop ends the daemon with all of its children, and waits for it.
func (d *daemon) stop() {
	children := family(d.cmd.Process.Pid)
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.gone:
	case <-time.After(stopMost):
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-d.gone
	}
}

// await tries try until it succeeds, the daemon ends, or it takes too long.
func (d *daemon) await(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, peerStart)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(peerPoll):
		case <-d.gone:
			return fmt.Errorf("%s ended: %s", filepath.Base(d.cmd.Path), lastLines(d.said.String()))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %s", filepath.Base(d.cmd.Path), err, lastLines(d.said.String()))
		}
	}
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// freePort returns a loopback port that was free for UDP just now.
func freePort(ctx context.Context) (int, error) {
	c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port, nil
}

// A dialect is how to ask a peer over UDP. Requests are told apart by a number
// of 16 bits.
type dialect struct {
	request func(id uint16, name int) ([]byte, error)
	// answer returns which request b answers; final is false for what is not
	// the answer yet.
	answer func(b []byte) (id uint16, final, good bool)
}

type peerAsk struct {
	request     []byte
	name        int
	begun, sent time.Time
}

// askPeer is the closed loop of one socket.
func askPeer(ctx context.Context, addr string, d dialect, window, first, names int, lasts time.Duration, once bool) (tally, error) {
	var t tally
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return t, fmt.Errorf("bench: ask peer: %w", err)
	}
	defer c.Close()
	_ = c.(*net.UDPConn).SetReadBuffer(receiveBuffer)
	flying := map[uint16]*peerAsk{}
	var id uint16
	next := 0
	send := func() error {
		if once && next >= names {
			return nil
		}
		for id++; flying[id] != nil; id++ {
		}
		name := first + next%names
		next++
		b, err := d.request(id, name)
		if err != nil {
			return err
		}
		now := time.Now()
		flying[id] = &peerAsk{b, name, now, now}
		_, err = c.Write(b)
		return err
	}
	for range window {
		if err := send(); err != nil {
			return t, fmt.Errorf("bench: ask peer: %w", err)
		}
	}
	buf := make([]byte, 4096)
	start := time.Now()
	for i := 0; (once || time.Since(start) < lasts) && len(flying) > 0; i++ {
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		if err := c.SetReadDeadline(time.Now().Add(tick)); err != nil {
			return t, err
		}
		n, failed := c.Read(buf)
		if failed != nil || i%256 == 0 {
			now := time.Now()
			for id, a := range flying {
				if now.Sub(a.sent) > ackTimeout {
					// As a new request: Kamailio does not answer a REGISTER that it
					// has answered already.
					if a.request, err = d.request(id, a.name); err != nil {
						return t, err
					}
					a.sent = now
					t.repeated++
					if _, err := c.Write(a.request); err != nil && !refusedByPeer(err) {
						return t, err
					}
				}
			}
			if time.Since(start) > lasts+time.Minute {
				return t, fmt.Errorf("bench: ask peer: %d requests without an answer", len(flying))
			}
			if failed != nil {
				continue
			}
		}
		id, final, good := d.answer(buf[:n])
		a := flying[id]
		if a == nil || !final {
			continue
		}
		delete(flying, id)
		if good {
			t.times = append(t.times, time.Since(a.begun))
		} else {
			t.refused++
		}
		if err := send(); err != nil {
			return t, fmt.Errorf("bench: ask peer: %w", err)
		}
	}
	t.took = time.Since(start)
	return t, nil
}

// peerLoad measures one kind of request to a peer, from two sockets. used
// returns what its processes have taken.
func peerLoad(ctx context.Context, addr string, d dialect, window int, lasts time.Duration, used func() time.Duration) (Load, error) {
	const sockets = 2
	var mu sync.Mutex
	var sum tally
	var failed error
	var all sync.WaitGroup
	server, client := used(), ownCPU()
	start := time.Now()
	for i := range sockets {
		all.Go(func() {
			t, err := askPeer(ctx, addr, d, max(1, window/sockets), i*peerPhones/sockets, peerPhones/sockets, lasts, false)
			mu.Lock()
			defer mu.Unlock()
			sum.add(t)
			failed = errors.Join(failed, err)
		})
	}
	all.Wait()
	sum.took = time.Since(start)
	if failed != nil {
		return Load{}, failed
	}
	l := sum.load()
	if l.Answers == 0 {
		return l, fmt.Errorf("bench: ask peer: not one good answer, %d refusals", l.Refused)
	}
	l.ServerMicros = micros(used()-server) / float64(l.Answers)
	l.ClientMicros = micros(ownCPU()-client) / float64(l.Answers)
	return l, nil
}
