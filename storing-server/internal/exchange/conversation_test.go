package exchange

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

// counting serves numbers, and counts what it serves.
type counting struct {
	served atomic.Int32
	later  chan func() // not nil: answers wait until they are taken from it
	state  atomic.Int32
	gone   atomic.Bool
}

var key = wire.Query{Number: "101"}

func (c *counting) Serve(Request) (Response, func(func(Response))) {
	c.served.Add(1)
	r := c.Look(Peer{}, key)
	r.Key = key
	if c.later == nil {
		return r, nil
	}
	return Response{}, func(answer func(Response)) { c.later <- func() { answer(r) } }
}

func (c *counting) Look(Peer, wire.Query) Response {
	if c.gone.Load() {
		return Response{Code: codes.NotFound}
	}
	return Response{Code: codes.Content, Format: wire.FormatCBOR, Payload: []byte{byte(c.state.Load())}}
}

type noCount struct{}

func (noCount) Session(int)    {}
func (noCount) Handshake(bool) {}
func (noCount) Dropped(string) {}
func (noCount) Notified()      {}

// A bench is a conversation whose datagrams are looked at.
type bench struct {
	conversation
	t    *testing.T
	h    *counting
	sent chan message.Message
	stop context.CancelFunc
	done sync.WaitGroup
}

func newBench(t *testing.T, l Limits) *bench {
	b := &bench{t: t, h: &counting{}, sent: make(chan message.Message, 1000)}
	b.begin(&endpoint{handler: b.h, hub: newHub(), limits: l, count: noCount{}, limitedLog: newLimitedLog(discard(nil))}, Peer{}, b)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.done.Go(func() { b.hub.run(ctx) })
	return b
}

func (b *bench) end() {
	b.conversation.end()
	b.stop()
	b.done.Wait()
}

// send implements sender.
func (b *bench) send(data []byte) {
	m, err := wire.DecodeMessage(append([]byte(nil), data...))
	if err != nil {
		b.t.Errorf("sent what cannot be read: %v", err)
	}
	b.sent <- m
}

// answered implements sender.
func (b *bench) answered(uint16, netip.AddrPort) {}

func (b *bench) give(m message.Message) {
	b.t.Helper()
	data, err := wire.EncodeMessage(m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.receive(data, netip.AddrPort{})
}

func (b *bench) nothing() {
	b.t.Helper()
	synctest.Wait()
	select {
	case m := <-b.sent:
		b.t.Errorf("sent %v; want nothing", m)
	default:
	}
}

func (b *bench) want(typ message.Type, code codes.Code) message.Message {
	b.t.Helper()
	synctest.Wait()
	select {
	case m := <-b.sent:
		if m.Type != typ || m.Code != code {
			b.t.Errorf("sent %v %v; want %v %v", m.Type, m.Code, typ, code)
		}
		return m
	default:
		b.t.Fatalf("sent nothing; want %v %v", typ, code)
		return message.Message{}
	}
}

func get(id int32, token string, observe int) message.Message {
	m := message.Message{Type: message.Confirmable, Code: codes.GET, MessageID: id, Token: message.Token(token)}
	if observe >= 0 {
		m.Options = message.Options{wire.UintOption(message.Observe, uint32(observe))}
	}
	return m
}

// A request that comes again is answered again, and done once.
func TestRepeatedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		for range 3 {
			b.give(get(7, "t", -1))
			if m := b.want(message.Acknowledgement, codes.Content); m.MessageID != 7 || string(m.Token) != "t" {
				t.Errorf("answer %v", m)
			}
		}
		if b.h.served.Load() != 1 {
			t.Errorf("served %d times; want once", b.h.served.Load())
		}
		time.Sleep(exchangeLifetime)
		b.give(get(7, "t", -1)) // now it is another one
		b.want(message.Acknowledgement, codes.Content)
		if b.h.served.Load() != 2 {
			t.Errorf("served %d times; want 2", b.h.served.Load())
		}
		b.give(message.Message{Type: message.Confirmable, MessageID: 9})
		b.want(message.Reset, codes.Empty) // a ping
	})
}

// A request that comes again while it waits for the disk is done once, and
// answered once that is there; what comes meanwhile does not wait.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		b.h.later = make(chan func(), 2)
		for range 3 {
			b.give(get(7, "t", -1))
			b.nothing()
		}
		b.give(message.Message{Type: message.Confirmable, MessageID: 9})
		b.want(message.Reset, codes.Empty)
		if b.h.served.Load() != 1 {
			t.Errorf("served %d times; want once", b.h.served.Load())
		}
		(<-b.h.later)()
		if m := b.want(message.Acknowledgement, codes.Content); m.MessageID != 7 || string(m.Token) != "t" {
			t.Errorf("answer %v", m)
		}
		b.give(get(7, "t", -1))
		b.want(message.Acknowledgement, codes.Content)
		// An answer may come when nobody waits for it any more.
		b.give(get(8, "t", 0))
		b.conversation.end()
		(<-b.h.later)()
		b.want(message.Acknowledgement, codes.Content)
		if len(b.hub.byKey) != 0 {
			t.Error("a conversation that has ended observes")
		}
	})
}

