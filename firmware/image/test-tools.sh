#!/bin/sh
# test-tools.sh: prints the folder that holds what the tests in the guest need
# beside the image: ip, nsenter, dnsmasq, pppd, pppoe-server and their libraries, unpacked
# from Debian's packages for arm64 and never installed.
set -eu
. "$(dirname "$0")/common.sh"

cross arm64
programs="ppp pppoe dnsmasq-base iproute2 util-linux"
libraries="libaudit1 libbpf1 libbsd0 libc6 libcap-ng0 libcap2 libcrypt1 libdbus-1-3 libelf1 libgcrypt20 libgmp10 libgpg-error0 libhogweed6 libidn2-0
	libjansson4 liblz4-1 liblzma5 libmd0 libmnl0 libnetfilter-conntrack3 libnettle8 libnfnetlink0 libnftables1 libnftnl11
	libpam0g libpcap0.8 libpcre2-8-0 libselinux1 libssl3 libsystemd0 libunistring2 libxtables12 libzstd1 zlib1g"
debs=$(fetch arm64 $programs)
library_debs=$(fetch arm64 $libraries)
key=$( (echo "$debs $library_debs" | xargs -n 1 basename; cat "$0") | sha256sum | cut -c 1-16)
dir=$cache/test-tools/$key

needed() { "$prefix-readelf" -d "$@" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u; }

unpack() {
	[ -d "$dir" ] && return
	new=$dir.new
	rm -rf "$new"
	mkdir -p "$new/all" "$new/tools/lib"
	for deb in $library_debs; do dpkg-deb -x "$deb" "$new/all"; done
	for deb in $debs; do dpkg-deb -x "$deb" "$new/tools"; done
	(cd "$new/tools" && rm -rf usr/share usr/lib/*/tc usr/lib/tc lib/tc lib/systemd etc/init.d etc/logrotate.d etc/cron.daily
		# Of iproute2 and util-linux, ip and nsenter alone.
		find bin sbin usr/bin usr/sbin ! -name ip ! -name nsenter ! -name "dnsmasq" ! -name "pp*" ! -type d -delete)
	printf '%s\n' root:x:0:0::/root:/bin/sh nobody:x:65534:65534::/:/bin/false >"$new/tools/etc/passwd"
	printf '%s\n' root:x:0: dip:x:30: nogroup:x:65534: >"$new/tools/etc/group"
	# pppoe-server looks for the plug-in of the kernel's PPPoE here.
	mkdir -p "$new/tools/etc/ppp/plugins"
	ln -sf "$(cd "$new/tools" && find usr/lib/pppd -name rp-pppoe.so | sed 's|^|/|')" "$new/tools/etc/ppp/plugins/rp-pppoe.so"

	# The libraries that these name, and that the image may not have.
	queue=$(find "$new/tools" -type f -exec "$prefix-readelf" -d {} + 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u)
	while [ -n "$queue" ]; do
		next=
		for name in $queue; do
			case $name in libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*) continue ;; esac # the image's
			[ -e "$new/tools/lib/$name" ] && continue
			file=$(find "$new/all" -name "$name" | head -n 1)
			[ -n "$file" ] || die "a tool of the tests needs $name, which none of the packages in $0 has"
			cp -L "$file" "$new/tools/lib/$name"
			next="$next $(needed "$file")"
		done
		queue=$next
	done
	rm -rf "$new/all"
	mv "$new/tools" "$dir"
	rm -rf "$new"
}
locked test-tools unpack
echo "$dir"
