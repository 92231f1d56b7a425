// Package webdriver drives a headless Chromium, as W3C WebDriver says.
//
// It knows commands of WebDriver, and with which arguments a Chromium is of use to
// tests. It refuses to know what is on a page, and which test fails for that: whatever
// goes wrong is an error.
package webdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Options say what a Browser is like.
type Options struct {
	Client     *http.Client // that reaches chromedriver; nil: http.DefaultClient
	Profile    string       // the folder of the browser's own files
	NoScript   bool         // pages run no JavaScript
	Microphone string       // a WAV file that is spoken into the microphone, over and over; empty: there is none
	// Wait is for how long Find waits for what it is to find.
	Wait time.Duration
}

// loadMost is how long a page, or a script in one, may take.
const loadMost = time.Minute

// commandMost is how long a command may take, whatever it is: a driver that does not answer
// any more ends the test, not the run of all.
const commandMost = 3 * time.Minute

// arguments are what a Chromium is started with: it sees no screen, asks nobody, and speaks
// to nobody but the page's server.
var arguments = []string{
	"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
	"--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
}

// A Browser is a Chromium with one window.
type Browser struct {
	client  *http.Client
	session string // its URL at chromedriver; empty: it is closed
	wait    time.Duration
}

// Open starts a browser at the chromedriver with that URL. Whoever calls it calls Close,
// or ends the driver.
func Open(ctx context.Context, driver string, o Options) (*Browser, error) {
	b := &Browser{client: o.Client, session: driver, wait: o.Wait}
	if b.client == nil {
		b.client = http.DefaultClient
	}
	args := append(slices.Clone(arguments), "--user-data-dir="+o.Profile)
	if o.Microphone != "" {
		args = append(args, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--use-file-for-fake-audio-capture="+o.Microphone)
	}
	options := map[string]any{"args": args}
	if o.NoScript {
		options["prefs"] = map[string]any{"profile.managed_default_content_settings.javascript": 2}
	}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	err := b.Do(ctx, http.MethodPost, "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": options,
		"goog:loggingPrefs": map[string]string{"browser": "ALL"},
		"timeouts":          b.timeouts(o.Wait),
	}}}, &made)
	if err != nil {
		return nil, fmt.Errorf("webdriver: start browser: %w", err)
	}
	b.session = driver + "/session/" + made.SessionID
	return b, nil
}

func (b *Browser) timeouts(wait time.Duration) map[string]int64 {
	return map[string]int64{"implicit": wait.Milliseconds(), "pageLoad": loadMost.Milliseconds(), "script": loadMost.Milliseconds()}
}

// Close ends the browser, unless it has ended.
func (b *Browser) Close(ctx context.Context) {
	if b.session != "" {
		_ = b.Do(ctx, http.MethodDelete, "", nil, nil) // else it ends with its driver
		b.session = ""
	}
	b.client.CloseIdleConnections()
}

// ErrClosed: the browser has ended.
var ErrClosed = errors.New("webdriver: the browser is closed")