// What is kept of answers does not grow with the requests, and a session that
// says little keeps little.
func TestMemory(t *testing.T) {
	var m memory
	now := time.Unix(1e9, 0)
	for id := range uint16(1000) {
		m.begin(id, now)
		m.end(id, now, []byte{byte(id)})
	}
	if len(m.ring) != remembered {
		t.Errorf("%d answers are kept; want %d", len(m.ring), remembered)
	}
	for id := range uint16(1000) {
		reply, known := m.recall(id, now)
		if known != (id >= 1000-remembered) || known && (len(reply) != 1 || reply[0] != byte(id)) {
			t.Errorf("recall(%d) = %x, %v", id, reply, known)
		}
	}
	m = memory{}
	for id := range uint16(1000) {
		m.begin(id, now.Add(time.Duration(id)*exchangeLifetime))
	}
	if len(m.ring) != 1 {
		t.Errorf("%d places for answers with an exchange's lifetime between them; want 1", len(m.ring))
	}
}

// What is no message is refused when somebody waits for an answer to it (RFC
// 7252, section 4.2), and a message may have as many options as fit.
func TestMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		for name, data := range map[string][]byte{
			"a marker without payload":      {0x40, 1, 0, 9, 0xff},
			"one after an option":           {0x40, 1, 0, 9, 0xb1, 'x', 0xff},
			"an option that is cut":         {0x40, 1, 0, 9, 0xb5, 'x'},
			"a token that is cut":           {0x48, 1, 0, 9, 1},
			"a token too long":              {0x49, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9},
			"an empty message with a token": {0x41, 0, 0, 9, 1},
			"a length that is reserved":     {0x40, 1, 0, 9, 0x1f, 1, 2},
			"longer than a message may be":  append([]byte{0x40, 1, 0, 9, 0xff}, make([]byte, wire.MaxMessage)...),
		} {
			b.receive(data, netip.AddrPort{})
			if m := b.want(message.Reset, codes.Empty); m.MessageID != 9 {
				t.Errorf("%s: refused as message %d", name, m.MessageID)
			}
			data[0] = data[0]&^0x30 | 0x10 // nobody waits
			b.receive(data, netip.AddrPort{})
			b.nothing()
		}
		for _, data := range [][]byte{{}, {0x40}, {0x40, 1, 0}, {0, 1, 0, 9}, {0x80, 1, 0, 9, 0xff}} {
			b.receive(data, netip.AddrPort{}) // of no version that there is
			b.nothing()
		}
		for _, n := range []int{1, 16, 17, 100, 500} {
			data := append([]byte{0x40, 1, 0, byte(n)}, 0xd1, 47, 'x') // 60: Size1, elective
			for range n - 1 {
				data = append(data, 1, 'x')
			}
			data[2] = byte(n >> 8)
			b.receive(data, netip.AddrPort{})
			b.want(message.Acknowledgement, codes.Content)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := DefaultLimits()
		l.Rate, l.Burst = 1, 3
		b := newBench(t, l)
		defer b.end()
		for i := range 5 {
			b.give(get(int32(i), "t", -1))
			want := codes.Content
			if i >= 3 {
				want = wire.CodeTooManyRequests
			}
			b.want(message.Acknowledgement, want)
		}
		time.Sleep(time.Second)
		b.give(get(4, "t", -1)) // the one that was refused, again
		b.want(message.Acknowledgement, codes.Content)
	})
}

// Notifications carry the newest state, rise in number, come one at a time,
// and are sent again until they are acknowledged.
func TestNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		b.give(get(1, "tok", 0))
		first := b.want(message.Acknowledgement, codes.Content)
		number, ok := wire.Uint(first, message.Observe)
		if !ok {
			t.Fatal("the answer has no Observe option")
		}
		change := func() { b.h.state.Add(1); b.hub.changed([]wire.Query{key}) }
		change()
		n := b.want(message.Confirmable, codes.Content)
		next, _ := wire.Uint(n, message.Observe)
		if string(n.Token) != "tok" || next <= number || n.Payload[0] != 1 {
			t.Errorf("notification %v number %d", n, next)
		}
		change()
		change()
		b.nothing() // one is in flight
		b.give(message.Message{Type: message.Acknowledgement, MessageID: n.MessageID})
		n = b.want(message.Confirmable, codes.Content)
		if n.Payload[0] != 3 {
			t.Errorf("state %d; want the newest, 3", n.Payload[0])
		}
		time.Sleep(2 * ackTimeout) // lost
		change()
		again := b.want(message.Confirmable, codes.Content)
		if again.MessageID == n.MessageID {
			t.Error("a retransmission with a newer state is another message")
		}
		for len(b.sent) > 0 {
			again = <-b.sent
		}
		b.give(message.Message{Type: message.Acknowledgement, MessageID: again.MessageID})
		synctest.Wait()
		for len(b.sent) > 0 { // the state may have changed after it was sent
			again = <-b.sent
			b.give(message.Message{Type: message.Acknowledgement, MessageID: again.MessageID})
			synctest.Wait()
		}
		if again.Payload[0] != 4 {
			t.Errorf("last told state %d; want 4", again.Payload[0])
		}
		b.give(message.Message{Type: message.NonConfirmable, Code: codes.GET, MessageID: 2, Token: message.Token("tok"),
			Options: message.Options{wire.UintOption(message.Observe, 1)}})
		b.want(message.NonConfirmable, codes.Content)
		change()
		b.nothing()
	})
}

