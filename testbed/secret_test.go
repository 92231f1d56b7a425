package testbed

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// linkBytesMost is how many bytes of a call a server passes on at the most: what it says of
// a link is reckoned with 10 kB.
const linkBytesMost = 10_000

var linkBytes = regexp.MustCompile(`(?m)^storing_server_link_bytes_total (\S+)`)

// What goes over a relayed link is the two phones' secret: after a hundred calls neither
// the storing server's memory holds a line of what they have told each other, nor its
// disk, nor its log; nor has it a key of theirs. The phones' memory has all of it, so
// whoever looks would find it.
func TestServerKnowsNothingOfRelayedCalls(t *testing.T) {
	const rounds, calls = 10, 10 // more at a time of one pair are slowed down, as they should be
	ctx, bed, all := homes(t, 2, closed)
	a := addBehind(ctx, t, bed, all[0], 101, "192.168.77.2")
	b := addBehind(ctx, t, bed, all[1], 102, "192.168.77.2")
	// What the calls say: their names, their dialogs, their descriptions with the
	// fingerprints of the sound's certificates.
	said := map[string]string{
		"Call-ID":     `Call-ID: [A-Z0-9]{26}\r\n`,
		"tag":         `;tag=[A-Z0-9]{26}\r\n`,
		"origin":      `o=- [0-9]{5,20} [0-9]{1,20} IN IP4 192\.168\.77\.2\r\n`,
		"fingerprint": `a=fingerprint:sha-256 [0-9A-F:]{95}\r\n`,
	}
	needles := map[string]bool{}
	for round := range rounds {
		for call := range calls {
			talk, err := Call(ctx, a, b, "102")
			must(t, err)
			if call == calls-1 {
				if link := linkOf(ctx, t, a); link != "relayed" {
					t.Fatalf("the link is %q; want relayed", link)
				}
				for _, p := range []*Phone{a, b} {
					for _, one := range secretsOf(t, p, said) {
						needles[one] = true
					}
				}
			}
			must(t, talk.HangUp(ctx, b))
		}
		if round < rounds-1 { // another link
			b.PowerCut()
			b.Mark()
			must(t, b.PowerOn(ctx))
			await(ctx, t, b, "registered", "reach", "nat")
		}
	}

	m, err := bed.Server.Metrics(ctx)
	must(t, err)
	if passed := linkBytes.FindStringSubmatch(m); passed == nil {
		t.Error("the server does not say how much it has passed on")
	} else if a, err := strconv.ParseFloat(passed[1], 64); err != nil || a/(rounds*calls) < 1_000 || a/(rounds*calls) > linkBytesMost {
		t.Errorf("%s bytes of %d calls were passed on, %v; want a few kilobytes of each", passed[1], rounds*calls, err)
	} else {
		t.Logf("%.1f kB of each call were passed on", a/(rounds*calls)/1000)
	}

	memory, err := bed.Server.proc.memory()
	must(t, err)
	disk, err := files(bed.Server.data())
	must(t, err)
	log := filepath.Join(bed.Server.dir, "storing-"+bed.Server.name+".log")
	everywhere := append(append(memory, disk...), place{log, opener(log)})
	found, read, err := search(everywhere, holding(slices.Collect(maps.Keys(needles))...))
	must(t, err)
	if len(found) > 0 {
		t.Errorf("the storing server knows %q", found)
	}
	// It was read: a phone's row is there.
	if rows, _, err := search(everywhere, holding(string(a.MAC[:]))); err != nil || len(rows) == 0 {
		t.Errorf("not even a phone's MAC was found, %v", err)
	}
	t.Logf("%d lines and keys looked for in %d MB of %d places", len(needles), read>>20, len(everywhere))
}

// secretsOf is what p's memory holds of its calls, by patterns, and the key that p proves
// itself with.
func secretsOf(t *testing.T, p *Phone, patterns map[string]string) (all []string) {
	t.Helper()
	memory, err := p.proc.memory()
	must(t, err)
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "device.key"))
	must(t, err)
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	key := string(parsed.(ed25519.PrivateKey).Seed())
	looks := []func(in []byte) [][]byte{holding(key)}
	for _, pattern := range patterns { // one by one: by the word that each begins with it is quick
		looks = append(looks, matching(pattern))
	}
	all, _, err = search(memory, func(in []byte) (found [][]byte) {
		for _, look := range looks {
			found = append(found, look(in)...)
		}
		return found
	})
	must(t, err)
	if !slices.Contains(all, key) {
		t.Errorf("%s has not its own key in its memory", p.Name)
	}
	for what, pattern := range patterns {
		if !slices.ContainsFunc(all, regexp.MustCompile(pattern).MatchString) {
			t.Errorf("%s has no %s in its memory", p.Name, what)
		}
	}
	for i, one := range all {
		all[i] = strings.TrimSuffix(one, "\r\n")
	}
	return all
}
