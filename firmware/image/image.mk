# The phone's image: make image BOARD=…, make flash BOARD=… DEVICE=/dev/…
#
# Products are in build/BOARD. What takes long or comes from Debian's mirror is
# kept in $FLEXPHONE_CACHE (default ~/.cache/flexphone), which can be deleted at
# any time.

# The host is a board to run on, not one to flash.
IMAGE_BOARD = $(if $(filter-out host,$(BOARD)),$(BOARD),qemu-virt)

# What a build needs on the machine; everything inside an image is unpacked from
# Debian's packages and never installed.
IMAGE_PACKAGES := device-tree-compiler dosfstools e2fsprogs fdisk mtools pkgconf squashfs-tools xz-utils \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross \
	bc bison cpio flex kmod libelf-dev libssl-dev make qemu-system-arm

# The name of this run of make: see common.sh.
ifndef FLEXPHONE_RUN
FLEXPHONE_RUN := $(shell date +%s)-$(shell echo $$PPID)
endif
export FLEXPHONE_RUN

.PHONY: image flash image-packages apt-test image-test boot-times power-cuts hardship-test hardship-ready

image: image-packages ## Kernel, root file system and disk image of BOARD, in build/BOARD
	@firmware/image/build.sh $(IMAGE_BOARD) build/$(IMAGE_BOARD)

flash: ## Write the image of BOARD to DEVICE, such as /dev/sdb (FORCE=1: also to a fixed disk)
	@firmware/image/flash.sh "build/$(IMAGE_BOARD)/disk.img" "$(DEVICE)" "$(FORCE)"

apt-test:
	@echo '== a mirror of Debian that is in the middle of its update, or away'
	@firmware/image/apt-test.sh

image-test: $(if $(BUILT),,guest-qemu-virt)
	@echo '== images: the same bytes twice, their size, flashing'
	@firmware/image/test.sh

# Two phones at a time: they stand by more than they compute.
hardship-ready: packages-test $(if $(BUILT),,guest-$(IMAGE_BOARD))
HARDSHIP = FLEXPHONE_BOARD=$(IMAGE_BOARD) $(GO_TEST) -count=1 -v -timeout 3h -parallel 2 ./testbed/hardship

hardship-test: hardship-ready
	@echo '== $(IMAGE_BOARD): power cuts, hangs, crashes, missing and spoiled parts'
	@mkdir -p build/test
	@$(HARDSHIP) -skip TestBootTimes 2>&1 | $(SUMMARY)

power-cuts: hardship-ready ## Cut the power of BOARD 20 times each (CUTS=20): at its start, in a call, at a change of settings
	@FLEXPHONE_CUTS=$(or $(CUTS),20) $(HARDSHIP) -run TestPowerCuts

boot-times: hardship-ready ## How long BOARD takes from power-on to registered
	@$(HARDSHIP) -run TestBootTimes

image-packages: packages-build ; $(call install,$(IMAGE_PACKAGES))
