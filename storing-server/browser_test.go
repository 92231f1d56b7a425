package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	registry "flexphone/registry-client"
	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/admin"
	"flexphone/storing-server/internal/store"
)

const testPassword = "a password of the tests"

// setPassword does what the command does, with a known password.
func setPassword(t *testing.T, dir string) {
	t.Helper()
	c := PasswordCmd{Data: Data{dir}, Role: store.RoleAll, Stdin: true}
	if err := c.Run(&edges{ctx: t.Context(), stdin: strings.NewReader(testPassword + "\n"), stdout: io.Discard}); err != nil {
		t.Fatal(err)
	}
}

// The operator's pages in a real browser, with a real phone: as they are
// everywhere but on loopback, by TLS, with JavaScript; and without either.
func TestBrowser(t *testing.T) {
	for _, tt := range []struct {
		name   string
		listen string
		script bool
	}{{"with JavaScript", "0.0.0.0:0", true}, {"without JavaScript", "127.0.0.1:0", false}} {
		t.Run(tt.name, func(t *testing.T) { browse(t, tt.listen, tt.script) })
	}
}

func browse(t *testing.T, listen string, script bool) {
	b := openBrowser(t, script)
	usable := func(name string) {
		t.Helper()
		if script { // else it is the same page
			b.usable(name)
		}
	}
	dir := t.TempDir()
	p := serveFor(t, dir, "--http", listen)
	site := strings.Replace(p.http, "0.0.0.0", "127.0.0.1", 1)
	if strings.HasPrefix(site, "https:") != (listen == "0.0.0.0:0") {
		t.Errorf("listens on %s, and serves %s", listen, site)
	}
	phone, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(1))
	sequence := uint64(0)
	announce := func(addr string) {
		t.Helper()
		sequence++
		if _, err := phone.Register(t.Context(), announcement(phoneMAC(1), sequence, addr)); err != nil {
			t.Fatal(err)
		}
	}
	const row = `//tr[@id='row-02005e005301']`
	at := func(addr string) string { return row + `//code[text()='` + addr + `']` }

	b.open(site + "/phones") // leads to the login
	if text := b.text(`//main`); !strings.Contains(text, "storing-server password") {
		t.Errorf("before there is a password, the page says %q", text)
	}
	setPassword(t, dir)
	b.reload()
	b.fill(`//input[@id='password']`, "a password of somebody else")
	b.click(`//button[text()='Log in']`)
	b.find(`//*[@role='alert'][contains(., 'not the password')]`)
	b.picture("login", 1100, 700)
	usable("login")
	b.fill(`//input[@id='password']`, testPassword)
	b.click(`//button[text()='Log in']`)
	b.find(`//h1[text()='Phones']`)
	b.find(`//p[contains(., 'No phone is registered')]`)
	if script {
		b.find(`//*[@data-live-state][text()='Live']`)
	}

	announce("192.0.2.1")
	if !script {
		if b.count(row) != 0 || b.count(`//*[text()='Live']`) != 0 {
			t.Error("a script runs")
		}
		b.reload()
	}
	b.find(at("192.0.2.1")) // by itself, where there is JavaScript
	announce("192.0.2.2")
	if !script {
		b.reload()
	}
	b.find(at("192.0.2.2"))
	if n := b.count(`//tbody/tr`); n != 1 {
		t.Errorf("%d rows are shown; want 1", n)
	}

	r, err := phone.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(1))})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"101", "02:00:5e:00:53:01", "02-00-5E", "192.0.2.2", r.Fingerprint.String()[:20], wire.MAC(phoneMAC(1)).Digits()} {
		b.fill(`//input[@id='q']`, q)
		b.click(`//button[text()='Search']`)
		b.find(`//input[@id='q'][@value='` + q + `']`)
		if b.count(row) != 1 {
			t.Errorf("search for %q finds nobody:\n%s", q, b.text(`//main`))
		}
	}
	for _, q := range []string{"102", "192.0.2.1", "02:00:5f", strings.Repeat("f", 64)} {
		b.fill(`//input[@id='q']`, q)
		b.click(`//button[text()='Search']`)
		b.find(`//p[contains(., 'Nobody is found by “` + q + `”')]`)
	}
	b.open(site + "/phones")
	b.picture("phones", 1100, 700)
	usable("phones")

	if script { // what has not changed can be clicked while another row appears
		link := b.find(row + `//a`)
		another, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(2))
		if _, err := another.Register(t.Context(), announcement(phoneMAC(2), 1, "192.0.2.20")); err != nil {
			t.Fatal(err)
		}
		b.find(`//tr[@id='row-02005e005302']`)
		b.clickElement(link)
		command(t, "forget", "02:00:5e:00:53:02", "--data", dir)
	} else {
		b.click(row + `//a`)
	}
	b.find(`//h1[text()='101']`)
	history := func(want ...string) {
		t.Helper()
		for i, addr := range want {
			b.find(fmt.Sprintf(`//tbody/tr[%d]/td[1]/code[text()='%s']`, i+1, addr))
		}
		if n := b.count(`//tbody/tr`); n != len(want) {
			t.Errorf("the history has %d entries; want %d", n, len(want))
		}
	}
	history("192.0.2.2", "192.0.2.1")
	announce("2001:db8::7")
	if !script {
		b.reload()
	}
	history("2001:db8::7", "192.0.2.2", "192.0.2.1")
	b.picture("phone", 1100, 1000)
	usable("phone")
	b.picture("phone-narrow", 500, 1000)

	b.fill(`//input[@id='number']`, "555")
	b.click(`//button[text()='Set number']`)
	b.find(`//*[@role='status'][contains(., 'The number is 555 now')]`)
	b.find(`//h1[text()='555']`)
	if r, err := phone.Resolve(t.Context(), wire.Query{Number: "555"}); err != nil || r.MAC != wire.MAC(phoneMAC(1)) {
		t.Errorf("555 is %+v, %v", r, err)
	}

	b.click(`//nav/a[text()='Enrolment']`)
	b.fill(`//input[@id='mac']`, wire.MAC(phoneMAC(2)).String())
	b.click(`//button[text()='Make token']`)
	if token := b.text(`//code[@class='secret']`); len(token) < 20 {
		t.Errorf("the token is %q", token)
	}
	b.find(`//td[code='02:00:5e:00:53:02']`)
	b.picture("enrolment", 1100, 900)
	usable("enrolment")
	b.reload()
	if b.count(`//code[@class='secret']`) != 0 {
		t.Error("a token is shown twice")
	}
	b.click(`//td//button[starts-with(., 'Revoke')]`)
	b.find(`//p[contains(., 'There is no unused token')]`)

	b.click(`//nav/a[text()='SIP phones']`)
	b.fill(`//input[@id='user']`, "lobby")
	b.click(`//button[text()='Add phone']`)
	b.find(`//code[@class='secret']`)
	b.find(`//td/code[text()='lobby']`)
	b.picture("accounts", 1100, 900)
	usable("accounts")

	b.click(`//nav/a[text()='Calls']`)
	b.fill(`//input[@id='name']`, "Ada")
	b.click(`//button[text()='Make link']`)
	b.find(`//code[@class='secret']`)
	usable("calls")

	b.click(`//nav/a[text()='API access']`)
	b.fill(`//input[@id='name']`, "a test")
	b.click(`//button[text()='Make token']`)
	token := b.text(`//code[@class='secret']`)
	b.picture("access", 1100, 700)
	usable("access")
	if status := askAPI(t, site, token); status != http.StatusOK {
		t.Errorf("the token of the page opens the API: %d", status)
	}
	b.click(`//button[starts-with(., 'Revoke')]`)
	b.find(`//p[contains(., 'No program has access')]`)
	if status := askAPI(t, site, token); status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", status)
	}

	b.open(site + "/phones/02005e005301")
	b.click(`//summary[contains(., 'Forget the phone')]`)
	b.click(`//button[@id='forget']`)
	b.find(`//*[@role='status'][contains(., 'is forgotten')]`)
	if b.count(row) != 0 {
		t.Error("a phone that was forgotten is shown")
	}
	other, _ := newPhone(t, t.TempDir(), p.listen, phoneMAC(3))
	if _, err := other.Register(t.Context(), announcement(phoneMAC(3), 1, "192.0.2.3")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Resolve(t.Context(), wire.Query{MAC: wire.MAC(phoneMAC(1))}); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("a phone that was forgotten is found: %v", err)
	}
	b.click(`//button[text()='Log out']`)
	b.find(`//h1[text()='Log in']`)
	b.open(site + "/phones")
	b.find(`//h1[text()='Log in']`)
	for _, c := range b.complaints() {
		if !strings.Contains(c, "403") { // the wrong password
			t.Errorf("the browser's console: %s", c)
		}
	}
}

