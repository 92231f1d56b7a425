package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flexphone/testbed/pace"
	"flexphone/testbed/serial"
)

// The keys of a bank of gpio-sim, by its lines, and its hook switch.
const (
	keys     = "123456789*0#"
	hookLine = 12
)

const (
	// held is how long a key is held, and how long after it the next one comes: a
	// person in a hurry. The handset moves no faster.
	held = 100 * time.Millisecond
	// long is how long a key is held by a person who thinks, longer than keyboards
	// wait before they repeat it.
	long = 1500 * time.Millisecond
	// bounces is how often a bad contact opens before it is closed, and closes
	// before it is open.
	bounces = 5
)

// contacts are those of the keys, by their place in the constant keys.
type contacts interface {
	// move closes or opens a contact.
	move(key int, down bool) error
	// hold returns when all is as it is for as long as a person in a hurry needs.
	hold() error
	// late returns how long the phone may have seen the contacts as they were before.
	late() time.Duration
	Close() error
}

// openContacts returns those that the phone's keypad has.
func (a *agent) openContacts() (contacts, error) {
	dir, err := findBank(a.bank)
	if err != nil {
		return nil, err
	}
	if a.matrix {
		return openCopper(dir)
	}
	return singly{dir}, nil
}

// singly: each key has a line of its own.
type singly struct{ dir string }

func (s singly) move(key int, down bool) error { return pull(s.dir, key, down) }
func (s singly) hold() error                   { time.Sleep(held); return nil }
func (s singly) late() time.Duration           { return 0 }
func (s singly) Close() error                  { return nil }

// press presses keys, one after the other or as how says, and returns how well it could.
func (a *agent) press(pressed, how string) (did serial.Pressed, err error) {
	c, err := a.openContacts()
	if err != nil {
		return did, err
	}
	defer c.Close()
	f := &finger{contacts: c, how: how}
	var down []int
	var last time.Duration // when the key before was pressed
	for _, k := range pressed {
		key := strings.IndexRune(keys, k)
		if key < 0 {
			return did, fmt.Errorf("there is no key %q", k)
		}
		before := pace.Now()
		if err := f.move(key, true); err != nil {
			return did, fmt.Errorf("press %q: %w", k, err)
		}
		if len(down) > 0 {
			did.Between = max(did.Between, pace.Now()-last)
		}
		last = before
		if down = append(down, key); how == serial.Together {
			continue
		}
		if err := f.move(key, false); err != nil {
			return did, fmt.Errorf("let go %q: %w", k, err)
		}
	}
	if how == serial.Together {
		for _, key := range down {
			if err := f.move(key, false); err != nil {
				return did, fmt.Errorf("let go %q: %w", keys[key], err)
			}
		}
	}
	did.Bounced, did.Late = f.bounced, c.late()
	return did, nil
}

// A finger moves contacts in its own way.
type finger struct {
	contacts
	how     string
	bounced time.Duration // the longest bounce
}

// move moves a key, and returns when the phone has had the time to notice.
func (f *finger) move(key int, down bool) error {
	if f.how == serial.Bouncing {
		from := time.Now()
		for range bounces {
			if err := errors.Join(f.contacts.move(key, down), f.contacts.move(key, !down)); err != nil {
				return err
			}
		}
		f.bounced = max(f.bounced, time.Since(from))
	}
	if err := f.contacts.move(key, down); err != nil {
		return err
	}
	for end := time.Now().Add(long); ; {
		if err := f.hold(); err != nil || !down || f.how != serial.Long || time.Now().After(end) {
			return err
		}
	}
}

func (a *agent) hook(lifted bool) error {
	dir, err := findBank(a.bank)
	if err != nil {
		return err
	}
	if err := pull(dir, hookLine, lifted); err != nil {
		return err
	}
	time.Sleep(held)
	return nil
}

// findBank returns the folder of a gpio-sim bank.
func findBank(label string) (string, error) {
	found, err := filepath.Glob("/sys/devices/platform/*/*/sim_gpio0")
	if err != nil {
		return "", err
	}
	more, err := filepath.Glob("/sys/devices/platform/*/*/*/sim_gpio0")
	if err != nil {
		return "", err
	}
	for _, line := range append(found, more...) {
		dir := filepath.Dir(line)
		if b, err := os.ReadFile(filepath.Join(dir, "of_node/gpio-sim,label")); err == nil && string(b) == label+"\x00" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find the gpio-sim bank %q: none in %q", label, append(found, more...))
}

// pull closes or opens the contact of a line, which connects it to ground.
func pull(dir string, line int, closed bool) error {
	to := "pull-up"
	if closed {
		to = "pull-down"
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("sim_gpio%d", line), "pull"), []byte(to), 0)
}
