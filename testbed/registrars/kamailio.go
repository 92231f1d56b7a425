package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"flexphone/internal/usage"
)

const (
	kamailioModules = "/usr/lib/*/kamailio/modules"
	kamailioTables  = "/usr/share/kamailio/postgres"
	postgresBin     = "/usr/lib/postgresql/*/bin"
	postgresUser    = "postgres"
	// kamailioWindow is how many requests are on their way. PostgreSQL is
	// waited for by each of Kamailio's children.
	kamailioWindow = 64
)

// kamailioConfig does what a storing server does: it takes every REGISTER, and
// answers an INVITE with where the phone is. The place for more is the database.
const kamailioConfig = `#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=%d
auto_aliases=no
disable_tcp=yes
listen=udp:127.0.0.1:%d
mpath="%s"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
%s
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", %d)
modparam("usrloc", "hash_size", 14)
%s
request_route {
	if (is_method("REGISTER")) {
		save("location", "0x04"); # one contact, which is replaced
		exit;
	}
	if (is_method("INVITE") && lookup("location")) {
		append_to_reply("Contact: <$ru>\r\n");
		sl_send_reply("302", "Moved Temporarily");
		exit;
	}
	sl_send_reply("404", "Not Found");
}
`

func kamailioMemory(ctx context.Context, o options, r *report) error {
	return kamailio(ctx, o, r, "Kamailio, memory", "", func() time.Duration { return 0 })
}

// kamailio measures Kamailio, with a database when url is not empty. more
// returns the processor time of others that work for it.
func kamailio(ctx context.Context, o options, r *report, name, url string, more func() time.Duration) error {
	dir, err := os.MkdirTemp(o.dir, "kamailio-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	modules, _ := filepath.Glob(kamailioModules)
	mode, load, children := 0, "", 2
	params := ""
	if url != "" {
		mode, load, children = 1, `loadmodule "db_postgres.so"`, 8
		params = fmt.Sprintf("modparam(\"usrloc\", \"db_url\", %q)", url)
	}
	path := filepath.Join(dir, "kamailio.cfg")
	text := fmt.Sprintf(kamailioConfig, children, port, modules[0]+"/", load, mode, params)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	d, err := startDaemon("", "/usr/sbin/kamailio", "-f", path, "-DD", "-E", "-Y", dir, "-P", filepath.Join(dir, "pid"), "-m", "256")
	if err != nil {
		return err
	}
	defer d.stop()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	used := func() time.Duration { return usage.Of(d.cmd.Process.Pid).CPU + more() }
	registers := sip(sipRegister)
	if err := d.await(ctx, func(ctx context.Context) error {
		t, err := askPeer(ctx, addr, registers, 1, 0, 1, 0, true)
		if err == nil && len(t.times) == 0 {
			err = fmt.Errorf("no answer to REGISTER, %d refusals", t.refused)
		}
		return err
	}); err != nil {
		return err
	}
	l, err := peerLoad(ctx, addr, registers, kamailioWindow, o.time, used)
	if err != nil {
		return err
	}
	l.Server, l.Request, l.Durable = name, sipRegister, url != ""
	r.loads = append(r.loads, l)
	if url != "" {
		return nil // looks up in memory, like the other
	}
	// So that every INVITE finds its phone.
	if _, err := askPeer(ctx, addr, registers, kamailioWindow, 0, peerPhones, time.Minute, true); err != nil {
		return err
	}
	if l, err = peerLoad(ctx, addr, sip(sipInvite), kamailioWindow, o.time, used); err != nil {
		return err
	}
	l.Server, l.Request, l.lookup = name, sipInvite, true
	r.loads = append(r.loads, l)
	return nil
}

// sip makes requests of RFC 3261. The branch carries the request's number.
func sip(kind string) dialect {
	// A registrar takes no lower CSeq than it has seen (RFC 3261 section 10.3).
	var cseq atomic.Uint32
	method, good := "REGISTER", []byte("SIP/2.0 200 ")
	if kind == sipInvite {
		method, good = "INVITE", []byte("SIP/2.0 302 ")
	}
	branch := []byte("branch=z9hG4bK-")
	return dialect{
		request: func(id uint16, name int) ([]byte, error) {
			var b bytes.Buffer
			uri := "sip:127.0.0.1"
			if method == "INVITE" {
				uri = fmt.Sprintf("sip:p%d@127.0.0.1", name)
			}
			fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK-%04x\r\nMax-Forwards: 70\r\n", method, uri, id)
			fmt.Fprintf(&b, "From: <sip:p%d@127.0.0.1>;tag=%x\r\nTo: <sip:p%d@127.0.0.1>\r\nCall-ID: p%d@bench\r\nCSeq: %d %s\r\n", name, name, name, name, cseq.Add(1), method)
			a := addressOf(name, id)
			fmt.Fprintf(&b, "Contact: <sip:p%d@%v:5060>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n", name, a)
			return b.Bytes(), nil
		},
		answer: func(b []byte) (uint16, bool, bool) {
			_, rest, ok := bytes.Cut(b, branch)
			if !ok || len(rest) < 4 || bytes.HasPrefix(b, []byte("SIP/2.0 1")) {
				return 0, false, false
			}
			n, err := strconv.ParseUint(string(rest[:4]), 16, 16)
			return uint16(n), err == nil, bytes.HasPrefix(b, good)
		},
	}
}

// kamailioPostgres measures Kamailio with every registration in PostgreSQL
// before it is answered, both with the settings that they come with.
func kamailioPostgres(ctx context.Context, o options, r *report) error {
	bins, _ := filepath.Glob(postgresBin)
	bin := bins[len(bins)-1]
	dir, err := os.MkdirTemp(o.dir, "postgres-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if os.Geteuid() == 0 {
		uid, gid, err := lookUser(postgresUser)
		if err != nil {
			return err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return err
		}
		// It must be able to get there.
		if err := os.Chmod(o.dir, 0o711); err != nil {
			return err
		}
	}
	call := func(ctx context.Context, name string, args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
		cmd.Dir = dir
		if err := runAs(cmd, postgresUser); err != nil {
			return err
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, lastLines(string(out)))
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := call(ctx, "initdb", "-D", data, "-A", "trust", "-U", "kamailio", "-E", "UTF8", "--locale=C"); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	p := strconv.Itoa(port)
	d, err := startDaemon(postgresUser, filepath.Join(bin, "postgres"), "-D", data, "-p", p, "-k", dir, "-c", "listen_addresses=127.0.0.1")
	if err != nil {
		return err
	}
	defer d.stop()
	psql := func(ctx context.Context, args ...string) error {
		return call(ctx, "psql", append([]string{"-q", "-h", "127.0.0.1", "-p", p, "-U", "kamailio", "-v", "ON_ERROR_STOP=1", "-d"}, args...)...)
	}
	if err := d.await(ctx, func(ctx context.Context) error { return psql(ctx, "postgres", "-c", "CREATE DATABASE kamailio") }); err != nil {
		return err
	}
	for _, table := range []string{"standard", "usrloc"} {
		if err := psql(ctx, "kamailio", "-f", filepath.Join(kamailioTables, table+"-create.sql")); err != nil {
			return err
		}
	}
	url := "postgres://kamailio:none@127.0.0.1:" + p + "/kamailio"
	return kamailio(ctx, o, r, "Kamailio, PostgreSQL", url, func() time.Duration { return usage.Of(d.cmd.Process.Pid).CPU })
}