// askAPI asks for the rows with a token.
func askAPI(t *testing.T, site, token string) int {
	t.Helper()
	// Whose certificate it is, TestOperatorTLS says.
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/api/v1/phones", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// What is asked for on --http is spoken by TLS on every address but loopback,
// with a certificate that lasts over restarts, and by the operator's own when
// there is one. A program gets its token by a command.
func TestOperatorTLS(t *testing.T) {
	dir := t.TempDir()
	ask := func(p *process) (certificate string, status int) {
		t.Helper()
		var state tls.ConnectionState
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error { state = s; return nil },
		}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(p.http, "0.0.0.0", "127.0.0.1", 1)+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if len(state.PeerCertificates) > 0 {
			certificate = string(state.PeerCertificates[0].Raw)
		}
		return certificate, resp.StatusCode
	}
	p := startProcess(t, dir, "127.0.0.1:0", "--http", "0.0.0.0:0")
	first, status := ask(p)
	if first == "" || status != http.StatusOK {
		t.Errorf("%s: status %d, and a certificate of %d bytes", p.http, status, len(first))
	}
	p.kill()
	p = startProcess(t, dir, "127.0.0.1:0", "--http", "0.0.0.0:0")
	if again, _ := ask(p); again != first {
		t.Error("after a restart there is another certificate")
	}
	p.kill()
	p = startProcess(t, dir, "127.0.0.1:0", "--http", "127.0.0.1:0")
	for path, want := range map[string]string{"/metrics": "\nstoring_server_rows 0\n", "/healthz": "ok\n", "/readyz": "ok\n"} {
		resp, err := http.Get(p.http + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d, %v, without %q", path, resp.StatusCode, err, want)
		}
	}
	p.kill()
	p = startProcess(t, dir, "127.0.0.1:0", "--http", "127.0.0.1:0", "--http-cert", dir+"/http.pem", "--http-key", dir+"/http.pem")
	if own, _ := ask(p); own != first {
		t.Error("the certificate that was asked for is not used")
	}
	if status := askAPI(t, p.http, strings.TrimSpace(command(t, "api-token", "new", "--data", dir, "monitor"))); status != http.StatusOK {
		t.Errorf("the command's token opens the API: %d", status)
	}
	if status := askAPI(t, p.http, "fp_guess"); status != http.StatusUnauthorized {
		t.Errorf("a guessed token: %d", status)
	}
	var made admin.APIToken
	if err := json.Unmarshal([]byte(command(t, "api-token", "list", "--data", dir)), &made); err != nil || made.Name != "monitor" {
		t.Errorf("api-token list = %+v, %v", made, err)
	}
	command(t, "api-token", "revoke", "--data", dir, made.ID)
	if out := command(t, "api-token", "list", "--data", dir, "--json"); out != "" {
		t.Errorf("after its revocation: %q", out)
	}
	if one, two := command(t, "password", "--data", dir), command(t, "password", "--data", dir); one == two || len(one) < 20 {
		t.Errorf("made passwords are %q and %q", one, two)
	}
	p.kill()
	for _, args := range []string{"--http-cert x", "--http 127.0.0.1:0 --http-key x", "--http-cert x --http-key y"} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), append([]string{"run", "--listen", "127.0.0.1:0", "--data", dir}, strings.Fields(args)...), &out, &errs); code != exitUsage {
			t.Errorf("run %s: exit %d: %s", args, code, errs.String())
		}
	}
	short := PasswordCmd{Data: Data{dir}, Role: store.RoleAll, Stdin: true}
	var usage *usageError
	if err := short.Run(&edges{ctx: t.Context(), stdin: strings.NewReader("short\n"), stdout: io.Discard}); !errors.As(err, &usage) {
		t.Errorf("a short password: %v; want a usage error", err)
	}
}

