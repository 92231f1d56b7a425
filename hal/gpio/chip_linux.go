package gpio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"flexphone/hal/cdev"
)

// Flags of linux/gpio.h that x/sys/unix does not have.
const (
	flagActiveLow    = 1 << 1
	flagInput        = 1 << 2
	flagOutput       = 1 << 3
	flagEdgeRising   = 1 << 4
	flagEdgeFalling  = 1 << 5
	flagOpenDrain    = 1 << 6
	flagBiasPullUp   = 1 << 8
	flagBiasPullDown = 1 << 9
	flagBiasDisabled = 1 << 10
)

// consumer is what the kernel shows as the user of our lines.
const consumer = "flexphone"

// maxLines is how many lines one request may have.
const maxLines = 64

// input is how lines that are read are set up.
type input struct {
	activeLow bool
	bias      Bias
	debounce  time.Duration // 0: none by the kernel
}

func requestInputs(want []Line, in input) (lines, error) {
	var c unix.GPIOV2LineConfig
	c.Flags = flagInput | flagEdgeRising | flagEdgeFalling
	if in.activeLow {
		c.Flags |= flagActiveLow
	}
	switch in.bias {
	case PullUp:
		c.Flags |= flagBiasPullUp
	case PullDown:
		c.Flags |= flagBiasPullDown
	case Floating:
		c.Flags |= flagBiasDisabled
	}
	if in.debounce > 0 {
		a := &c.Attrs[0]
		a.Attr.Id = unix.GPIO_V2_LINE_ATTR_ID_DEBOUNCE
		// A union: these are the first four of its eight bytes, in any byte order.
		*(*uint32)(unsafe.Pointer(&a.Attr.Flags)) = uint32(in.debounce.Microseconds())
		a.Mask = 1<<len(want) - 1
		c.Num_attrs = 1
	}
	return request(want, c)
}

// requestOutputs requests lines that are all inactive to begin with.
func requestOutputs(want []Line, flags uint64) (lines, error) {
	return request(want, unix.GPIOV2LineConfig{Flags: flagOutput | flags})
}

// request requests lines of one chip.
func request(want []Line, config unix.GPIOV2LineConfig) (lines, error) {
	if len(want) == 0 || len(want) > maxLines {
		return nil, fmt.Errorf("gpio: request lines: %d lines, want 1 to %d", len(want), maxLines)
	}
	chip, offsets, err := find(want)
	if err != nil {
		return nil, err
	}
	defer unix.Close(chip)
	r := unix.GPIOV2LineRequest{Config: config, Num_lines: uint32(len(offsets))}
	copy(r.Offsets[:], offsets)
	copy(r.Consumer[:len(r.Consumer)-1], consumer)
	if err := cdev.Ioctl(chip, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&r)); err != nil {
		hint := ""
		if errors.Is(err, unix.EBUSY) {
			hint = " (another driver or program has it; see gpioinfo)"
		}
		return nil, fmt.Errorf("gpio: request %v and %d more: %w%s", want[0], len(want)-1, err, hint)
	}
	f, err := cdev.New(int(r.Fd), want[0].String())
	if err != nil {
		return nil, fmt.Errorf("gpio: request %v: %w", want[0], err)
	}
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		f.Close()
		return nil, fmt.Errorf("gpio: read clock: %w", err)
	}
	return &kernelLines{
		File:    f,
		offsets: offsets,
		zero:    time.Now().Add(-time.Duration(mono.Nano())),
	}, nil
}

// find opens the chip that has all the lines.
func find(want []Line) (fd int, offsets []uint32, err error) {
	paths, err := filepath.Glob("/dev/gpiochip*")
	if err != nil {
		return -1, nil, fmt.Errorf("gpio: list chips: %w", err)
	}
	var labels []string
	var failed error
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			failed = fmt.Errorf("gpio: open chip: %w", &os.PathError{Op: "open", Path: path, Err: err})
			continue
		}
		label, offsets, err := offsetsOn(fd, want)
		if err == nil {
			return fd, offsets, nil
		}
		if !errors.Is(err, errOtherChip) {
			failed = err
		}
		labels = append(labels, label)
		unix.Close(fd)
	}
	if failed == nil {
		failed = fmt.Errorf("gpio: find %v: none of the kernel's %d chips %q has it", want[0], len(paths), labels)
	}
	return -1, nil, failed
}

