# Phones in virtual machines: make run BOARD=imx6ul-evk, make test-guest

GUEST_BOARDS := qemu-virt imx6ul-evk

.PHONY: $(GUEST_BOARDS:%=guest-%) $(GUEST_BOARDS:%=run-%) packages-guest test-guest test-guest-kernel test-guest-e2e test-aside test-guest-quiet

# The image, and the testbed's agent beside it. The clock of QEMU's i.MX6UL, its
# GPT, loses whatever time a tick comes late, a sixth of all on a busy machine; the
# timer of its processor does not, which the tree of the real board leaves off.
$(GUEST_BOARDS:%=guest-%): guest-%: build-host
	@$(MAKE) --no-print-directory image BOARD=$*
	@$(if $(filter imx6ul-evk,$*),cp build/$*/boot/imx6ul-14x14-evk.dtb build/$*/guest.dtb && fdtput -t s build/$*/guest.dtb /timer status okay)
	@CGO_ENABLED=0 GOARCH=$(if $(filter imx6ul-evk,$*),arm GOARM=7,arm64) $(HOST_BUILD) -ldflags '-s -w' -o build/$*/agent ./testbed/agent

# All that is missing at once, for who may not install it.
$(GUEST_BOARDS:%=run-%): run-%: packages-guest guest-%
	@$(HOST_BUILD) -o build/host/story ./testbed/story
	@build/host/story $*

packages-guest: ; $(call install,$(BUILD_PACKAGES) $(RUN_PACKAGES) $(IMAGE_PACKAGES))

test-guest: GUEST_SKIPS := TestExitCodes
test-guest: test-guest-kernel test-guest-e2e ## Tests in virtual machines: the kernel's parts, and calls between images

# What `make test` runs of images and guests, from one build of each image: BUILT=1 says
# that the images are there, so that nobody writes them anew beside who reads them.
# test-aside says when they are, to each of the two that wait for it.
built = $(if $(BUILT),,$(1))
test-aside:
	@$(MAKE) --no-print-directory $(GUEST_BOARDS:%=guest-%) >&2
	@echo built; echo built
	@chrt --idle 0 $(MAKE) --no-print-directory BUILT=1 FUZZTIME=3s image-test fuzz >&2
test-guest-quiet: export FLEXPHONE_CUTS := 1
test-guest-quiet: test-guest-kernel hardship-test

# Unit tests that need a kernel of their own.
test-guest-kernel: $(call built,guest-qemu-virt)
	@echo '== unit tests in a guest of qemu-virt'
	@mkdir -p build/test
	@firmware/image/kernel-tests.sh | $(SUMMARY)

# The end-to-end tests of the host, by the same names, on boards that QEMU plays.
# One at a time: a guest needs most of a processor. `make test` does without those
# that wait for a minute or longer. TestExitCodes needs no phone.
GUEST_TESTS_qemu-virt := .
GUEST_TESTS_imx6ul-evk := ^TestLeaseChangesAtRenewal$$
GUEST_SKIPS := TestExitCodes|TestCallsThatCannotBe|TestLinkIsCutInACall|TestACallerThatIsCutOff|TestProviderSleeps|TestServerIsKilled
test-guest-e2e: packages-test $(call built,$(GUEST_BOARDS:%=guest-%))
	@mkdir -p build/test
	@$(foreach board,$(GUEST_BOARDS),echo '== end-to-end tests on $(board)' && FLEXPHONE_BOARD=$(board) $(GO_TEST) -count=1 -parallel 1 -timeout $(E2E_TIMEOUT) -v -run '$(GUEST_TESTS_$(board))' -skip '^($(GUEST_SKIPS))$$' ./testbed 2>&1 | $(SUMMARY) &&) true
