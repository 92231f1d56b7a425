package testbed

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flexphone/audio/audiotest"
	"flexphone/testbed/webdriver"
)

// ErrNoBrowser: this machine has no Chromium, or nothing that drives it (Debian's
// packages chromium and chromium-driver).
var ErrNoBrowser = webdriver.ErrNone

// fakeBuffer is what Chromium reads of a file at a time in place of a microphone, in
// samples at speechRate: the last of a round is filled up with silence.
const fakeBuffer = speechRate / 100

// browserRounds are as many as who listens in a page, or to one, may take: on a busy machine a
// browser plays and sends in bursts, for which the buffers of both ends grow. browserFair are
// those in which the machine kept pace when it is the phones' fault that too little was heard.
const (
	browserRounds = 20
	browserFair   = 16
)

// A Browser is a headless Chromium on a host with a fixed address. Into its microphone
// somebody speaks, over and over.
type Browser struct {
	*webdriver.Browser
	Addr   netip.Addr
	host   *host // nil: the machine outside
	speech []int16
}

// AddBrowser starts a browser, into whose microphone speech is spoken. The error is
// ErrNoBrowser where there is none.
func (b *Bed) AddBrowser(ctx context.Context, speech []int16) (*Browser, error) {
	return b.addBrowser(ctx, speech, b.addFixed)
}

// AddBrowserAt starts one behind the router of a home, at an address there.
func (b *Bed) AddBrowserAt(ctx context.Context, home *Home, addr netip.Addr, speech []int16) (*Browser, error) {
	return b.addBrowser(ctx, speech, func() (*host, netip.Addr, error) {
		h, err := b.addFixedAt(home.host, inHome, netip.PrefixFrom(addr, homeRouter.Bits()), homeRouter.Addr())
		return h, addr, err
	})
}

func (b *Bed) addBrowser(ctx context.Context, speech []int16, add func() (*host, netip.Addr, error)) (*Browser, error) {
	driver, err := webdriver.Find()
	if err != nil {
		return nil, err
	}
	h, addr, err := add()
	if err != nil {
		return nil, err
	}
	w := &Browser{Addr: addr, host: h, speech: speech[:len(speech)/fakeBuffer*fakeBuffer]}
	dir := filepath.Join(b.Dir, h.name)
	spoken := filepath.Join(dir, "speech.wav")
	if err := writeWAV(spoken, w.speech, speechRate); err != nil {
		return nil, err
	}
	p, err := h.run(dir, command{name: "chromedriver", path: driver, args: []string{"--port=0"}, env: []string{"HOME=" + dir}})
	if err != nil {
		return nil, err
	}
	b.onClose(p.stop)
	var url string
	if _, _, err := p.await(ctx, 0, func(line string) (ok bool) { url, ok = webdriver.Listening(line); return ok }); err != nil {
		return nil, fmt.Errorf("testbed: start browser: %w", err)
	}
	w.Browser, err = webdriver.Open(ctx, url, webdriver.Options{
		Client: &http.Client{Transport: &http.Transport{DialContext: h.dial}}, Profile: filepath.Join(dir, "profile"), Microphone: spoken,
	})
	if err != nil {
		return nil, fmt.Errorf("testbed: %w", err)
	}
	b.onClose(func() error { // while it can still be driven
		w.Close(context.WithoutCancel(ctx))
		return nil
	})
	return w, nil
}

// Close ends the browser, unless it has ended.
func (w *Browser) Close(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w.Browser.Close(bounded)
}

// PlainVoice has the page get the voice as it is spoken: what the browser would make of
// it, of echo, noise and level, is its own matter. The connection of its call is kept for
// those who ask how it goes.
func (w *Browser) PlainVoice(ctx context.Context) error {
	return w.Run(ctx, `
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = () => real({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
const made = RTCPeerConnection;
window.RTCPeerConnection = function (c) { return window.connection = new made(c); };`, nil)
}

// A spoken is how much the microphone of a call has given until when, both in seconds.
type spoken struct{ Samples, At float64 }

