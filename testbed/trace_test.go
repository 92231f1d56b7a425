package testbed

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a phone writes with everything traced and every step logged tells what goes
// over each of its wires, and neither its key, nor its token, nor a digest that
// somebody sent to it.
func TestNothingSecretInALog(t *testing.T) {
	if board() != hostBoard {
		t.Skip("it reads the key of a program")
	}
	const token, digest = "one-time-word-of-the-operator", "6629fae49393a05397450978507c4ef1"
	ctx, _, phones := town(t, Config{}, 2)
	p, other := phones[0], phones[1]
	must(t, p.PowerOff())
	must(t, os.RemoveAll(filepath.Join(p.dir, "data", "sequence"))) // whatever it keeps of having been let in
	m := program{p}
	must(t, os.WriteFile(m.config(), []byte("enrolment_token = \""+token+"\"\n"+m.settings()), 0o600))
	var err error
	p.proc, err = p.host.run(p.dir, command{name: p.Name, path: p.binary,
		args: []string{"run", "--config", m.config(), "--verbose", "--trace", "sip,rtp,dhcp,coap"}})
	must(t, err)
	must(t, p.listen(ctx))
	await(ctx, t, p, "registered")

	dial(ctx, t, p, "102")
	await(ctx, t, other, "ringing")
	must(t, other.OffHook(ctx))
	await(ctx, t, p, "established")
	hearEachOther(ctx, t, p, other)
	must(t, p.OnHook(ctx))
	await(ctx, t, p, "ended")
	must(t, other.OnHook(ctx))

	at := addressOf(ctx, t, p)
	message := fmt.Sprintf("OPTIONS sip:%s@%v SIP/2.0\\r\\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx\\r\\nMax-Forwards: 70\\r\\n"+
		"From: <sip:x@127.0.0.1>;tag=1\\r\\nTo: <sip:y@127.0.0.1>\\r\\nCall-ID: digest\\r\\nCSeq: 1 OPTIONS\\r\\n"+
		"Authorization: Digest username=\"x\", response=\"%s\"\\r\\nContent-Length: 0\\r\\n\\r\\n", p.MAC.Hex(), at, digest)
	sender, err := p.host.run(p.dir, command{name: "sender", path: "/bin/bash", args: []string{"-c", fmt.Sprintf("printf '%s' | cat > /dev/udp/%v/5060", message, at)}})
	must(t, err)
	defer sender.kill()
	for _, words := range [][]string{
		{"trace sip", "way=received", "OPTIONS", "Authorization: ***"}, {"trace sip", "way=sent", "INVITE"}, {"trace sip", "way=received", "SIP/2.0 200"},
		{"trace rtp", "way=sent"}, {"trace rtp", "way=received"}, {"trace coap", "way=sent", "path=/rd "}, {"trace coap", "way=received"},
		{"trace dhcp", "way=sent"}, {"trace dhcp", "way=received"},
	} {
		if _, _, err := p.AwaitLog(ctx, 0, words...); err != nil {
			t.Fatal(err)
		}
	}

	key, err := os.ReadFile(filepath.Join(p.dir, "data", "device.key"))
	must(t, err)
	secrets := []string{token, digest}
	for _, l := range strings.Split(string(key), "\n") {
		if len(l) > 20 && !strings.HasPrefix(l, "-----") {
			secrets = append(secrets, l)
		}
	}
	if len(secrets) < 3 {
		t.Fatalf("no key in %q", key)
	}
	for _, line := range p.proc.log.since(0) {
		for _, s := range secrets {
			if strings.Contains(line, s) {
				t.Errorf("the log tells the secret %q: %s", s, line)
			}
		}
	}
}

// `flexphone ctl profile` gives what pprof reads, of a phone that works on.
func TestProfiles(t *testing.T) {
	ctx, _, phones := town(t, Config{}, 1)
	for kind, holds := range map[string]string{"cpu": "nanoseconds", "heap": "inuse_space", "goroutines": "goroutine"} {
		var out bytes.Buffer
		args := []string{"ctl", "--control", phones[0].Control(), "profile", kind, "--for", "100ms"}
		raw, err := phones[0].host.output(ctx, phones[0].binary, args...)
		must(t, err)
		z, err := gzip.NewReader(bytes.NewReader(raw)) // as pprof writes them
		must(t, err)
		if _, err := io.Copy(&out, z); err != nil || !strings.Contains(out.String(), holds) {
			t.Errorf("profile %s: %d bytes, %v, without %q", kind, out.Len(), err, holds)
		}
	}
}
