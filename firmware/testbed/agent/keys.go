package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The keys of a bank of gpio-sim, by its lines, and its hook switch.
const (
	keys     = "123456789*0#"
	hookLine = 12
)

// A key is held for this long, and the next one comes as long after: a person
// in a hurry. The handset moves no faster.
const held = 50 * time.Millisecond

func (a *agent) press(pressed string) error {
	dir, err := findBank(a.bank)
	if err != nil {
		return err
	}
	var c *copper
	if a.matrix {
		if c, err = openCopper(dir); err != nil {
			return err
		}
		defer c.Close()
	}
	for _, k := range pressed {
		line := strings.IndexRune(keys, k)
		if line < 0 {
			return fmt.Errorf("there is no key %q", k)
		}
		if c != nil {
			if err := c.press(line/columns, line%columns); err != nil {
				return fmt.Errorf("press %q: %w", k, err)
			}
			continue
		}
		if err := pull(dir, line, true); err != nil {
			return err
		}
		time.Sleep(held)
		if err := pull(dir, line, false); err != nil {
			return err
		}
		time.Sleep(held)
	}
	return nil
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
