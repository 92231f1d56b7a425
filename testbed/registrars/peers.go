package main

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

	"flexphone/internal/usage"
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
	// stopMost is how long a peer may take to end by itself.
	stopMost = 30 * time.Second
)

// peers measures the other servers that are installed.
func peers(ctx context.Context, o options, r *report) error {
	for _, peer := range []struct {
		name    string
		needs   []string // Debian packages
		find    []string // files that show that they are there; one pattern each
		measure func(context.Context, options, *report) error
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
			r.absent = append(r.absent, fmt.Sprintf("%s: not installed (apt-get install %s)", peer.name, strings.Join(peer.needs, " ")))
			continue
		}
		o.say("%s, %v for each load", peer.name, o.time)
		if err := peer.measure(ctx, o, r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.absent = append(r.absent, fmt.Sprintf("%s: %v", peer.name, err))
		}
	}
	return nil
}

// A daemon is a peer's process.
type daemon struct {
	cmd  *exec.Cmd
	said *tail         // the end of its log
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
	children := usage.Family(d.cmd.Process.Pid)
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

// A tail keeps the end of what was written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 8<<10 {
		t.b = append([]byte(nil), t.b[len(t.b)-4<<10:]...)
	}
	return len(p), nil
}

// String returns it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
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
