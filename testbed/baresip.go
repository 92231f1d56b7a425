package testbed

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// baresipControl is the port on which baresip takes commands, on its own host.
const baresipControl = "127.0.0.1:4444"

// baresipSpeaks is for how many seconds baresip repeats its speech: longer than
// any test's call.
const baresipSpeaks = 300

// baresipCodecs gives codecs the names by which baresip's accounts know them.
var baresipCodecs = strings.NewReplacer("opus", "opus/48000/2", "g722", "g722/16000")

// A Baresip is a fixed IP phone: Debian's baresip, a telephone of another
// maker, whose address never changes, unless somebody moves it.
type Baresip struct {
	Addr   netip.Addr
	user   string // of its account
	host   *host
	dir    string
	proc   *process
	conn   net.Conn
	events *journal[BaresipEvent]
	next   int
}

// A BaresipEvent is one of baresip's own events, such as CALL_ESTABLISHED.
type BaresipEvent struct {
	Time  time.Time `json:"-"` // when we were told
	Event bool      `json:"event"`
	Type  string    `json:"type"`
	Param string    `json:"param"`
}

// A BaresipConfig says what baresip to build.
type BaresipConfig struct {
	Codec  string  // that it offers alone: "pcmu", "pcma" or "opus", or several with commas
	Speech []int16 // what it speaks into each call, over and over; 16 kHz
	// Addr is its address, of East or West, if it is to be moved; zero: a fixed one.
	Addr netip.Addr
	// Encryption is what it offers, by baresip's name, such as "dtls_srtp"; empty: none.
	Encryption string
	TLS        bool // it calls over TLS, with a certificate of its own
	// Card has it speak and hear by the JACK server of the environment, of 48 kHz, in
	// place of files. The zero Buffers are its own.
	Card    bool
	Buffers Buffers
	// Waits has it ring until Answer, instead of answering every call at once.
	Waits bool
}

// Buffers are in how small pieces baresip takes sound, and how much it keeps.
type Buffers struct {
	Packet time.Duration // in each packet; 0: 20 ms
	Sound  string        // milliseconds between card and codec, as its setting audio_buffer has them; empty: its own
	Jitter string        // packets that wait, as jitter_buffer_delay; empty: its own
}

// settings are the lines of these that baresip is not to decide.
func (b Buffers) settings() (text string) {
	if b.Sound != "" {
		text += "audio_buffer " + b.Sound + "\n"
	}
	if b.Jitter != "" {
		text += "jitter_buffer_delay " + b.Jitter + "\n"
	}
	return text
}

func (b Buffers) account() string {
	if b.Packet == 0 {
		return ""
	}
	return fmt.Sprintf(";ptime=%d", b.Packet.Milliseconds())
}

// cardRate is the rate of a JACK server that baresip is given.
const cardRate = 48000

// sound are the settings by which baresip speaks and hears.
func (c BaresipConfig) sound(voice string, rate int, records string) string {
	if c.Card {
		return fmt.Sprintf(`audio_source jack,
audio_player jack,
jack_connect_ports yes
ausrc_format float
auplay_format float
ausrc_srate %d
auplay_srate %d
ausrc_channels 1
auplay_channels 1
module jack.so
`, cardRate, cardRate) + c.Buffers.settings()
	}
	return fmt.Sprintf(`audio_source aufile,%s
ausrc_srate %d
ausrc_channels 1
snd_path %s
module aufile.so
module sndfile.so
`, voice, rate, records) + c.Buffers.settings()
}

// AddBaresip starts a baresip.
func (b *Bed) AddBaresip(ctx context.Context, c BaresipConfig) (*Baresip, error) {
	h, addr, err := b.addFixed()
	if err != nil {
		return nil, err
	}
	listen, mode := addr, "auto"
	if c.Addr.IsValid() {
		if err := h.readdress(c.Addr); err != nil {
			return nil, err
		}
		addr, listen = c.Addr, netip.IPv4Unspecified() // whatever it will be
	}
	if c.Waits {
		mode = "manual"
	}
	s := &Baresip{Addr: addr, user: addr.String(), host: h, dir: filepath.Join(b.Dir, h.name), events: newJournal[BaresipEvent]()}
	if err := os.MkdirAll(s.records(), 0o700); err != nil {
		return nil, fmt.Errorf("testbed: make baresip: %w", err)
	}
	// Its resampler spoils what it makes slower, so G.711 gets its own rate.
	rate, sampled := speechRate, c.Speech
	if strings.HasPrefix(c.Codec, "pcm") {
		rate, sampled = 8000, slower(c.Speech, 2)
	}
	voice := filepath.Join(s.dir, "speech.wav")
	// It ends the call at the end of the file, so that is far away.
	if err := writeWAV(voice, slices.Repeat(sampled, 1+baresipSpeaks*rate/len(sampled)), rate); err != nil {
		return nil, err
	}
	modules, err := baresipModules()
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"config": fmt.Sprintf(`module_path %s
sip_listen %s:5060
call_max_calls 4
ctrl_tcp_listen %s
rtp_tos 184
statmode_default off
module g711.so
module g722.so
module opus.so
module srtp.so
module dtls_srtp.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
%s%s`, modules, listen, baresipControl, c.sound(voice, rate, s.records()), c.secured(s.dir)),
		// The user is what our phones call when an address is dialled.
		"accounts": fmt.Sprintf("<sip:%s@%s%s>;regint=0;answermode=%s;audio_codecs=%s%s%s\n", addr, addr, c.transport(), mode, baresipCodecs.Replace(c.Codec), c.Buffers.account(), c.encryption()),
		"contacts": "",
	}
	if c.TLS {
		if settings[baresipCertificate], err = selfSigned(); err != nil {
			return nil, err
		}
	}
	for name, text := range settings {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("testbed: make baresip: %w", err)
		}
	}
	if s.proc, err = h.run(s.dir, command{name: "baresip", path: "baresip", args: []string{"-f", s.dir}}); err != nil {
		return nil, err
	}
	b.onClose(s.proc.stop)
	if _, _, err := s.proc.await(ctx, 0, func(line string) bool { return strings.Contains(line, "baresip is ready") }); err != nil {
		return nil, fmt.Errorf("testbed: start baresip: %w", err)
	}
	if s.conn, err = h.dial(ctx, "tcp", baresipControl); err != nil {
		return nil, fmt.Errorf("testbed: command baresip: %w", err)
	}
	b.onClose(s.conn.Close)
	go s.follow() // ends with the connection
	return s, nil
}

