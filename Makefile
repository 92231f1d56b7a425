# Flexphone. `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# The board that is built for and run: host, or one that firmware/image knows.
BOARD ?= host
# How long `make fuzz` gives each fuzz target.
FUZZTIME ?= 60s
# Which benchmarks `make bench` runs (a regular expression), and for how long each.
BENCH ?= .
BENCHTIME ?= 1s
# How many calls, and moves of either kind, it measures at each round trip: fewer say
# nothing of their 95th percentile. How many calls of each kind it listens to.
CALLS ?= 100
HEARD ?= 10
# How often a storing server is restarted in `make restarts`.
RESTARTS ?= 20
# How often addresses change hands in `make swaps`.
SWAPS ?= 200
# How long `make soak-calls` lasts, and what happens in it; empty: anything, and it says what.
SOAK ?= 10m
TAIL ?= 10m
SEED ?=

# The first Go that is 1.21 or later: such a one fetches the version of go.mod by
# itself. Where there is none, OWN_GO is made, by Debian's Go.
OWN_GO := $(CURDIR)/build/go/bin/go
GO := $(or $(shell for go in $(OWN_GO) "$$(command -v go)" /usr/local/go/bin/go; do \
  case "$$(cd / && "$$go" version 2>/dev/null)" in \
    ('' | *go1.[0-9].* | *go1.1[0-9]* | *go1.20*) ;; \
    (*) echo "$$go"; break ;; \
  esac; done),$(OWN_GO))
# For scripts, and for gofmt.
export PATH := $(dir $(GO)):$(PATH)
# libopus is wanted, libopusfile is not. All is compiled with the same flags, since what
# is compiled with others is compiled once more.
TAGS := nolibopusfile
export GOFLAGS := $(strip $(GOFLAGS) -tags=$(TAGS) -trimpath)
# What is tested here is vetted by `check`.
GO_TEST := $(GO) test -vet=off

# What Debian 12 calls the things that are needed: to build, to run the story
# of `make run` (a provider, a fixed IP phone, a recorded voice), and beside
# these to test.
BUILD_PACKAGES := gcc libc6-dev pkg-config libopus-dev libspeexdsp-dev libasound2-dev portaudio19-dev
RUN_PACKAGES := dnsmasq-base baresip-core pocketsphinx-testdata
TEST_PACKAGES := ffmpeg sip-tester iproute2 openssl git systemd jackd2 kea-dhcp4-server isc-dhcp-server udhcpc isc-dhcp-client bind9-dnsutils chromium chromium-driver strace libcoap3-bin
# What ours is compared with, by the longer commands.
COMPARE_PACKAGES := dhcpcd-base busybox linphone-cli
PEER_PACKAGES := kamailio kamailio-postgres-modules postgresql bind9

HOST_BUILD := $(GO) build

help: ## List these commands
	@echo 'make COMMAND [BOARD=$(BOARD)], where COMMAND is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'BOARD is host, or a board of firmware/image: make run BOARD=imx6ul-evk shows the firmware of a desk phone in QEMU.'
	@echo 'Products are in build/.'

build: build-$(BOARD) ## Build the phone and the storing server for BOARD
run: run-$(BOARD) ## Show the whole method between two phones, with all set-up

build-host: packages-build
	@mkdir -p build/host
	$(HOST_BUILD) -o build/host/flexphone ./firmware
	$(HOST_BUILD) -o build/host/storing-server ./storing-server

# The version is the newest change's day and name, or what DEB_VERSION says.
DEB_VERSION ?= $(shell git log -1 --format=0~%cd.%h --date=format:%Y%m%d%H%M%S 2>/dev/null || echo 0)
DEB_ARCH = $(shell dpkg --print-architecture)
deb: packages-build ## A Debian package of the storing server, in build/
	@mkdir -p build/deb
	CGO_ENABLED=0 $(HOST_BUILD) -o build/deb/storing-server ./storing-server
	@storing-server/debian/build.sh build/deb/storing-server '$(DEB_VERSION)' $(DEB_ARCH) build/flexphone-storing-server_$(DEB_VERSION)_$(DEB_ARCH).deb
	@echo "build/flexphone-storing-server_$(DEB_VERSION)_$(DEB_ARCH).deb"

run-host: packages-run build-host
	@$(HOST_BUILD) -o build/host/story ./testbed/story
	@build/host/story

