package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
)

func notification(number uint32, body string) message.Message {
	return message.Message{Code: codes.Content, Options: message.Options{wire.UintOption(message.Observe, number)}, Payload: []byte(body)}
}

// A notification that comes right behind the response, before anybody has
// looked at that, is told after it.
func TestNotificationBehindResponse(t *testing.T) {
	s := &session{done: make(chan struct{})}
	sub := &subscription{news: make(chan struct{}, 1)}
	response := notification(1, "old")
	sub.deliver(response)
	sub.deliver(notification(2, "new"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var told []string
	err := s.follow(ctx, sub, response, func(m message.Message) error {
		told = append(told, string(m.Payload))
		if len(told) == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(told) != 2 || told[0] != "old" || told[1] != "new" {
		t.Errorf("told %q, %v; want old and new", told, err)
	}
}

// The order of notifications is that of RFC 7641, section 3.4.
func TestNewer(t *testing.T) {
	const top = 1 << 24
	for _, tt := range []struct {
		have, got uint32
		want      bool
	}{
		{1, 2, true}, {2, 1, false}, {1, 1, false},
		{top - 1, 0, true}, {0, top - 1, false}, // the number wraps
		{0, 1<<23 - 1, true}, {0, 1 << 23, false}, // half of the circle
	} {
		if got := newer(tt.have, tt.got, 0); got != tt.want {
			t.Errorf("newer(%d, %d) = %v; want %v", tt.have, tt.got, got, tt.want)
		}
		if !newer(tt.have, tt.got, freshFor+1) {
			t.Errorf("newer(%d, %d) after %v; want true whatever the numbers", tt.have, tt.got, freshFor+1)
		}
	}
}