// baresipCertificate is the file with baresip's certificate and its key.
const baresipCertificate = "certificate.pem"

// secured are settings of a baresip that has a certificate.
func (c BaresipConfig) secured(dir string) string {
	if !c.TLS {
		return ""
	}
	return "sip_certificate " + filepath.Join(dir, baresipCertificate) + "\n"
}

func (c BaresipConfig) transport() string {
	if c.TLS {
		return ";transport=tls"
	}
	return ""
}

func (c BaresipConfig) encryption() string {
	if c.Encryption == "" {
		return ""
	}
	return ";mediaenc=" + c.Encryption
}

// selfSigned is a certificate and its key as PEM.
func selfSigned() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("testbed: make certificate: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", fmt.Errorf("testbed: make certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("testbed: make certificate: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), nil
}

// baresipModules finds where Debian put baresip's modules.
func baresipModules() (string, error) {
	for _, pattern := range []string{"/usr/lib/baresip/modules", "/usr/lib/*/baresip/modules"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("testbed: find baresip's modules: none (Debian's package baresip-core)")
}

func (s *Baresip) records() string { return filepath.Join(s.dir, "records") }

// follow reads what baresip tells: JSON objects, each framed as a netstring.
func (s *Baresip) follow() {
	r := bufio.NewReader(s.conn)
	for {
		acknowledge(s.conn)
		length, err := r.ReadString(':')
		if err != nil {
			s.events.finish(fmt.Errorf("testbed: follow baresip: %w", err))
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
		if err != nil || n < 0 || n > 1<<16 {
			s.events.finish(fmt.Errorf("testbed: follow baresip: bad frame %q", length))
			return
		}
		frame := make([]byte, n+1) // and the comma
		if _, err := io.ReadFull(r, frame); err != nil {
			s.events.finish(fmt.Errorf("testbed: follow baresip: %w", err))
			return
		}
		var e BaresipEvent
		if json.Unmarshal(frame[:n], &e) == nil && e.Event {
			e.Time = time.Now()
			s.events.add(e)
		}
	}
}

// acknowledge has the kernel acknowledge what comes next at once. It would wait for
// 40 ms, and so would baresip with the next of its short messages (RFC 9293, 3.7.4 and
// 3.8.6.3). The kernel forgets it after a while (tcp(7), TCP_QUICKACK).
func acknowledge(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // without it events are told later
		})
	}
}

// Await waits for the next event of that type, and passes it.
func (s *Baresip) Await(ctx context.Context, kind string) (BaresipEvent, error) {
	e, next, err := s.events.await(ctx, s.next, func(e BaresipEvent) bool { return e.Type == kind })
	if err != nil {
		return e, fmt.Errorf("testbed: wait for %s of baresip: %w", kind, err)
	}
	s.next = next
	return e, nil
}

// Dial calls a SIP URI.
func (s *Baresip) Dial(uri string) error { return s.command("dial", uri) }

// Answer answers a call that rings.
func (s *Baresip) Answer() error { return s.command("accept", "") }

// Mark passes all events so far: the next Await looks behind them.
func (s *Baresip) Mark() { s.next = s.events.length() }

// User is whom to call at its address: it keeps to that, wherever it moves.
func (s *Baresip) User() string { return s.user }

// Pid returns the process of baresip.
func (s *Baresip) Pid() int { return s.proc.cmd.Process.Pid }

// Hold puts its call on hold, and Resume goes on with it.
func (s *Baresip) Hold() error { return s.command("hold", "") }

// Resume goes on with a call that is on hold.
func (s *Baresip) Resume() error { return s.command("resume", "") }

// Hangup ends the call.
func (s *Baresip) Hangup() error { return s.command("hangup", "") }

func (s *Baresip) command(name, params string) error {
	body, err := json.Marshal(map[string]string{"command": name, "params": params})
	if err != nil {
		return fmt.Errorf("testbed: command baresip: %w", err)
	}
	if _, err := fmt.Fprintf(s.conn, "%d:%s,", len(body), body); err != nil {
		return fmt.Errorf("testbed: command baresip: %w", err)
	}
	return nil
}

// heard returns the WAV file of what baresip received in its latest call.
func (s *Baresip) heard() (string, error) {
	found, err := filepath.Glob(filepath.Join(s.records(), "dump-*-dec.wav"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("testbed: baresip recorded nothing in %s", s.records())
	}
	return found[len(found)-1], nil // their names hold the time
}

// CompareHeard says how much of p's speech baresip received in its latest call,
// which must be over. Its pace is the least of whatever was listened to at p in
// that call.
func (s *Baresip) CompareHeard(p *Phone) (Heard, error) {
	record, err := s.heard()
	if err != nil {
		return Heard{}, err
	}
	heard, err := compareFile(record, p.spoken)
	p.mu.Lock()
	defer p.mu.Unlock()
	heard.Pace, heard.Wanted = p.pace, wanted(p)
	return heard, err
}
