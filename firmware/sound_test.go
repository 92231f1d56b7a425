package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"flexphone/audio"
	"flexphone/audio/echo"
	"flexphone/firmware/internal/media"
	"flexphone/firmware/internal/phone"
	"flexphone/firmware/internal/sip"
	"flexphone/firmware/internal/trace"
	"flexphone/internal/mac"
	registry "flexphone/registry-client"
)

// What a peer says of itself in an answer reaches the engine: under which numbers
// each way, and what it asks of the codec.
func TestWhatWasAgreedReachesTheEngine(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	ours, theirs := codecs(""), codecs("")
	theirs[0].PayloadType, theirs[0].Params = 96, "maxplaybackrate=16000;maxaveragebitrate=12000"
	end := media.NewCall().With(media.Local{Addr: here, Port: 4000, Codecs: ours})
	offer, err := end.Offer()
	if err != nil {
		t.Fatal(err)
	}
	answer := "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 5000 RTP/AVP 96 110\r\na=rtcp:5009\r\na=ptime:40\r\n" +
		"a=rtpmap:96 opus/48000/2\r\na=fmtp:96 " + theirs[0].Params + "\r\na=rtpmap:110 telephone-event/48000\r\n"
	agreed, err := end.Take([]byte(answer), here)
	if err != nil {
		t.Fatal(err)
	}
	got := sessionOf(agreed, agreed.Terms.(media.RTP))
	want := audio.Session{
		Codec: audio.Codec{Name: "opus", PayloadType: 96, ClockRate: 48000}, Params: theirs[0].Params,
		DTMF: eventType48k, DTMFClock: 48000, PacketTime: 40 * time.Millisecond, Send: true, Recv: true,
	}
	for _, c := range ours {
		want.Receive = append(want.Receive, carried(c))
	}
	late := carried(ours[0]) // as an answerer that uses its own number sends it
	late.PayloadType = 96
	want.Receive = append(want.Receive, late)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the answer becomes\n%+v, want\n%+v", got, want)
	}
	other := media.NewCall().With(media.Local{Addr: here, Port: 5000, Codecs: theirs})
	if _, agreed, err = other.Answer(offer, here); err != nil {
		t.Fatal(err)
	}
	if got = sessionOf(agreed, agreed.Terms.(media.RTP)); got.Params != ours[0].Params || got.Codec.PayloadType != ours[0].PayloadType {
		t.Errorf("the offer becomes %+v", got)
	}
}

// Sound and reports go where the peer wants each of them.
func TestWhatWasAgreedReachesThePath(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	bind := func() (*net.UDPConn, netip.AddrPort) {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(here, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	engine := audio.NewEngine(audio.Config{Formats: formats(), Log: slog.New(slog.DiscardHandler)})
	opened, err := soundFor(t, engine, func(netip.Addr) netip.Addr { return here }).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := opened.Start(sip.Media{Terms: "smoke"}); err == nil {
		t.Error("sound that is no RTP is carried")
	}
	sound, rtp := bind()
	reports, rtcp := bind()
	pcma := formats()[1].Codec()
	if err := opened.Start(sip.Media{Remote: rtp, Terms: media.RTP{
		RemoteRTCP: rtcp, Codec: media.Codec{Name: pcma.Name, PayloadType: pcma.PayloadType, ClockRate: pcma.ClockRate},
	}}); err != nil {
		t.Fatal(err)
	}
	for what, at := range map[audio.Protocol]*net.UDPConn{audio.RTP: sound, audio.RTCP: reports} {
		want := []byte{byte(what)}
		if err := opened.(*stream).ways.Send(what, want); err != nil {
			t.Error(err)
		}
		got := make([]byte, 10)
		if n, err := at.Read(got); err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%v, %v, want %v", got[:n], err, want)
		}
	}
}

// A codec that the engine does not take is offered no more, and where none is left
// that is said.
func TestOffersWithoutWhatIsNotTaken(t *testing.T) {
	here := func(netip.Addr) netip.Addr { return netip.MustParseAddr("127.0.0.1") }
	engine := audio.NewEngine(audio.Config{Formats: formats()})
	opened, err := soundFor(t, engine, here).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	names := strings.Fields(usualCodecs)
	for i, codec := range append(names, "") { // of an answer to a peer that can do everything; empty: none
		without := names[:i]
		opened.Renew()
		lm, ok := opened.Local(sip.Peer{Addr: netip.MustParseAddrPort("127.0.0.2:5060")}, phone.Wanted{Without: without})
		offer, err := lm.Offer()
		if err != nil {
			t.Fatal(err)
		}
		peer := media.NewCall().With(media.Local{Addr: here(netip.Addr{}), Port: 5000, Codecs: codecs("")})
		_, m, err := peer.Answer(offer, here(netip.Addr{}))
		if ok != (codec != "") || ok != (err == nil) || m.Codec != codec {
			t.Errorf("without %q: %v, answered %q, %v; want %q", without, ok, m.Codec, err, codec)
		}
	}
}

// nearHost alone is on the network of the phones of soundFor.
var nearHost = netip.MustParseAddr("127.0.0.9")

// Who is near is asked for short packets, offering and answering, and sends them if
// it is a phone of ours; others are asked for the usual ones, and so is who calls by way
// of the storing server from a network that has the same addresses.
func TestShortPackets(t *testing.T) {
	here := func(netip.Addr) netip.Addr { return netip.MustParseAddr("127.0.0.1") }
	engine := audio.NewEngine(audio.Config{Formats: formats(), Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		host    string
		relayed bool
		want    time.Duration
	}{{"127.0.0.9", false, 10 * time.Millisecond}, {"127.0.0.2", false, 20 * time.Millisecond}, {"127.0.0.9", true, 20 * time.Millisecond}} {
		host, want := c.host, c.want
		var ends [2]sip.LocalMedia
		for i := range ends {
			opened, err := soundFor(t, engine, here).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			ends[i], _ = opened.Local(sip.Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(host), 5060), Relayed: c.relayed}, phone.Wanted{})
		}
		offer, err := ends[0].Offer()
		if err != nil {
			t.Fatal(err)
		}
		answer, there, err := ends[1].Answer(offer, here(netip.Addr{}))
		if err != nil {
			t.Fatal(err)
		}
		back, err := ends[0].Take(answer, here(netip.Addr{}))
		if err != nil || there.PacketTime != want || back.PacketTime != want {
			t.Errorf("%+v: packets of %v and %v, %v", c, there.PacketTime, back.PacketTime, err)
		}
	}
}

