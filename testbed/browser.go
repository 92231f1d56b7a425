package testbed

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flexphone/audio/audiotest"
)

// ErrNoBrowser: this machine has no Chromium, or nothing that drives it (Debian's
// packages chromium and chromium-driver).
var ErrNoBrowser = errors.New("testbed: no chromium and chromium-driver")

// driverPort is where chromedriver listens, on its host alone.
const driverPort = 9515

// fakeBuffer is what Chromium reads of a file at a time in place of a microphone, in
// samples at speechRate: the last of a round is filled up with silence.
const fakeBuffer = speechRate / 100

// browserRounds are as many as Browser.Hear may take.
const browserRounds = 20

// A Browser is a headless Chromium on a host with a fixed address, driven as W3C
// WebDriver says. Into its microphone somebody speaks, over and over.
type Browser struct {
	Addr    netip.Addr
	host    *host
	speech  []int16
	client  *http.Client
	session string // its path at chromedriver
}

// AddBrowser starts a browser, into whose microphone speech is spoken. The error is
// ErrNoBrowser where there is none.
func (b *Bed) AddBrowser(ctx context.Context, speech []int16) (*Browser, error) {
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		return nil, ErrNoBrowser
	}
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	speech = speech[:len(speech)/fakeBuffer*fakeBuffer]
	w := &Browser{Addr: addr, host: h, speech: speech, client: &http.Client{Transport: &http.Transport{DialContext: h.dial}}}
	dir := filepath.Join(b.Dir, h.name)
	spoken := filepath.Join(dir, "speech.wav")
	if err := writeWAV(spoken, speech, speechRate); err != nil {
		return nil, err
	}
	p, err := h.run(dir, command{name: "chromedriver", path: driver, args: []string{fmt.Sprintf("--port=%d", driverPort)}, env: []string{"HOME=" + dir}})
	if err != nil {
		return nil, err
	}
	b.onClose(p.stop)
	b.onClose(func() error { // while it can still be driven
		w.Close(context.WithoutCancel(ctx))
		return nil
	})
	if _, _, err := p.await(ctx, 0, func(line string) bool { return bytes.Contains([]byte(line), []byte("started successfully")) }); err != nil {
		return nil, fmt.Errorf("testbed: start browser: %w", err)
	}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	err = w.do(ctx, http.MethodPost, "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName": "chrome", "acceptInsecureCerts": true,
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--user-data-dir=" + filepath.Join(dir, "profile"),
			"--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
			"--use-file-for-fake-audio-capture=" + spoken,
		}},
		"timeouts": map[string]int{"implicit": 0, "pageLoad": 60000, "script": 60000},
	}}}, &made)
	if err != nil {
		return nil, fmt.Errorf("testbed: start browser: %w", err)
	}
	w.session = "/session/" + made.SessionID
	return w, nil
}

// do is one command of WebDriver.
func (w *Browser) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if method == http.MethodPost {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s%s", driverPort, w.session, path), body)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("webdriver: %s: %.300s", path, answer.Value)
	}
	if out != nil {
		return json.Unmarshal(answer.Value, out)
	}
	return nil
}

// Close ends the browser, unless it has ended.
func (w *Browser) Close(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if w.session != "" {
		_ = w.do(bounded, http.MethodDelete, "", nil, nil) // else it ends with its driver
		w.session = ""
	}
	w.client.CloseIdleConnections()
}

// Speech is what is spoken into its microphone, over and over.
func (w *Browser) Speech() []int16 { return w.speech }

// PlainVoice has the page get the voice as it is spoken: what the browser would make of
// it, of echo, noise and level, is its own matter.
func (w *Browser) PlainVoice(ctx context.Context) error {
	return w.Run(ctx, `
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = () => real({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });`, nil)
}

// Open loads a page, again while the browser says that its network has changed: a host
// that is new has its IPv6 address a second after the rest.
func (w *Browser) Open(ctx context.Context, url string) error {
	for {
		if err := w.do(ctx, http.MethodPost, "/url", map[string]string{"url": url}, nil); err != nil && !strings.Contains(err.Error(), networkChanged) {
			return fmt.Errorf("testbed: open %s: %w", url, err)
		}
		var text string
		err := w.Run(ctx, `return location.protocol === "chrome-error:" ? document.body.innerText : ""`, &text)
		if err != nil || !strings.Contains(text, networkChanged) {
			return err
		}
	}
}

