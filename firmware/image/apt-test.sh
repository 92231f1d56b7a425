#!/bin/sh
# apt-test.sh: what builds do when Debian's mirror is in the middle of its update,
# or away. A repository of our own, in a folder, is the mirror, and apt-get the real
# one, whose calls are counted. Needs neither root nor a network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
check() { # check WHAT COMMAND ...
	what=$1
	shift
	if "$@"; then echo "ok      $what"; else
		echo "FAILED  $what"
		sed 's/^/        /' "$tmp/said"
		failed=1
	fi
}

# ---- the mirror

packages="one two three four five six seven eight nine ten eleven twelve"
mirror=$tmp/mirror
mkdir -p "$mirror"
for package in $packages; do
	mkdir -p "$tmp/tree/DEBIAN"
	printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: nothing\n' $package >"$tmp/tree/DEBIAN/control"
	dpkg-deb --root-owner-group -b "$tmp/tree" "$mirror/${package}_1_all.deb" >/dev/null
done
day=10
index() { # index FOLDER PACKAGE ...: a repository of these packages, newer than the last
	day=$((day + 1)) folder=$1
	shift
	mkdir -p "$folder"
	for package; do
		deb=${package}_1_all.deb
		[ "$folder" = "$mirror" ] || cp "$mirror/$deb" "$folder/"
		dpkg-deb -f "$folder/$deb"
		printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$folder/$deb")" "$(sha256sum <"$folder/$deb" | cut -d ' ' -f 1)"
	done >"$folder/Packages"
	printf 'Date: %s Jan 2026 00:00:00 UTC\nSHA256:\n %s %s Packages\n' "$day" "$(sha256sum <"$folder/Packages" | cut -d ' ' -f 1)" "$(stat -c %s "$folder/Packages")" >"$folder/Release"
	touch -d "2026-01-$day" "$folder/Release"
}
index "$mirror" $packages
index "$tmp/security" one
# A second source, as Debian's security updates are.
cat >"$tmp/apt.conf" <<-CONF
	Dir::Etc::SourceList "$tmp/sources.list";
	Dir::Etc::SourceParts "/dev/null";
	Acquire::Languages "none";
	Acquire::Retries "0";
CONF
whole() { printf 'deb [trusted=yes] file:%s ./\n' "$mirror" "$tmp/security" >"$tmp/sources.list"; }
# There is something newer, but the list is not the one whose hash the mirror tells.
midway() {
	index "$tmp/security" one two
	echo >>"$tmp/security/Packages"
}
settled() { index "$tmp/security" one; }
# Nobody knows the mirror's name: apt-get says so, and ends as if all were well.
away() { echo 'deb [trusted=yes] http://mirror.invalid/ ./' >"$tmp/sources.list"; }

# ---- builds

mkdir -p "$tmp/bin"
cat >"$tmp/bin/apt-get" <<-SH
	#!/bin/sh
	case " \$* " in *" update "*) echo update >>"$tmp/updates" ;; esac
	exec $(command -v apt-get) "\$@"
SH
chmod +x "$tmp/bin/apt-get"
cat >"$tmp/build" <<-SH
	#!/bin/sh
	set -eu
	. "$here/common.sh"
	fetch armhf "\$@"
SH
# build PACKAGE ...: as a run of its own that has two scripts.
build() {
	: >"$tmp/updates"
	(
		cd "$here" # where common.sh looks for itself
		export PATH="$tmp/bin:$PATH" APT_CONFIG="$tmp/apt.conf" FLEXPHONE_CACHE="$tmp/cache"
		FLEXPHONE_RUN=$(mktemp -u run.XXXXXXXX)
		export FLEXPHONE_RUN
		result=0
		for package; do sh "$tmp/build" "$package" || result=$?; done
		exit $result
	) >"$tmp/out" 2>"$tmp/said"
}
updates() { [ "$(wc -l <"$tmp/updates")" = "$1" ]; }
lines() { [ "$(wc -l <"$tmp/said")" = "$1" ]; }
says() { grep -q "$1" "$tmp/said"; }
got() { [ "$(grep -c "_1_.*\.deb$" "$tmp/out")" = "$1" ]; }
fails() { ! "$@"; }
forget() { rm -rf "$tmp/cache"; }
older() { touch -d '2 days ago' "$tmp/cache/apt/armhf/updated"; }

whole
check "a mirror that is whole: all packages" build one two three
check "... for one look at its lists" updates 1
check "... without a word" lines 0
check "the next build needs neither lists nor mirror" build one two three
check "... and does not look" updates 0
check "a package more needs no newer lists within a day" build four
check "... and does not look" updates 0

forget
midway
check "a mirror in the middle of its update: what it has is taken" build $packages
check "... all of it" got 12
check "... tried once" updates 1
check "... one line" lines 1
check "... which says what" says "did not all come"
rm -rf "$tmp/cache/debs"
check "the next run" build two
check "... tries again" updates 1
settled
rm -rf "$tmp/cache/debs"
build one
check "when the mirror has settled nothing is said" lines 0
rm -rf "$tmp/cache/debs"
older
midway
check "older lists that are whole serve while it is in the middle of the next" build $packages
check "... tried once" updates 1
check "... one line" lines 1
check "... and are kept" test -e "$tmp/cache/apt/armhf/updated"
settled

forget
away
check "a name server that is away, and nothing in the cache: an error" fails build one
check "... which names the package" says "cannot download Debian's package one"
check "... tried once" updates 1
whole
check "when it is back the next build is well" build one two
check "... and says nothing" lines 0
away
older
rm -rf "$tmp/cache/debs"
check "away, and the packages are not there: an error" fails build one two three
check "... tried once" updates 1
whole
# What an older build may have left: lists that hold nothing, called new.
forget
mkdir -p "$tmp/cache/apt/armhf/lists/partial"
touch "$tmp/cache/apt/armhf/updated"
check "empty lists that call themselves new are found out" build one two
check "... by one look" updates 1
exit $failed