// soundFor is the sound of a phone with a key.
func soundFor(t *testing.T, engine *audio.Engine, address func(netip.Addr) netip.Addr) *sound {
	t.Helper()
	folder := registry.OpenFolder(t.TempDir())
	id, err := folder.Identity(mac.Address{2, 0, 0x5e, 0, 0x53, 1})
	if err != nil {
		t.Fatal(err)
	}
	return newSound(engine, soundConfig{
		address: address, near: func(peer netip.Addr) bool { return peer == nearHost }, own: func() (tls.Certificate, bool) { return id.Certificate, true }, codecs: codecs(""), loud: newVolumes("", echo.NewDesk(echo.Off, false)), traced: trace.Trace{}.RTP, log: slog.New(slog.DiscardHandler),
		around: &neighbourhood{addrs: func() []netip.Addr { return nil }, server: func() (*registry.Client, bool) { return nil, false }},
	})
}

// The settings say which codecs are spoken, and in which order; L16 is spoken where
// both ends name it.
func TestCodecsAsTheyArePreferred(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	local := func(names string) media.Local { return media.Local{Addr: here, Port: 5000, Codecs: codecs(names)} }
	for _, tt := range []struct{ ours, theirs, offered, answered string }{
		{"", "", "opus", "opus"},
		{"PCMU opus", "", "opus", "PCMU"}, // who answers chooses
		{"pcma", "", "PCMA", "PCMA"},
		{"L16 opus", "", "opus", "opus"},
		{"L16 opus", "opus L16", "opus", "L16"},
		{"L16", "L16", "L16", "L16"},
		{"L16", "", "", ""},
	} {
		talk := func(from, to string) string {
			end, other := media.NewCall().With(local(from)), media.NewCall().With(local(to))
			offer, err := end.Offer()
			if err != nil {
				t.Fatal(err)
			}
			answer, m, err := other.Answer(offer, here)
			if err != nil {
				return ""
			}
			if back, err := end.Take(answer, here); err != nil || back.Codec != m.Codec {
				t.Errorf("%q to %q: %q and %q, %v", from, to, m.Codec, back.Codec, err)
			}
			return m.Codec
		}
		if got := talk(tt.ours, tt.theirs); got != tt.offered {
			t.Errorf("%q offered to %q: %q", tt.ours, tt.theirs, got)
		}
		if got := talk(tt.theirs, tt.ours); got != tt.answered {
			t.Errorf("%q answers %q: %q", tt.ours, tt.theirs, got)
		}
	}
	for _, wrong := range []string{"opus, PCMA", "G729", "opus Opus"} {
		if _, err := preferred(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

// Each call that was answered leaves a line in the log with all that was counted, and
// so does one in which nothing came; its figures are those of `ctl status`.
func TestEachCallIsSummedUp(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1")
	engine := audio.NewEngine(audio.Config{Formats: formats(), Log: slog.New(slog.DiscardHandler)})
	for _, answered := range []bool{true, false} {
		var said bytes.Buffer
		of := soundFor(t, engine, func(netip.Addr) netip.Addr { return here })
		of.log = slog.New(slog.NewJSONHandler(&said, nil))
		opened, err := of.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pcma := formats()[2].Codec()
		if answered {
			if err := opened.Start(sip.Media{Remote: netip.AddrPortFrom(here, 9), Terms: media.RTP{
				Codec: media.Codec{Name: pcma.Name, PayloadType: pcma.PayloadType, ClockRate: pcma.ClockRate},
			}}); err != nil {
				t.Fatal(err)
			}
		}
		status, err := json.Marshal(opened.Stats())
		if err != nil {
			t.Fatal(err)
		}
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
		var line map[string]any
		if err := json.Unmarshal(said.Bytes(), &line); answered != (err == nil) || !answered && said.Len() > 0 {
			t.Fatalf("answered: %v: %q, %v", answered, said.String(), err)
		}
		if !answered {
			continue
		}
		if line["msg"] != "sound ended" || line["codec"] != "PCMA" || line["mos"] != 0.0 {
			t.Errorf("%v", line)
		}
		for _, name := range []string{"late", "refused", "strangers", "crowded", "unsent", "underruns", "card_late"} {
			if _, ok := line[name]; !ok || !bytes.Contains(status, []byte(`"`+name+`":0`)) {
				t.Errorf("%s is not told: %v, %s", name, line, status)
			}
		}
	}
}
