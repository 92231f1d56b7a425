package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"flexphone/internal/durable"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/store"
)

// AuditName is the audit log's name in the data folder: one JSON object a line.
const AuditName = "audit.jsonl"

// An Audit is the log of who came to own what. It only grows; the operator may
// move it away at any time, and another one is begun.
type Audit struct {
	path string
	mu   sync.Mutex
}

// NewAudit returns the log in dir.
func NewAudit(dir string) *Audit { return &Audit{path: filepath.Join(dir, AuditName)} }

// Check reports why nothing can be written there.
func (a *Audit) Check() error {
	if err := a.append(nil); err != nil {
		return fmt.Errorf("trust: write audit log: %w", err)
	}
	return nil
}

// A line is an event as it is written.
type line struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"`
	MAC    string    `json:"mac,omitempty"`
	Key    string    `json:"key,omitempty"`
	Old    string    `json:"old,omitempty"`
	Number string    `json:"number,omitempty"`
	User   string    `json:"user,omitempty"`
	Token  string    `json:"token,omitempty"`
	Name   string    `json:"name,omitempty"`
	Labels []string  `json:"labels,omitempty"`
	Server string    `json:"server,omitempty"`
	By     string    `json:"by,omitempty"`
}

func lineOf(e store.Event, now time.Time) line {
	l := line{Time: now.UTC(), Event: e.Event, Number: e.Number, User: e.User, Token: e.Token, Name: e.Name, Labels: e.Labels, Server: e.Server, By: e.By}
	if e.MAC != (wire.MAC{}) {
		l.MAC = e.MAC.String()
	}
	if e.Key != (wire.Fingerprint{}) {
		l.Key = e.Key.String()
	}
	if e.Old != (wire.Fingerprint{}) {
		l.Old = e.Old.String()
	}
	return l
}

// Append writes events to the disk: all of them or none. When it returns nil
// they are there.
func (a *Audit) Append(events []store.Event) error {
	now := time.Now()
	var text []byte
	for _, e := range events {
		b, err := json.Marshal(lineOf(e, now))
		if err != nil {
			return fmt.Errorf("trust: write audit log: %w", err)
		}
		text = append(append(text, b...), '\n')
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.append(text); err != nil {
		return fmt.Errorf("trust: write audit log: %w", err)
	}
	return nil
}

func (a *Audit) append(text []byte) error {
	_, missing := os.Lstat(a.path)
	f, err := os.OpenFile(a.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	// A line that a power cut has left unfinished stays alone.
	var last [1]byte
	if end > 0 {
		if _, err := f.ReadAt(last[:], end-1); err == nil && last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(end))
	}
	if errors.Is(missing, fs.ErrNotExist) {
		return durable.SyncDir(filepath.Dir(a.path))
	}
	return nil
}