# ---- checks and tests

check: packages-build ## Format, vet, staticcheck, and the floor plan
	@unformatted=$$(find . -name '*.go' -not -path './build/*' -print0 | xargs -0 gofmt -l); \
	  test -z "$$unformatted" || { echo "not formatted (run gofmt -w):" $$unformatted; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags=$(TAGS),nobrowser ./firmware/...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 .

# Up to three things at a time, since most of them wait as well as compute: what is tested
# on the host and then by sound in virtual machines, part after part; the images, which
# these need, and after them, on processors that are idle, what nobody waits for
# (test-aside); and beside the end-to-end tests, once the images are there, what virtual
# machines do without being listened to (test-guest-quiet). A part that fails is no reason
# not to run the others: what failed is told at the end. Each part says how long it took.
test: packages-test image-packages ## Every test that can run here; names what cannot
	@rm -rf build/test && mkdir -p build/test
	@bad=; \
	  failed() { bad="$$bad $$1"; grep -qs '^What failed:' build/test/$$1 || tail -n 15 build/test/$$1 >>build/test/failed; }; \
	  part() { from=$$SECONDS; $(MAKE) --no-print-directory $$1 2>&1 | tee build/test/$$1 || failed $$1; echo "-- $$1: $$((SECONDS - from)) s"; }; \
	  exec 3< <(exec $(MAKE) --no-print-directory test-aside 2>build/test/test-aside); aside=$$!; quiet=; \
	  trap 'kill $$aside $$quiet 2>/dev/null || true' EXIT; \
	  part check; [ -z "$$bad" ] || exit 1; part test-unit; part apt-test; \
	  { read -r -u 3 && BUILT=1 exec $(MAKE) --no-print-directory test-guest-quiet; } >build/test/test-guest-quiet 2>&1 & quiet=$$!; \
	  part test-e2e; \
	  if read -r -u 3; then BUILT=1 part test-guest-e2e; fi; \
	  from=$$SECONDS; wait $$quiet || failed test-guest-quiet; cat build/test/test-guest-quiet; \
	  wait $$aside || failed test-aside; cat build/test/test-aside; echo "-- what was not over yet: $$((SECONDS - from)) s"; \
	  echo "-- all: $$SECONDS s"; echo; \
	  if [ -s build/test/skipped ]; then echo 'Not run, and why:'; cat build/test/skipped; else echo 'Every test was run.'; fi; \
	  [ -z "$$bad" ] || { echo; echo "Failed:$$bad"; head -n 45 build/test/failed; exit 1; }

# The end-to-end tests are in these packages. Those of the first take longest; the others
# run beside it, one after the other, each with a town or two. The tests of all other
# packages, the testbed's lesser parts among them, run beside each other.
END_TO_END := ./testbed ./testbed/story ./testbed/callbench ./testbed/soak ./testbed/hardship
# Those that take longest, by much, come first, and three at a time, since these wait as
# well as compute.
LONG_UNITS := ./storing-server ./audio ./registry-client ./netlink ./netlink/prefer ./firmware/internal/sip
UNITS = $(LONG_UNITS) $$($(GO) list ./... | grep -vx $(patsubst ./%,-e flexphone/%,$(END_TO_END) $(LONG_UNITS)))
# A test that hangs says so, and where, while somebody still waits for it: these are five
# times what the longest package takes beside others.
UNIT_TIMEOUT := 20m
E2E_TIMEOUT := 1h
SUMMARY := awk -v skipped=build/test/skipped -v failed=build/test/failed -f .ci/summary.awk

test-unit: ## The part of it that is quick: every package but the end-to-end tests
	@echo '== unit and contract tests, with the race detector'
	@mkdir -p build/test
	@$(GO_TEST) -race -shuffle=on -p 3 -timeout $(UNIT_TIMEOUT) -v $(UNITS) 2>&1 | $(SUMMARY)

# e2e,FOLDER,FLAGS: the end-to-end tests, of the programs in build/FOLDER.
define e2e
	@mkdir -p build/test
	@FLEXPHONE_BINARIES=$(CURDIR)/build/$(1) GORACE=atexit_sleep_ms=0 \
	  $(GO_TEST) $(2) -count=1 -p 2 -parallel 4 -timeout $(E2E_TIMEOUT) -v $(END_TO_END) 2>&1 | $(SUMMARY)
endef

# The programs are those that users have: what they say to each other is listened to, and a
# program that looks for races takes two and a half times the processor, which slower machines
# do not have beside sound.
test-e2e: build-host
	@echo '== end-to-end tests: real programs in network namespaces'
	$(call e2e,host,)

test-race: packages-test build-host ## The end-to-end tests of programs with the race detector (half an hour, an hour on a slow machine)
	@mkdir -p build/host-race
	@$(HOST_BUILD) -race -o build/host-race/flexphone ./firmware
	@$(HOST_BUILD) -race -o build/host-race/storing-server ./storing-server
	$(call e2e,host-race,-race)

# A package's targets share one program. Under load Go's fuzzer may miss its own
# deadline, which is no finding.
fuzz: packages-build ## Every fuzz target for FUZZTIME each
	@echo '== fuzz targets, $(FUZZTIME) each'
	@mkdir -p build/fuzz
	@for dir in $$(grep -rl --include='*_test.go' --exclude-dir=build '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
	  name=$${dir#./}; bin=$(CURDIR)/build/fuzz/$${name//\//-}; \
	  $(GO_TEST) -c -fuzz=. -ldflags '-s -w' -o $$bin.test $$dir; \
	  for target in $$($$bin.test -test.list '^Fuzz' | grep '^Fuzz'); do \
	    out=$$(cd $$dir && $$bin.test -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 50x -test.fuzzcachedir $$bin.corpus 2>&1) || \
	      { grep -q 'context deadline exceeded' <<<"$$out" && ! grep -q 'Failing input' <<<"$$out"; } || { echo "$$out"; exit 1; }; \
	    printf '%-32s %-24s %s\n' $$name $$target "$$(grep -o 'execs: [0-9]*' <<<"$$out" | tail -n 1)"; \
	  done; \
	done

bench: packages-compare packages-peers build-host ## Benchmarks of every room, and calls over a long wire (BENCH=regexp, BENCHTIME=1s, CALLS=100)
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(UNITS) | grep -v 'no test files'

	@$(GO) run ./testbed/compare bench
	@$(GO) run ./testbed/callbench -n $(CALLS)
	@$(MAKE) --no-print-directory bench-audio
	@build/host/storing-server bench
	@$(GO) run ./testbed/registrars build/host/storing-server
	@cd storing-server/engines && $(GO) run .

bench-audio: packages-test build-host ## The part of it that listens to calls: from mouth to ear, processor, memory, words (HEARD=10; two hours and a half)
	@$(GO) run ./testbed/audiobench -n $(HEARD)

bench-tail: packages-test build-host ## Late periods of the card in ten minutes of a call, beside registrations, pages and logs (TAIL=10m)
	@$(GO) run ./testbed/audiobench -tail $(TAIL)

moves: packages-test build-host ## Whatever can happen to the networks of two phones in a call, to each and both, at every time
	@FLEXPHONE_MOVES=all $(GO) test -count=1 -parallel 4 -timeout 1h -v -run '^TestCallsOutliveTheirNetworks$$' ./testbed | grep -e ' --- ' -e '^ok' -e FAIL -e _test.go

restarts: packages-test build-host ## A relayed call goes on while the storing servers of its cluster are restarted in turn (RESTARTS=20)
	@FLEXPHONE_RESTARTS=$(RESTARTS) $(GO) test -count=1 -timeout 1h -v -run '^TestRelayedCallOutlivesServers$$' ./testbed | grep -e ' --- ' -e 'restarts_test.go' -e '^ok' -e FAIL

nats: packages-test build-host ## Real phones behind each pair of five kinds of NATs, and NATs that forget, are restarted or doubled in a call
	@FLEXPHONE_NATS=all $(GO) test -count=1 -timeout 1h -v -run '^(TestSoundThroughNATs|TestSoundInOneHome|TestNATsThatForget|TestNATsThatAreRestarted|TestSoundThroughTwoNATs)$$' ./testbed | grep -e ' --- ' -e 'talk both ways' -e '^ok' -e FAIL -e 'restarted:'

swaps: packages-test build-host ## Two phones swap their addresses while others dial them, ring them and talk with them (SWAPS=200)
	@FLEXPHONE_SWAPS=$(SWAPS) $(GO) test -count=1 -timeout 1h -v -run '^TestSwappedAddresses$$' ./testbed | grep -e ' --- FAIL' -e 'swaps_test.go' -e '^ok' -e FAIL

faults: packages-compare ## Every DHCP fault: our client beside udhcpc, dhclient, dhcpcd and systemd-networkd (8 min)
	@$(GO) run ./testbed/compare faults

life: packages-compare ## A phone's ordinary life with dnsmasq, Kea and ISC dhcpd, and that of four other clients
	@$(GO) run ./testbed/compare life

soak: packages-compare build-host ## 10,000 lease changes; a million rows on the move for ten minutes
	@$(GO) run ./testbed/compare soak
	@build/host/storing-server bench --soak 10m --rows 1000000 --moving 10%

soak-calls: packages-run build-host ## Two phones' eight hours in ten minutes: calls, moves, holds, cables and servers that are out (SOAK=10m, SEED=)
	@$(GO) run ./testbed/soak -for $(SOAK) $(if $(SEED),-seed $(SEED))

kill: packages-test ## Kill the storing server under load, 100 times
	@$(GO) test ./storing-server -run 'TestKill$$' -rounds 100 -timeout 15m -v

clean: ## Remove build/
	rm -rf build

# ---- what must be installed

# install,WORDS: installs the missing ones of these packages, or says how. Servers
# among them are for tests that start their own: none is started by installing.
QUIETLY := sh -c '[ -e /usr/sbin/policy-rc.d ] || { trap "rm -f /usr/sbin/policy-rc.d" EXIT; \
  printf "\#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }; "$$@"' quietly
define install
	@missing=; for p in $(1); do \
	  [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
	  get="apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends$$missing"; \
	  if [ $$(id -u) = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as='sudo -n'; \
	  else echo "Missing:$$missing. Install by: sudo apt-get update && sudo $$get"; exit 1; fi; \
	  echo "Installing:$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  log=$$($$as $(QUIETLY) $$get 2>&1) || { \
	    $$as apt-get -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any update >/dev/null 2>&1 || echo "Debian's lists did not all come, going on with what is there"; \
	    log=$$($$as $(QUIETLY) $$get 2>&1); \
	  } || { echo "$$log"; exit 1; }; \
	fi
endef

packages-build: $(if $(filter $(OWN_GO),$(GO)),own-go) ; $(call install,$(BUILD_PACKAGES))
own-go: packages-go ; @[ -x $(OWN_GO) ] || $(MAKE) --no-print-directory $(OWN_GO)
packages-go: ; $(call install,golang-go ca-certificates)
packages-run: packages-build ; $(call install,$(RUN_PACKAGES))
packages-test: packages-run ; $(call install,$(TEST_PACKAGES))
packages-compare: packages-test ; $(call install,$(COMPARE_PACKAGES))
packages-peers: packages-test ; $(call install,$(PEER_PACKAGES))

# Debian 12's Go is too old for this module, but not for fetching a newer one,
# which is a Go module with a checksum like any other.
$(OWN_GO):
	@version=go$$(awk '$$1 == "go" {print $$2}' go.mod).linux-$$(dpkg --print-architecture); \
	echo "Fetching Go: $$version"; \
	mkdir -p build/go-modules/fetch; cd build/go-modules/fetch; echo 'module fetch' > go.mod; \
	got=$$(GOFLAGS= GOPATH=$(CURDIR)/build/go-modules /usr/bin/go mod download -json golang.org/toolchain@v0.0.1-$$version) || { echo "$$got"; exit 1; }; \
	dir=$$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$$got"); \
	chmod -R u+w "$$dir"; chmod +x "$$dir"/bin/* "$$dir"/pkg/tool/*/*; mv "$$dir" $(CURDIR)/build/go

.PHONY: help build deb run check test test-unit test-e2e fuzz bench bench-audio bench-tail moves restarts nats swaps faults life soak soak-calls kill clean build-host run-host \
  packages-build packages-run packages-test packages-compare packages-peers packages-go own-go

# Images, and the boards that are not the host: image, flash, build-BOARD, run-BOARD.
-include firmware/image/image.mk
# Phones in virtual machines: guest-BOARD, run-BOARD, test-guest.
-include testbed/guest.mk