// Of several servers that share their rows each knows the operator's password
// and tokens, whichever was told; a command without a server says that it needs
// one.
func TestOperatorOfSeveral(t *testing.T) {
	c := startCluster(t)
	var dirs [2]string
	var servers [2]*process
	for i := range servers {
		dirs[i] = t.TempDir()
		servers[i] = serveFor(t, dirs[i], "--nats", c.url, "--http", "127.0.0.1:0")
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	login := func(at *process) int {
		resp, err := client.PostForm(at.http+"/login", url.Values{"password": {testPassword}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	setPassword(t, dirs[0])
	token := strings.TrimSpace(command(t, "api-token", "new", "--data", dirs[1], "monitor"))
	var made admin.APIToken
	if err := json.Unmarshal([]byte(command(t, "api-token", "list", "--data", dirs[1])), &made); err != nil {
		t.Fatal(err)
	}
	for _, p := range servers {
		until(t, "the token", func() bool { return askAPI(t, p.http, token) == http.StatusOK })
	}
	if status := login(servers[1]); status != http.StatusSeeOther {
		t.Errorf("the password that the other was told: %d", status)
	}
	command(t, "api-token", "revoke", "--data", dirs[0], made.ID)
	for _, p := range servers {
		until(t, "the revocation", func() bool { return askAPI(t, p.http, token) == http.StatusUnauthorized })
	}
	servers[0].kill()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"password", "--data", dirs[0]}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "keeps the rows in a cluster") {
		t.Errorf("a password without a server: exit %d: %s%s", code, out.String(), errs.String())
	}
}