// Do is one command of WebDriver: its path is behind that of the session. in is sent, if
// the method is POST; what is answered is decoded into out. Both may be nil.
func (b *Browser) Do(ctx context.Context, method, path string, in, out any) error {
	if b.session == "" {
		return ErrClosed
	}
	var body io.Reader
	if method == http.MethodPost {
		if in == nil {
			in = struct{}{}
		}
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("webdriver: %s: %w", path, err)
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, commandMost)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.session+path, body)
	if err != nil {
		return fmt.Errorf("webdriver: %s: %w", path, err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return fmt.Errorf("webdriver: %s: %w", path, err)
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("webdriver: %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _, _ := strings.Cut(string(answer.Value), `,"stacktrace"`)
		return fmt.Errorf("webdriver: %s: %s", path, text)
	}
	if out != nil {
		return json.Unmarshal(answer.Value, out)
	}
	return nil
}

// networkChanged is Chromium's word for a network that has only just come up.
const networkChanged = "ERR_NETWORK_CHANGED"

// Load loads a page, again while the browser says that its network has changed: a host
// that is new has its IPv6 address a second after the rest.
func (b *Browser) Load(ctx context.Context, url string) error {
	for {
		if err := b.Do(ctx, http.MethodPost, "/url", map[string]string{"url": url}, nil); err != nil && !strings.Contains(err.Error(), networkChanged) {
			return err
		}
		var text string
		err := b.Run(ctx, `return location.protocol === "chrome-error:" ? document.body.innerText : ""`, &text)
		if err != nil || !strings.Contains(text, networkChanged) {
			return err
		}
	}
}

// Reload loads the page once more.
func (b *Browser) Reload(ctx context.Context) error {
	return b.Do(ctx, http.MethodPost, "/refresh", nil, nil)
}

// Run runs the body of a function in the page, whose arguments are args, and decodes what
// it returns into out, which may be nil. Where pages run no JavaScript this runs.
func (b *Browser) Run(ctx context.Context, script string, out any, args ...any) error {
	return b.Do(ctx, http.MethodPost, "/execute/sync", scriptBody(script, args), out)
}

// RunAsync is Run of a function that calls its last argument with what it returns.
func (b *Browser) RunAsync(ctx context.Context, script string, out any, args ...any) error {
	return b.Do(ctx, http.MethodPost, "/execute/async", scriptBody(script, args), out)
}

func scriptBody(script string, args []any) any {
	return map[string]any{"script": script, "args": append([]any{}, args...)}
}

// How what is looked for is named.
const (
	CSS   = "css selector"
	XPath = "xpath"
)

// Find returns the first element that is found, of the page or of one to come.
func (b *Browser) Find(ctx context.Context, using, value string) (id string, err error) {
	var e map[string]string
	if err := b.Do(ctx, http.MethodPost, "/element", map[string]string{"using": using, "value": value}, &e); err != nil {
		return "", err
	}
	for _, id = range e { // its name is always the same
		return id, nil
	}
	return "", errors.New("webdriver: an element without an id")
}

// Count is how many elements are found now.
func (b *Browser) Count(ctx context.Context, using, value string) (int, error) {
	if err := b.Do(ctx, http.MethodPost, "/timeouts", b.timeouts(0), nil); err != nil {
		return 0, err
	}
	var all []map[string]string
	err := b.Do(ctx, http.MethodPost, "/elements", map[string]string{"using": using, "value": value}, &all)
	return len(all), errors.Join(err, b.Do(ctx, http.MethodPost, "/timeouts", b.timeouts(b.wait), nil))
}

// Click clicks an element as a person does: where it cannot be seen that is an error.
func (b *Browser) Click(ctx context.Context, id string) error {
	return b.Do(ctx, http.MethodPost, "/element/"+id+"/click", nil, nil)
}

// Fill types text into an element, in place of what is there.
func (b *Browser) Fill(ctx context.Context, id, text string) error {
	if err := b.Do(ctx, http.MethodPost, "/element/"+id+"/clear", nil, nil); err != nil {
		return err
	}
	return b.Do(ctx, http.MethodPost, "/element/"+id+"/value", map[string]string{"text": text}, nil)
}

// Text is what is shown of an element.
func (b *Browser) Text(ctx context.Context, id string) (text string, err error) {
	return text, b.Do(ctx, http.MethodGet, "/element/"+id+"/text", nil, &text)
}

// Press presses a key, and lets it go.
func (b *Browser) Press(ctx context.Context, key string) error {
	return b.Do(ctx, http.MethodPost, "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": []any{
		map[string]string{"type": "keyDown", "value": key}, map[string]string{"type": "keyUp", "value": key},
	}}}}, nil)
}

// Keys that are no characters.
const (
	Tab   = "\uE004"
	Enter = "\uE007"
)

// DevTools is a command of Chromium's own protocol, whose answer is decoded into out, which
// may be nil.
func (b *Browser) DevTools(ctx context.Context, method string, params map[string]any, out any) error {
	if params == nil {
		params = map[string]any{}
	}
	return b.Do(ctx, http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": method, "params": params}, out)
}

// Screen makes the page that of a screen so many pixels wide and high, of a telephone or not,
// which prefers a scheme of colours: "light" or "dark".
func (b *Browser) Screen(ctx context.Context, width, height int, mobile bool, scheme string) error {
	if err := b.DevTools(ctx, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile,
	}, nil); err != nil {
		return err
	}
	return b.DevTools(ctx, "Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
	}, nil)
}

// Complaints are the errors in the browser's console since the last time: scripts that
// fail, and what the page's policy forbids.
func (b *Browser) Complaints(ctx context.Context) (out []string, err error) {
	var entries []struct{ Level, Message string }
	if err := b.Do(ctx, http.MethodPost, "/se/log", map[string]string{"type": "browser"}, &entries); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Level == "SEVERE" {
			out = append(out, e.Message)
		}
	}
	return out, nil
}