var errOtherChip = errors.New("gpio: another chip")

// offsetsOn returns the chip's label and where on it the lines are, or
// errOtherChip.
func offsetsOn(chip int, want []Line) (label string, offsets []uint32, err error) {
	var info unix.GPIOChipInfo
	if err := cdev.Ioctl(chip, unix.GPIO_GET_CHIPINFO_IOCTL, unsafe.Pointer(&info)); err != nil {
		return label, nil, fmt.Errorf("gpio: ask chip for its label: %w", err)
	}
	label = unix.ByteSliceToString(info.Label[:])
	name := unix.ByteSliceToString(info.Name[:])
	byName := map[string]uint32{}
	for i := range info.Lines {
		l := unix.GPIOV2LineInfo{Offset: i}
		if err := cdev.Ioctl(chip, unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(&l)); err != nil {
			return label, nil, fmt.Errorf("gpio: ask chip %s for its lines: %w", name, err)
		}
		if n := unix.ByteSliceToString(l.Name[:]); n != "" {
			byName[n] = i
		}
	}
	offsets = make([]uint32, len(want))
	for i, l := range want {
		if l.Chip != "" && l.Chip != label && l.Chip != name {
			return label, nil, errOtherChip
		}
		offset, named := byName[l.Name]
		switch {
		case l.Name == "" && l.Chip != "" && l.Offset >= 0 && uint32(l.Offset) < info.Lines:
			offset = uint32(l.Offset)
		case !named && l.Chip == "" && i == 0:
			return label, nil, errOtherChip
		case !named:
			return label, nil, fmt.Errorf("gpio: find %v: chip %s (%s) has no such line among its %d", l, label, name, info.Lines)
		}
		offsets[i] = offset
	}
	return label, offsets, nil
}

// kernelLines are lines that the kernel gave us.
type kernelLines struct {
	*cdev.File
	offsets []uint32
	zero    time.Time // when the kernel's monotonic clock was at zero
	seqno   uint32    // of the last edge read
}

// edgeSize is the kernel's size of an edge.
const edgeSize = int(unsafe.Sizeof(unix.GPIOV2LineEvent{}))

func (k *kernelLines) edges(ctx context.Context, buf []edge) (n int, lost bool, err error) {
	var events [16]unix.GPIOV2LineEvent
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&events)), len(events)*edgeSize)
	got, err := k.Read(ctx, raw[:min(len(events), len(buf))*edgeSize])
	if err != nil {
		return 0, false, err
	}
	for _, e := range events[:got/edgeSize] {
		lost = lost || e.Seqno != k.seqno+1
		k.seqno = e.Seqno
		for i, o := range k.offsets {
			if o == e.Offset {
				buf[n] = edge{
					line:   i,
					active: e.Id == unix.GPIO_V2_LINE_EVENT_RISING_EDGE,
					at:     k.zero.Add(time.Duration(e.Timestamp_ns)),
				}
				n++
			}
		}
	}
	return n, lost, nil
}

func (k *kernelLines) drain() (int, error) {
	buf := make([]byte, 64*edgeSize)
	for edges := 0; ; {
		n, err := k.TryRead(buf)
		if err != nil || n == 0 {
			return edges, err
		}
		edges += n / edgeSize
		last := (*unix.GPIOV2LineEvent)(unsafe.Pointer(&buf[n-edgeSize]))
		k.seqno = last.Seqno
	}
}

func (k *kernelLines) values() (uint64, error) {
	v := unix.GPIOV2LineValues{Mask: 1<<len(k.offsets) - 1}
	err := k.Ioctl(unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v))
	return v.Bits, err
}

func (k *kernelLines) set(values uint64) error {
	v := unix.GPIOV2LineValues{Bits: values, Mask: 1<<len(k.offsets) - 1}
	return k.Ioctl(unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(&v))
}
