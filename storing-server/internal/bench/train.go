package bench

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// flush sends what is pending. Datagrams of one length leave as one train,
// which the kernel takes apart: load and server share the cores.
func (l *line) flush() error {
	l.trains = l.trains[:0]
	for at := 0; at < l.pending; {
		n := 1
		for at+n < l.pending && len(l.out[at+n]) == len(l.out[at]) {
			n++
		}
		train := ipv4.Message{Buffers: l.out[at : at+n]}
		if n > 1 {
			train.OOB = segments(len(l.out[at]))
		}
		l.trains = append(l.trains, train)
		at += n
	}
	l.pending = 0
	for left := l.trains; len(left) > 0; {
		n, err := l.batch.WriteBatch(left, 0)
		if err != nil && !refusedByPeer(err) {
			return fmt.Errorf("bench: send: %w", err)
		}
		left = left[max(n, 1):] // what the kernel refused is lost, as on the way
	}
	return nil
}

// segments is the control message by which the kernel sends datagrams of so
// many bytes each (udp(7), UDP_SEGMENT).
func segments(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}
