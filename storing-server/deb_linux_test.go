package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packageOf makes a Debian package of this program, as a version.
func packageOf(t *testing.T, dir, version string) string {
	t.Helper()
	file := filepath.Join(dir, version+".deb")
	cmd := exec.Command("debian/build.sh", os.Args[0], version, "all", file)
	cmd.Env = append(os.Environ(), "COMPRESSION=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build package: %v\n%s", err, out)
	}
	return file
}

// A debianRoot is a root that looks like this one's, and of which nothing stays.
type debianRoot struct {
	t   *testing.T
	dir string
}

// sh runs commands in it, all in one mount namespace, and returns what they say.
// P is where the packages are.
func (m debianRoot) sh(script string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	// What the commands change is on a file system in memory, over this machine's.
	outer := `set -e
mount --make-rprivate /
mount -t tmpfs none "$D"
mkdir "$D/up" "$D/work" "$D/root" "$D/packages"
cp "$P"/*.deb "$D/packages/"
mount -t overlay -o "lowerdir=/,upperdir=$D/up,workdir=$D/work" none "$D/root"
mkdir -p "$D/root/packages" && cp "$D"/packages/* "$D/root/packages/"
mount -t proc none "$D/root/proc"
mount -t tmpfs none "$D/root/run"
mount -t tmpfs none "$D/root/tmp"
[ -c "$D/root/dev/null" ] || mount --bind /dev "$D/root/dev"
exec chroot "$D/root" sh -c "$S"`
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", outer)
	cmd.Env = append(os.Environ(), "D="+m.t.TempDir(), "P="+m.dir, "S=set -e\n"+script, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "mount") && !strings.Contains(string(out), "step") {
		m.t.Skipf("needs root and overlay file systems: %s", out)
	}
	if err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// The package is installed, upgraded, removed and purged, by dpkg itself, and
// what the server keeps stays: its rows, its key, and what the operator has
// changed of the flags.
func TestDebianPackage(t *testing.T) {
	for _, tool := range []string{"dpkg-deb", "unshare", "man"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	packageOf(t, dir, "1.0")
	packageOf(t, dir, "1.1")
	// The program is this test's, which is told by the environment what to be.
	said := debianRoot{t, dir}.sh(`
server() { env ` + asServer + `="$(printf '%s\n' "$@")" /usr/bin/storing-server; }
stop() { kill "$1"; wait "$1" || true; }
serve() {
  (exec env ` + asServer + `="$(printf '%s\n' run --data /var/lib/storing-server --listen 127.0.0.1:0 --log json)" /usr/bin/storing-server) 2>/tmp/log &
  running=$!
  for i in $(seq 600); do grep -q '"msg":"ready"' /tmp/log && return; sleep 0.1; done
  cat /tmp/log; exit 1
}
echo step install
dpkg -i /packages/1.0.deb
dpkg --verify flexphone-storing-server
getent passwd storing-server
stat -c '%a %U %n' /usr/bin/storing-server /lib/systemd/system/storing-server.service /etc/default/storing-server
[ "$(dpkg-query -W -f '${Conffiles}' flexphone-storing-server | grep -c /etc/default/storing-server)" = 1 ]
zcat /usr/share/man/man8/storing-server.8.gz | grep -q 'holds where each phone is now'
man --warnings -E UTF-8 -l -Tutf8 /usr/share/man/man8/storing-server.8.gz >/tmp/manual 2>/tmp/warnings
[ ! -s /tmp/warnings ] || { cat /tmp/warnings; exit 1; }
echo step serve
serve
server phone add lobby --data /var/lib/storing-server >/dev/null
stop $running
echo STORING_SERVER_FLAGS=--verbose >/etc/default/storing-server
sha256sum /var/lib/storing-server/server.key >/tmp/key
echo step upgrade
dpkg --force-confold -i /packages/1.1.deb
[ "$(dpkg-query -W -f '${Version}' flexphone-storing-server)" = 1.1 ]
grep -q verbose /etc/default/storing-server
sha256sum -c /tmp/key
server phone list --data /var/lib/storing-server
echo step downgrade
dpkg -i /packages/1.0.deb 2>&1
serve
stop $running
sha256sum -c /tmp/key
echo step remove
dpkg -r flexphone-storing-server
[ ! -e /usr/bin/storing-server ]
[ ! -e /lib/systemd/system/storing-server.service ]
grep -q verbose /etc/default/storing-server
sha256sum -c /tmp/key
echo step purge
dpkg -P flexphone-storing-server 2>&1
[ ! -e /etc/default/storing-server ]
sha256sum -c /tmp/key
echo step again
dpkg -i /packages/1.1.deb
server phone list --data /var/lib/storing-server
echo step done
`)
	for _, want := range []string{
		"step done", "755 root /usr/bin/storing-server", "644 root /lib/systemd/system/storing-server.service", "644 root /etc/default/storing-server",
		"/var/lib/storing-server:/usr/sbin/nologin", "Kept: /var/lib/storing-server",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %q", want)
		}
	}
	if n := strings.Count(said, "lobby"); n != 2 {
		t.Errorf("the phone is there %d times; want after the upgrade, and after it was installed again", n)
	}
	if t.Failed() {
		t.Log(said)
	}
}
