package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// Each line of the log is a JSON object where that is asked for, also of what
// goes wrong.
func TestStructuredLog(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, errs := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"run", "--data", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "json", "-v"}, io.Discard, errs)
		errs.Close()
	}()
	said := map[string]bool{}
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct {
			Time             time.Time
			Level, Msg, HTTP string
			From             string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Time.IsZero() || line.Level == "" || line.Msg == "" {
			t.Errorf("%q: %v", bytes.Clone(lines.Bytes()), err)
		}
		said[line.Msg] = true
		switch line.Msg {
		case "ready":
			go func() { // which is logged before it is answered
				if resp, err := http.PostForm(line.HTTP+"/login", url.Values{"password": {"a guess"}}); err == nil {
					resp.Body.Close()
				}
			}()
		case "login refused":
			if line.From != "127.0.0.1" {
				t.Errorf("a login is refused to %q", line.From)
			}
			stop()
		}
	}
	if got := <-code; got != 0 || !said["login refused"] || !said["stopped"] {
		t.Errorf("exit %d; said %v", got, said)
	}
}