// A notification that may have gone to where the peer was is sent again when it has moved, as
// it is by then, and not only when nobody has acknowledged it for seconds.
func TestNotificationFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		b.give(get(1, "tok", 0))
		b.want(message.Acknowledgement, codes.Content)
		b.hub.moved(&b.conversation)
		b.nothing() // is owed
		change := func() { b.h.state.Add(1); b.hub.changed([]wire.Query{key}) }
		change()
		lost := b.want(message.Confirmable, codes.Content)
		change()
		b.nothing()
		b.hub.moved(&b.conversation)
		n := b.want(message.Confirmable, codes.Content)
		if n.Payload[0] != 2 || n.MessageID == lost.MessageID {
			t.Errorf("state %d as message %d; want the newest, 2, as another than %d", n.Payload[0], n.MessageID, lost.MessageID)
		}
		b.give(message.Message{Type: message.Acknowledgement, MessageID: n.MessageID})
		b.hub.moved(&b.conversation)
		b.nothing()
	})
}

// An observation ends by a reset, by an error, and when nobody is there.
func TestObservationEnds(t *testing.T) {
	for name, end := range map[string]func(b *bench, n message.Message){
		"reset": func(b *bench, n message.Message) {
			b.give(message.Message{Type: message.Reset, MessageID: n.MessageID})
		},
		"nobody": func(b *bench, _ message.Message) {
			time.Sleep(5 * time.Minute)
			if n := len(b.sent); n != maxRetransmit {
				b.t.Errorf("sent again %d times; want %d", n, maxRetransmit)
			}
			for len(b.sent) > 0 {
				<-b.sent
			}
		},
		"error": func(b *bench, n message.Message) {
			b.give(message.Message{Type: message.Acknowledgement, MessageID: n.MessageID})
			b.h.gone.Store(true)
			b.hub.changed([]wire.Query{key})
			b.want(message.Confirmable, codes.NotFound)
			b.h.gone.Store(false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, DefaultLimits())
				defer b.end()
				b.give(get(1, "tok", 0))
				b.want(message.Acknowledgement, codes.Content)
				b.hub.changed([]wire.Query{key})
				end(b, b.want(message.Confirmable, codes.Content))
				synctest.Wait()
				b.hub.changed([]wire.Query{key})
				b.nothing()
				b.hub.mu.Lock()
				defer b.hub.mu.Unlock()
				if len(b.hub.byKey) != 0 || len(b.hub.due) != 0 || len(b.observed) != 0 {
					t.Errorf("hub still holds %v, and owes %v", b.hub.byKey, b.hub.due)
				}
			})
		})
	}
}

// What may pass is answered with the time after which to ask again.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := DefaultLimits()
		l.Rate, l.Burst = 1, 2
		b := newBench(t, l)
		defer b.end()
		for id, code := range []codes.Code{codes.Content, codes.Content, wire.CodeTooManyRequests} {
			b.give(get(int32(id), "t", -1))
			m := b.want(message.Acknowledgement, code)
			if age, ok := wire.Uint(m, message.MaxAge); ok != (code == wire.CodeTooManyRequests) || ok && age != busyFor {
				t.Errorf("%v with Max-Age %d, %v", code, age, ok)
			}
		}
		out := b.answer(get(9, "t", -1), Response{Code: codes.ServiceUnavailable})
		if age, ok := wire.Uint(out, message.MaxAge); !ok || age != unavailableFor {
			t.Errorf("5.03 with Max-Age %d, %v; want %d", age, ok, unavailableFor)
		}
	})
}

// FuzzReceive: no datagrams of a session do harm, and what is sent can be
// read.
func FuzzReceive(f *testing.F) {
	for _, m := range []message.Message{get(1, "a", 0), get(2, "a", 1), get(3, "", -1), {Type: message.Confirmable, MessageID: 9}, {Type: message.Reset, MessageID: 1}} {
		data, err := wire.EncodeMessage(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		b := newBench(t, DefaultLimits())
		defer b.end()
		for _, data := range [][]byte{one, two, one} {
			b.receive(data, netip.AddrPort{})
			b.hub.changed([]wire.Query{key})
		}
	})
}