func (w *Browser) spoken(ctx context.Context) (s spoken, err error) {
	if err := w.RunAsync(ctx, `
const [done] = arguments;
connection.getStats().then(all => {
  const source = [...all.values()].find(s => s.type === "media-source");
  done({ samples: source.totalSamplesDuration, at: source.timestamp / 1000 });
}).catch(() => done({}));`, &s); err != nil {
		return s, fmt.Errorf("testbed: ask for the page's microphone: %w", err)
	}
	if s.At == 0 {
		return s, errors.New("testbed: ask for the page's microphone: there is none")
	}
	return s, nil
}

// Click clicks what a selector of CSS finds, as a person does: where it cannot be seen
// that is an error.
func (w *Browser) Click(ctx context.Context, selector string) error {
	id, err := w.Find(ctx, webdriver.CSS, selector)
	if err == nil {
		err = w.Browser.Click(ctx, id)
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
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
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
			return is, fmt.Errorf("testbed: wait for %q: %w: the page says %q, %s", texts, context.Cause(ctx), is, trouble)
		}
	}
}

// Hears waits until the call of the page has had a voice to play.
func (w *Browser) Hears(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var energy float64 // of W3C's statistics: of full level, in seconds
		if err := w.RunAsync(ctx, `
const [done] = arguments;
connection.getStats().then(all => done([...all.values()].find(s => s.type === "inbound-rtp")?.totalAudioEnergy ?? 0)).catch(() => done(0));`, &energy); err != nil {
			return fmt.Errorf("testbed: wait for a voice in the page: %w", err)
		}
		const voice = 1e-4 // 10 ms at -20 dB of full level
		if energy > voice {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("testbed: wait for a voice in the page: %w", context.Cause(ctx))
		}
	}
}

// TimeCalls has the page note when it is clicked to call, and when the phone has said there that
// it rings.
func (w *Browser) TimeCalls(ctx context.Context) error {
	return w.Run(ctx, `
const state = document.getElementById("state");
document.getElementById("dial").addEventListener("click", () => { window.clicked = performance.now(); }, true);
new MutationObserver(() => { if (state.textContent === "Ringing") window.rang = performance.now(); }).observe(state, { childList: true });`, nil)
}

// Took returns how long the last call took from one to the other, and how long the same takes the
// browser alone: a microphone, two connections of the page with each other, and a word.
func (w *Browser) Took(ctx context.Context) (call, alone time.Duration, err error) {
	var told struct{ Call, Alone float64 } // milliseconds
	if err := w.RunAsync(ctx, `
const [done] = arguments;
(async () => {
  const began = performance.now();
  const heard = await navigator.mediaDevices.getUserMedia();
  const ends = [new RTCPeerConnection(), new RTCPeerConnection()];
  const [near, far] = ends.map(pc => pc.createDataChannel("call", { negotiated: true, id: 0 }));
  ends[0].addTrack(heard.getAudioTracks()[0], heard);
  const said = new Promise(hear => { near.onmessage = hear; });
  far.onopen = () => far.send("ringing");
  const gathered = pc => new Promise(all => { pc.onicecandidate = e => { if (!e.candidate) all(); }; });
  let all = gathered(ends[0]);
  await ends[0].setLocalDescription();
  await all;
  await ends[1].setRemoteDescription(ends[0].localDescription);
  all = gathered(ends[1]);
  await ends[1].setLocalDescription();
  await all;
  await ends[0].setRemoteDescription(ends[1].localDescription);
  await said;
  const alone = performance.now() - began;
  heard.getTracks().forEach(t => t.stop());
  ends.forEach(pc => pc.close());
  done({ call: rang - clicked, alone });
})().catch(() => done({}));`, &told); err != nil {
		return 0, 0, fmt.Errorf("testbed: time the page: %w", err)
	}
	if told.Call <= 0 || told.Alone <= 0 {
		return 0, 0, fmt.Errorf("testbed: time the page: it says %+v", told)
	}
	return time.Duration(told.Call * float64(time.Millisecond)), time.Duration(told.Alone * float64(time.Millisecond)), nil
}

// Relayed has the page speak to phones by TURN alone, over "udp" or "tcp", whatever other ways
// there are; over "none" by no TURN.
func (w *Browser) Relayed(ctx context.Context, transport string) error {
	return w.Run(ctx, `
const [transport] = arguments, real = RTCPeerConnection;
window.RTCPeerConnection = function ({ iceServers }) {
  const turn = iceServers.find(s => s.username);
  const urls = turn.urls.filter(u => u.includes("transport=tcp") === (transport === "tcp"));
  return new real(transport === "none" ? {} : { iceServers: [{ ...turn, urls }], iceTransportPolicy: "relay" });
};`, nil, transport)
}

