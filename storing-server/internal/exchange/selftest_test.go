package exchange

import (
	"context"
	"reflect"
	"testing"

	"github.com/pion/dtls/v3"
)

// With the version of go.mod the self-test passes; who stops the server at its
// start is not told of a library.
func TestSelfTest(t *testing.T) {
	for range 3 {
		if err := SelfTest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SelfTest(ctx); err != nil {
		t.Errorf("SelfTest() of a server that is stopped: %v", err)
	}
}

// What the handshake leans on is where it is expected, or nothing is written.
func TestAdopt(t *testing.T) {
	field, ok := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	if !ok || field.Type.Kind() != reflect.Struct {
		t.Fatal("pion's connection has no state")
	}
	if adopt(&dtls.Conn{}, make([]byte, cookieLength)) {
		t.Error("a cookie was written where none waits")
	}
}
