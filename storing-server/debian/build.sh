#!/bin/sh
# Makes a Debian package of a built storing server: build.sh PROGRAM VERSION ARCHITECTURE FILE
# COMPRESSION is xz unless it says otherwise.
set -eu
program=$1 version=$2 architecture=$3 file=$4
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
put() { install -D -m "$1" "$2" "$root/$3"; }
put 755 "$program" usr/bin/storing-server
put 644 "$here/../storing-server.service" lib/systemd/system/storing-server.service
put 644 "$here/sysusers.conf" usr/lib/sysusers.d/storing-server.conf
put 644 "$here/default" etc/default/storing-server
put 644 "$here/../../LICENSE" usr/share/doc/flexphone-storing-server/copyright
install -d "$root/usr/share/man/man8" "$root/DEBIAN"
gzip -9n <"$here/storing-server.8" >"$root/usr/share/man/man8/storing-server.8.gz"
cat >"$root/DEBIAN/control" <<EOF
Package: flexphone-storing-server
Version: $version
Architecture: $architecture
Maintainer: Flexphone <flexphone@localhost>
Installed-Size: $(du -sk "$root" | cut -f1)
Recommends: systemd
Section: comm
Priority: optional
Description: holds where each phone is now
 The storing server of Flexphone holds one row a phone: its MAC address and the
 IP address that it has now. Callers ask it, and then call the phone directly.
 .
 It serves phones by CoAP over DTLS, standard SIP phones, DNS, and its operator
 by pages and a JSON API.
EOF
echo /etc/default/storing-server >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" -b "$root" "$file" >/dev/null
