package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"flexphone/internal/durable"
)

// program is the phone's, as the kernel calls its process.
const program = "flexphone"

// settings is where a phone's own settings are.
const settings = "/data/flexphone.toml"

// signal sends a signal to the phone's program.
func signal(number int) error {
	found, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, path := range found {
		name, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(name)) != program {
			continue // another one, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		return unix.Kill(pid, unix.Signal(number))
	}
	return fmt.Errorf("find %s: it does not run", program)
}

// save writes the phone's settings, once or for ever.
func save(text string, again bool) error {
	if err := durable.WriteFile(settings, []byte(text), 0o644); err != nil || !again {
		return err
	}
	go func() { // ends with the machine
		breath := time.NewTicker(20 * time.Millisecond) // the phone needs its processor, too
		for n := 1; ; n++ {
			<-breath.C
			if err := durable.WriteFile(settings, []byte(text+strings.Repeat("# more\n", n%1000)), 0o644); err != nil {
				fmt.Fprintln(os.Stderr, "agent: save:", err)
				return
			}
		}
	}()
	return nil
}
