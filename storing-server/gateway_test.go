package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
)

// startJoined starts two NATS clusters that gateways join.
func startJoined(t *testing.T) (west, east *natsCluster) {
	t.Helper()
	names := []string{"west", "east"}
	var listen [2][3]string
	var gateways []string
	for i, name := range names {
		for n := range listen[i] {
			listen[i][n] = ownAddress()
		}
		gateways = append(gateways, fmt.Sprintf(`{ name: %q, urls: ["nats://%s"] }`, name, strings.Join(listen[i][:], `", "nats://`)))
	}
	var c [2]*natsCluster
	for i, name := range names {
		c[i] = startNodes(t, name, func(n int) string {
			return fmt.Sprintf("gateway { name: %q, listen: %q, gateways: [%s] }\n", name, listen[i][n], strings.Join(gateways, ", "))
		})
	}
	for _, one := range c {
		one.await(t)
	}
	return c[0], c[1]
}

// A wireAcross is a subject that is published in one cluster and heard in another.
type wireAcross struct {
	from *nats.Conn
	to   *nats.Subscription
}

func newWireAcross(t *testing.T, from, to *natsCluster) wireAcross {
	t.Helper()
	var conns [2]*nats.Conn
	for i, c := range []*natsCluster{from, to} {
		var err error
		if conns[i], err = nats.Connect(c.url); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conns[i].Close)
	}
	sub, err := conns[1].SubscribeSync("across")
	if err != nil {
		t.Fatal(err)
	}
	return wireAcross{conns[0], sub}
}

// await returns when something has crossed that was said after the call.
func (w wireAcross) await(t *testing.T) {
	t.Helper()
	said := nats.NewInbox()
	awaitRow(t, "the gateway to carry what is asked for", func() bool {
		if err := w.from.Publish("across", []byte(said)); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := w.to.NextMsg(100 * time.Millisecond)
			if err != nil {
				return false
			}
			if string(m.Data) == said {
				return true
			}
		}
	})
}

// A gateway between two clusters carries no message of a link: not even to a phone of the
// same key, which a server of the other cluster would tell of whatever came.
func TestGatewayCarriesNoLink(t *testing.T) {
	west, east := startJoined(t)
	keyDir := t.TempDir()
	if _, err := serverCertificate(keyDir); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(keyDir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	a, b, far := west.startMember(t, key), west.startMember(t, key), east.startMember(t, key)

	dir, copied := t.TempDir(), t.TempDir()
	one, _ := newPhone(t, t.TempDir(), a.listen, phoneMAC(1))
	two, _ := newPhone(t, dir, b.listen, phoneMAC(2))
	for i, c := range []*registry.Client{one, two} {
		if _, err := c.Register(t.Context(), announcement(phoneMAC(byte(i+1)), 1, fmt.Sprintf("192.0.2.%d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	twin, _ := newPhone(t, copied, far.listen, phoneMAC(2))
	if _, err := twin.Register(t.Context(), announcement(phoneMAC(2), 2, "192.0.2.3")); err != nil {
		t.Fatal(err)
	}

	awaitRow(t, "the rows, which a gateway makes one", func() bool {
		for asks, of := range map[*registry.Client]byte{one: 2, two: 1, twin: 1} {
			if _, err := asks.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(of))}); err != nil {
				return false
			}
		}
		return true
	})
	across := newWireAcross(t, west, east)
	across.await(t)
	here, there := linkOf(t, one, two) // from one server of the west to the other
	exchanged(t, here, there, 10000)

	across.await(t) // what was said before has crossed too, if it does
	if _, err := twin.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := twin.AcceptRelayed(ctx); err == nil {
		c.Close()
		t.Error("a link of the west has come to a phone of the east")
	}
}
