package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"flexphone/internal/usage"
)

const (
	startMost = 5 * time.Minute
	stopMost  = 30 * time.Second
	// calm is how long a server rests before it is weighed.
	calm = 2 * time.Second
)

// A process is a storing server that was started here. Its methods may be
// called on nil: a server that was not.
type process struct {
	cmd    *exec.Cmd
	listen string
	log    sync.WaitGroup
	said   tail
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

// startServer runs the storing server on dir until it says that it is ready.
func startServer(ctx context.Context, o Options, dir string) (*process, error) {
	// Rows that are preloaded have had no server yet, and no key.
	args := append([]string{"run", "--data", dir, "--listen", "127.0.0.1:0", "--log", "json", "--resolve", "anyone", "--lookups", "0",
		"--new-server-key"}, o.Args...)
	p := &process{cmd: o.Command(args...)}
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: start server: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: start server: %w", err)
	}
	ready := make(chan string, 1)
	p.log.Go(func() {
		lines := bufio.NewScanner(io.TeeReader(stderr, &p.said))
		for lines.Scan() {
			var line struct{ Msg, Listen string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
				ready <- line.Listen
				break
			}
		}
		_, _ = io.Copy(&p.said, stderr)
		close(ready)
	})
	timer := time.NewTimer(startMost)
	defer timer.Stop()
	var listen string
	select {
	case listen = <-ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	if listen == "" {
		p.stop()
		return nil, errors.Join(ctx.Err(), fmt.Errorf("bench: start server: it did not get ready:\n%s", p.said.String()))
	}
	p.listen = listen
	return p, nil
}

// stop ends the server and waits for it.
func (p *process) stop() { end(p.cmd, &p.log) }

// end asks cmd to end, makes it when it does not, and waits for it.
func end(cmd *exec.Cmd, log *sync.WaitGroup) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	force := time.AfterFunc(stopMost, func() { _ = cmd.Process.Kill() })
	defer force.Stop()
	log.Wait()
	_ = cmd.Wait() // however it ended
}

// usage is what the process has taken; nothing of one that was not started here.
func (p *process) usage() usage.Usage {
	if p == nil {
		return usage.Usage{}
	}
	return usage.Of(p.cmd.Process.Pid)
}

// settled returns the memory after a rest.
func (p *process) settled(ctx context.Context) int64 {
	timer := time.NewTimer(calm)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.usage().Anonymous
}

// refusedByPeer reports that nobody listens at the other end, which ICMP says.
func refusedByPeer(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// diskUsage returns the bytes that dir's files take of the disk.
func diskUsage(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of the server's that has gone meanwhile
		}
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			sum += s.Blocks * 512 // stat(2)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("bench: weigh %s: %w", dir, err)
	}
	return sum, nil
}

// machine describes where this runs; dir is where the data are.
func machine(dir string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown"}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(info), "\n") {
		if name, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(v)
			break
		}
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) == nil {
		names := map[int64]string{0xef53: "ext4", 0x01021994: "tmpfs", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlay"}
		if m.Disk = names[int64(fs.Type)]; m.Disk == "" {
			m.Disk = fmt.Sprintf("%#x", fs.Type)
		}
	}
	m.SyncMicros = syncTime(dir)
	return m
}

// syncTime returns the median of 50 fsyncs, in microseconds; 0 when it cannot
// be measured.
func syncTime(dir string) float64 {
	f, err := os.CreateTemp(dir, "sync-*")
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var times []time.Duration
	for range 50 {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0
		}
		if f.Sync() != nil {
			return 0
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return micros(times[len(times)/2])
}
