package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func segment() LinkMessage {
	return LinkMessage{
		Peer: MAC{2, 0, 0x5e, 0, 0x53, 1}, Link: LinkID{1, 2, 3}, Kind: LinkData,
		Offset: MaxLinkBytes - MaxSegment, Data: bytes.Repeat([]byte{0xff}, MaxSegment), Next: MaxLinkBytes, Limit: MaxLinkBytes,
	}
}

// The longest message fits into a body, and reads as it was written.
func TestLongestLinkMessage(t *testing.T) {
	b, err := EncodeLink(segment())
	if err != nil || len(b) > MaxBody {
		t.Fatalf("%d bytes, %v; want at most %d", len(b), err, MaxBody)
	}
	if got, err := DecodeLink(b); err != nil || !reflect.DeepEqual(got, segment()) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLinkMessageRefused(t *testing.T) {
	for name, spoil := range map[string]func(*LinkMessage){
		"nobody":               func(m *LinkMessage) { m.Peer = MAC{} },
		"everybody":            func(m *LinkMessage) { m.Peer[0] |= 1 },
		"no kind":              func(m *LinkMessage) { m.Kind = 0 },
		"an unknown kind":      func(m *LinkMessage) { m.Kind = 4 },
		"too many bytes":       func(m *LinkMessage) { m.Data = append(m.Data, 1) },
		"bytes in an open":     func(m *LinkMessage) { m.Kind = LinkOpen },
		"beyond all bytes":     func(m *LinkMessage) { m.Offset = MaxLinkBytes + 1 },
		"a limit beyond that":  func(m *LinkMessage) { m.Limit = 1<<64 - 1 },
		"no ending in a close": func(m *LinkMessage) { m.Kind, m.Data = LinkClose, nil },
		"an ending elsewhere":  func(m *LinkMessage) { m.Ending = EndDone },
	} {
		m := segment()
		spoil(&m)
		if _, err := EncodeLink(m); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v; want ErrInvalid", name, err)
		}
	}
}

// What can be read can be written, and is the same then.
func FuzzLink(f *testing.F) {
	longest, _ := EncodeLink(segment())
	open, _ := EncodeLink(LinkMessage{Peer: MAC{2, 1}, Kind: LinkOpen, Limit: LinkWindow})
	end, _ := EncodeLink(LinkMessage{Peer: MAC{2, 1}, Kind: LinkClose, Offset: 9, Ending: EndDone})
	for _, b := range [][]byte{longest, open, end, {0xa0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeLink(b)
		if err != nil {
			return
		}
		out, err := EncodeLink(m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		again, err := DecodeLink(out)
		if len(m.Data) == 0 {
			m.Data = nil
		}
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
