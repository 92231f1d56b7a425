package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A browser is a headless Chromium, driven as W3C WebDriver says.
type browser struct {
	t       *testing.T
	session string // its URL at chromedriver
}

// elementKey is how WebDriver names an element.
const elementKey = "element-6066-11e4-a52e-4f735466cecf"

var driverPort = regexp.MustCompile(`started successfully on port (\d+)`)

// openBrowser starts Chromium for as long as the test, in a folder of its own.
func openBrowser(t *testing.T, script bool) *browser {
	t.Helper()
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		t.Skip("needs chromium and chromium-driver")
	}
	cmd := exec.Command(driver, "--port=0")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and what it has started
		_ = cmd.Wait()
	})
	b := &browser{t: t}
	base := ""
	for lines := bufio.NewScanner(out); base == "" && lines.Scan(); {
		if m := driverPort.FindStringSubmatch(lines.Text()); m != nil {
			base = "http://127.0.0.1:" + m[1]
		}
	}
	if base == "" {
		t.Fatal("chromedriver says no port")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
	options := map[string]any{"args": []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir=" + t.TempDir(),
	}}
	if !script {
		options["prefs"] = map[string]any{"profile.managed_default_content_settings.javascript": 2}
	}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	b.session = base
	b.call("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": options,
		"goog:loggingPrefs": map[string]string{"browser": "ALL"},
		"timeouts":          map[string]int{"implicit": 60000, "pageLoad": 60000},
	}}}, &made)
	b.session = base + "/session/" + made.SessionID
	t.Cleanup(func() {
		if t.Failed() {
			return // as it is: the group is killed
		}
		req, err := http.NewRequest(http.MethodDelete, b.session, nil)
		if err == nil {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				resp.Body.Close()
			}
		}
	})
	return b
}

// errDriver is what WebDriver answers to what did not work.
var errDriver = errors.New("webdriver")

func (b *browser) try(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if method == http.MethodPost {
		if in == nil {
			in = struct{}{}
		}
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.session+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		text, _, _ := strings.Cut(string(answer.Value), `,"stacktrace"`)
		return fmt.Errorf("%w: %s %s: %s", errDriver, method, path, text)
	}
	if out != nil {
		return json.Unmarshal(answer.Value, out)
	}
	return nil
}

func (b *browser) call(method, path string, in, out any) {
	b.t.Helper()
	if err := b.try(b.t.Context(), method, path, in, out); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call("POST", "/url", map[string]string{"url": url}, nil)
}

func (b *browser) reload() {
	b.t.Helper()
	b.call("POST", "/refresh", nil, nil)
}

// find waits for an element of the page, or of a page to come.
func (b *browser) find(xpath string) string {
	b.t.Helper()
	var e map[string]string
	if err := b.try(b.t.Context(), "POST", "/element", map[string]string{"using": "xpath", "value": xpath}, &e); err != nil {
		b.t.Fatalf("%v\non the page:\n%s", err, b.source())
	}
	return e[elementKey]
}

// count says how many such elements there are now.
func (b *browser) count(xpath string) int {
	b.t.Helper()
	b.call("POST", "/timeouts", map[string]int{"implicit": 0}, nil)
	defer b.call("POST", "/timeouts", map[string]int{"implicit": 60000}, nil)
	var all []map[string]string
	b.call("POST", "/elements", map[string]string{"using": "xpath", "value": xpath}, &all)
	return len(all)
}

func (b *browser) click(xpath string) {
	b.t.Helper()
	b.clickElement(b.find(xpath))
}

// clickElement clicks what find has found, which must be there still.
func (b *browser) clickElement(e string) {
	b.t.Helper()
	b.call("POST", "/element/"+e+"/click", nil, nil)
}

func (b *browser) fill(xpath, text string) {
	b.t.Helper()
	e := b.find(xpath)
	b.call("POST", "/element/"+e+"/clear", nil, nil)
	b.call("POST", "/element/"+e+"/value", map[string]string{"text": text}, nil)
}

func (b *browser) text(xpath string) (out string) {
	b.t.Helper()
	b.call("GET", "/element/"+b.find(xpath)+"/text", nil, &out)
	return out
}

func (b *browser) source() (out string) {
	b.t.Helper()
	b.call("GET", "/source", nil, &out)
	return out
}

// complaints are what the browser's console has of errors: scripts that fail,
// and what the page's policy forbids.
func (b *browser) complaints() (out []string) {
	b.t.Helper()
	var entries []struct{ Level, Message string }
	b.call("POST", "/se/log", map[string]string{"type": "browser"}, &entries)
	for _, e := range entries {
		if e.Level == "SEVERE" {
			out = append(out, e.Message)
		}
	}
	return out
}

// picture writes what is seen to files, light and dark, if the environment
// asks for it.
func (b *browser) picture(name string, width, height int) {
	b.t.Helper()
	dir := os.Getenv("STORING_SERVER_PICTURES")
	if dir == "" {
		return
	}
	b.call("POST", "/window/rect", map[string]int{"width": width, "height": height}, nil)
	for _, scheme := range []string{"dark", "light"} {
		b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setEmulatedMedia", "params": map[string]any{
			"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
		}}, nil)
		var text string
		b.call("GET", "/screenshot", nil, &text)
		png, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = os.WriteFile(dir+"/"+name+"-"+scheme+".png", png, 0o600)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}
