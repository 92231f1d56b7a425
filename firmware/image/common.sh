# common.sh: what the image's scripts share. Sourced, not run.

here=$(cd "$(dirname "$0")" && pwd)

# Everything below $cache can be deleted at any time: it is made again.
cache=${FLEXPHONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flexphone}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# The time of every file in an image: two builds give the same bytes.
epoch=1767225600 # 2026-01-01 00:00 UTC
export SOURCE_DATE_EPOCH=$epoch LC_ALL=C TZ=UTC
umask 022

say() { echo "image: $*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE ...: says what to install when something is missing.
need() {
	missing=
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
		shift 2
	done
	[ -z "$missing" ] || die "not installed:$missing; run: apt-get install -y --no-install-recommends$missing"
}

# locked NAME COMMAND ...: runs it alone among all builds that share the cache.
locked() {
	exec 9>"$cache/$1.lock"
	flock 9
	shift
	"$@"
	exec 9>&-
}

# A run is all of one make, or of a script that was started by hand. What Debian's
# mirror did not give in it is not asked for again in it.
run=${FLEXPHONE_RUN:-$(date +%s)-$$}
export FLEXPHONE_RUN="$run"

# apt ARCH LISTS COMMAND ...: apt-get with lists of its own below the cache, so that
# it needs neither root nor a foreign architecture on this machine. Sources and
# keys are the system's. What is only a warning to apt-get, such as a name server
# that is away, is an error.
apt() {
	apt_arch=$1 lists=$2
	shift 2
	state=$cache/apt/$apt_arch
	[ "$apt_arch" = all ] && apt_arch=$(dpkg --print-architecture)
	mkdir -p "$state/$lists/partial" "$state/archives/partial"
	: >>"$state/status"
	apt-get -qq -o Dir::State="$state" -o Dir::State::Lists="$state/$lists" -o Dir::State::status="$state/status" \
		-o Dir::Cache="$state" -o Dir::Cache::Archives="$state/archives" \
		-o APT::Architecture="$apt_arch" -o APT::Architectures::="$apt_arch" \
		-o APT::Sandbox::User= -o APT::Update::Error-Mode=any "$@"
}

# fetch ARCH PACKAGE ...: prints the path of each package's .deb, downloading
# what the cache does not hold. The lists are a day old at most when something
# new is downloaded, if the mirror gives newer ones; a package that is there is
# taken as it is, so a build needs no network once the cache is warm.
fetch() {
	fetch_arch=$1
	shift
	debs=$cache/debs/$fetch_arch
	mkdir -p "$debs"
	for package; do
		deb=$(find "$debs" -maxdepth 1 -name "${package}_*.deb" | sort | tail -n 1)
		[ -n "$deb" ] || {
			locked apt download "$fetch_arch" "$package"
			deb=$(find "$debs" -maxdepth 1 -name "${package}_*.deb" | sort | tail -n 1)
		}
		echo "$deb"
	done
}

# complaint FILE: the first of apt-get's complaints in it.
complaint() { sed -n 's/^[EW]: *//p' "$1" | head -n 1; }

# refresh ARCH: takes the mirror's lists, once a run. Complete ones become
# $cache/apt/ARCH/lists, in place of the older ones; others are kept beside them as
# "incomplete", for want of better ones in this run, and are no news tomorrow.
refresh() {
	place=$cache/apt/$1
	mkdir -p "$place"
	[ "$(cat "$place/tried" 2>/dev/null)" != "$run" ] || return 0
	echo "$run" >"$place/tried"
	rm -rf "$place/incomplete"
	# What has not changed is not downloaded again.
	[ ! -d "$place/lists" ] || cp -Rp "$place/lists" "$place/incomplete" # their times say what is newer
	if apt "$1" incomplete update >"$place/log" 2>&1; then
		rm -rf "$place/lists"
		mv "$place/incomplete" "$place/lists"
		touch "$place/updated"
	else
		say "Debian's lists for $1 did not all come, going on with what is there: $(complaint "$place/log")"
	fi
}

download() {
	place=$cache/apt/$1
	[ -n "$(find "$place/updated" -mmin -1440 2>/dev/null)" ] || refresh "$1"
	get "$1" "$2" || { # the lists may be older than what the mirror has
		refresh "$1"
		get "$1" "$2"
	} || die "cannot download Debian's package $2 for $1: $(complaint "$place/log"); is there a mirror in /etc/apt, and is the network up?"
}

# get ARCH PACKAGE: downloads a package by the complete lists, or by what there is.
get() {
	new=$(mktemp -d "$cache/debs/new.XXXXXX")
	for lists in lists incomplete; do
		[ -d "$cache/apt/$1/$lists" ] || continue
		if (cd "$new" && apt "$1" "$lists" download "$2") >"$cache/apt/$1/log" 2>&1; then
			mv "$new"/*.deb "$cache/debs/$1/"
			rmdir "$new"
			return 0
		fi
	done
	rm -rf "$new"
	return 1
}

# cross ARCH: sets the names that compiler, linker and Go have for Debian's ARCH.
cross() {
	case $1 in
	arm64) prefix=aarch64-linux-gnu triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 goarch=arm64 goarm= ;;
	armhf) prefix=arm-linux-gnueabihf triplet=arm-linux-gnueabihf loader=ld-linux-armhf.so.3 goarch=arm goarm=7 ;;
	*) die "no cross compiler is known for $1" ;;
	esac
	need "$prefix-gcc" "gcc-$prefix libc6-dev-$1-cross" pkg-config pkgconf go golang
}
