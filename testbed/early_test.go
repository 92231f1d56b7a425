package testbed

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"flexphone/audio/g711"
)

// TestEarlyMedia: a stranger that is called describes itself in a 183 and speaks:
// that is heard before it has answered. Its 200 describes nothing, and the
// call goes on with what was heard (RFC 3261, 13.2.1; RFC 3960).
func TestEarlyMedia(t *testing.T) {
	if board() != hostBoard {
		t.Skip("which sound is played when is the program's doing, and the same on every board")
	}
	ctx, bed, phones := town(t, Config{}, 1)
	p := phones[0]
	s, err := bed.AddStranger()
	must(t, err)
	must(t, p.Do(ctx, "dial", DialledAddr(s.Addr.Addr())))
	invite, err := s.Next(ctx, func(m Said) bool { return m.Method() == "INVITE" })
	must(t, err)
	contact := fmt.Sprintf("Contact: <sip:stranger@%s>", s.Addr)
	must(t, s.Say(invite.From, invite.Response(183, "s", fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d RTP/AVP 0\r\n",
		s.Media.Addr(), s.Media.Port()), contact, "Content-Type: application/sdp")))
	speech := speak(t, words[1])
	port, err := strconv.ParseUint(anAudioLine.FindStringSubmatch(invite.Body())[1], 10, 16)
	must(t, err)
	speaking, stop := context.WithCancel(ctx)
	var speaker sync.WaitGroup
	speaker.Go(func() { s.speak(speaking, netip.AddrPortFrom(invite.From.Addr(), uint16(port)), speech) })
	defer speaker.Wait()
	defer stop()

	hearSpeech(ctx, t, p, speech)
	status, err := p.Status(ctx)
	must(t, err)
	if status.State != "calling" || status.Tone != "" {
		t.Errorf("it hears early media in %s, with the tone %q", status.State, status.Tone)
	}
	must(t, s.Say(invite.From, invite.Response(200, "s", "", contact)))
	await(ctx, t, p, "established")
	hearSpeech(ctx, t, p, speech)
	must(t, p.Do(ctx, "hangup"))
	bye, err := s.Next(ctx, func(m Said) bool { return m.Method() == "BYE" })
	must(t, err)
	must(t, s.Say(bye.From, bye.Response(200, "", "")))
	if reason := await(ctx, t, p, "ended").Field("reason"); reason != "hangup" {
		t.Errorf("ended for %q", reason)
	}
}

// speak sends speech, sampled at 16 kHz, over and over as G.711, in the pace of
// RTP, until ctx is done.
func (s *Stranger) speak(ctx context.Context, to netip.AddrPort, speech []int16) {
	const samples = 160 // 20 ms at 8 kHz
	sampled, law := slower(speech, 2), g711.Mu()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun := time.Now()
	for n := 0; ; {
		for due := int(time.Since(begun) / (20 * time.Millisecond)); n < due; n++ { // a tick may have been missed
			packet := []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
			binary.BigEndian.PutUint16(packet[2:], uint16(n))
			binary.BigEndian.PutUint32(packet[4:], uint32(n*samples))
			for i := range samples {
				packet = append(packet, law.Encode(sampled[(n*samples+i)%len(sampled)]))
			}
			_ = s.Sound(to, packet) // what is lost is not heard
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