// Apart takes all ways between the browser's host and the provider's subnets, where phones
// are: what is sent there goes nowhere. The servers are reached as before.
func (b *Bed) Apart(w *Browser) error {
	for _, pool := range []Pool{East, West} {
		if err := w.host.link.RouteAdd(&netlink.Route{Dst: ipNet(pool.Router.Masked()), Type: unix.RTN_BLACKHOLE}); err != nil {
			return fmt.Errorf("testbed: take the ways of %s: %w", w.host.name, err)
		}
	}
	return nil
}

// Hear listens to a speech that is repeated at the other end, for some rounds unless
// enough of it is heard before: a browser whose buffer has grown plays faster for up to
// half a minute, until it has the usual length. If too little was heard, the pace is the
// least of all rounds, or full if the machine kept it in enough of them.
func (w *Browser) Hear(ctx context.Context, speech []int16) (heard Heard, err error) {
	least, fair, unfair := fullPace, 0, 0
	for fair+unfair < browserRounds && unfair <= browserRounds-browserFair {
		if heard, err = w.hearOnce(ctx, speech); err != nil || heard.Enough() {
			return heard, err
		}
		if least = least.and(heard.Pace); heard.Judged() {
			fair++
		} else {
			unfair++
		}
	}
	if heard.Pace = least; fair >= browserFair {
		heard.Pace = fullPace
	}
	return heard, nil
}

// hearOnce listens in the page, for as long as a speech takes that is repeated at the other
// end, to what the element #voice plays. Of the pace, the card is what plays there: how much
// of the time had sound, or silence, ready when it was due.
func (w *Browser) hearOnce(ctx context.Context, speech []int16) (Heard, error) {
	const record = `
const [seconds, rate, done] = arguments;
(async () => {
  const track = document.getElementById("voice").srcObject.getAudioTracks()[0].clone();
  const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 10000 }).readable.getReader(); // of 10 ms
  const parts = [];
  let got = 0, of = 0, began = 0;
  for (let settled = 0; got < seconds;) {
    const { value: frame } = await reader.read();
    if (settled < 0.25) {
      settled += frame.duration / 1e6;
      began = performance.now();
    } else {
      const part = new Float32Array(frame.numberOfFrames);
      frame.copyTo(part, { planeIndex: 0, format: "f32-planar" });
      parts.push(part);
      got += part.length / (of = frame.sampleRate);
    }
    frame.close();
  }
  const took = (performance.now() - began) / 1000;
  track.stop();
  const all = new AudioBuffer({ length: parts.reduce((n, p) => n + p.length, 0), sampleRate: of });
  let n = 0;
  for (const p of parts) { all.copyToChannel(p, 0, n); n += p.length; }
  const context = new OfflineAudioContext(1, Math.ceil(all.duration * rate), rate);
  const source = new AudioBufferSourceNode(context, { buffer: all });
  source.connect(context.destination);
  source.start();
  const heard = (await context.startRendering()).getChannelData(0);
  const samples = Int16Array.from(heard, x => Math.max(-1, Math.min(1, x)) * 32767);
  let text = "";
  for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
  done({ samples: btoa(text), card: Math.min(1, got / took) });
})().catch(e => done({ wrong: String(e) }));`
	m, err := startPace()
	if err != nil {
		return Heard{}, err
	}
	var told struct {
		Samples string
		Card    float64
		Wrong   string
	}
	err = w.RunAsync(ctx, record, &told, float64(2*len(speech))/speechRate, speechRate)
	pace, problem := m.stop()
	if err = errors.Join(err, problem); err == nil && told.Wrong != "" {
		err = errors.New(told.Wrong)
	}
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen in the page: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(told.Samples)
	if err != nil {
		return Heard{}, fmt.Errorf("testbed: listen in the page: %w", err)
	}
	recorded := make([]int16, len(raw)/2)
	for i := range recorded {
		recorded[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	r := audiotest.Compare(speech, recorded, speechRate)
	return Heard{Arrived: r.Arrived, Correlation: r.Correlation, Pace: pace.and(Pace{1, 1, told.Card, 1}), Wanted: Enough}, nil
}
