package wire

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errRefused is what the kernel says of a packet that it does not take, such as one
// that is no IP packet: that packet is lost, and the device works on.
var errRefused = unix.EINVAL

// A TUN is a TUN device that is open.
type TUN struct{ *os.File }

// Rest waits for d, by a thread of its own and so to a tenth of a millisecond. A
// signal may end it before.
func (TUN) Rest(d time.Duration) {
	if d > 0 {
		t := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&t, nil)
	}
}

// OpenTUN makes a TUN device of this name in the namespace of the calling thread,
// and opens it: what the kernel routes to it is read, and what is written has come
// from it. The device is down, and goes when it is closed.
func OpenTUN(name string) (TUN, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return TUN{}, fmt.Errorf("wire: open /dev/net/tun: %w (it is for everybody where udev runs; else be root)", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return TUN{}, fmt.Errorf("wire: make TUN device %s: %w", name, err)
	}
	return TUN{os.NewFile(uintptr(fd), name)}, nil // which waits without a thread, from now on
}