// networkChanged is Chromium's word for that.
const networkChanged = "ERR_NETWORK_CHANGED"

// Run runs the body of a function in the page, and decodes what it returns into out,
// which may be nil.
func (w *Browser) Run(ctx context.Context, script string, out any) error {
	if err := w.do(ctx, http.MethodPost, "/execute/sync", map[string]any{"script": script, "args": []any{}}, out); err != nil {
		return fmt.Errorf("testbed: run in the page: %w", err)
	}
	return nil
}

// Click clicks what a selector of CSS finds, as a person does: where it cannot be seen
// that is an error.
func (w *Browser) Click(ctx context.Context, selector string) error {
	var e map[string]string
	err := w.do(ctx, http.MethodPost, "/element", map[string]string{"using": "css selector", "value": selector}, &e)
	for _, id := range e {
		err = w.do(ctx, http.MethodPost, "/element/"+id+"/click", struct{}{}, nil)
	}
	if err != nil {
		return fmt.Errorf("testbed: click %s: %w", selector, err)
	}
	return nil
}

// Text is what is shown of what a selector of CSS finds first; empty: nothing.
func (w *Browser) Text(ctx context.Context, selector string) (text string, err error) {
	return text, w.Run(ctx, fmt.Sprintf("return document.querySelector(%q)?.innerText ?? ''", selector), &text)
}

// Await waits until that text is shown.
func (w *Browser) Await(ctx context.Context, selector, text string) error {
	_, err := w.AwaitAny(ctx, selector, text)
	return err
}

// AwaitAny waits until one of the texts is shown, and returns it.
func (w *Browser) AwaitAny(ctx context.Context, selector string, texts ...string) (string, error) {
	look := time.NewTicker(20 * time.Millisecond) // WebDriver tells nothing unasked
	defer look.Stop()
	for {
		is, err := w.Text(ctx, selector)
		if err != nil || slices.Contains(texts, is) {
			return is, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			trouble, _ := w.Text(context.WithoutCancel(ctx), "[role=alert]")
			return is, fmt.Errorf("testbed: wait for %q: %w: the page says %q, %s", texts, ctx.Err(), is, trouble)
		}
	}
}

// Hear listens to a speech that is repeated at the other end, for some rounds unless
// enough of it is heard before: a browser whose buffer has grown plays faster for up to
// half a minute, until it has the usual length.
func (w *Browser) Hear(ctx context.Context, speech []int16) (heard Heard, err error) {
	for range browserRounds {
		if heard, err = w.hearOnce(ctx, speech); err != nil || heard.Enough() {
			break
		}
	}
	return heard, err
}

// hearOnce listens in the page, for as long as a speech takes that is repeated at the other
// end, to what the element #voice plays.
func (w *Browser) hearOnce(ctx context.Context, speech []int16) (Heard, error) {
	const record = `
const [samples, rate, done] = arguments, heard = [];
const context = new AudioContext({ sampleRate: rate });
const source = context.createMediaStreamSource(document.getElementById("voice").srcObject);
const tap = context.createScriptProcessor(1024, 1, 1);
let n = -rate / 4;
tap.onaudioprocess = e => {
  const b = e.inputBuffer.getChannelData(0);
  n += b.length;
  if (n > 0 && n - b.length < samples) heard.push(Int16Array.from(b, x => Math.max(-1, Math.min(1, x)) * 32767));
  if (n < samples) return;
  tap.onaudioprocess = null;
  context.close();
  let text = "";
  for (const part of heard) for (const byte of new Uint8Array(part.buffer)) text += String.fromCharCode(byte);
  done(btoa(text));
};
source.connect(tap);
tap.connect(context.destination);
context.resume();`
	var text string
	err := w.do(ctx, http.MethodPost, "/execute/async", map[string]any{"script": record, "args": []any{2 * len(speech), speechRate}}, &text)
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen in the page: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen in the page: %w", err)
	}
	recorded := make([]int16, len(raw)/2)
	for i := range recorded {
		recorded[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	r := audiotest.Compare(speech, recorded, speechRate)
	return Heard{Arrived: r.Arrived, Correlation: r.Correlation, Pace: fullPace, Wanted: Enough}, nil
}
