// Command confined tries what the storing server's unit forbids, and prints
// what could be done nevertheless, and what could not though it is needed.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// asChild says to this program that it has come to where it was to be started.
const asChild = "CONFINED_CHILD"

func main() {
	if os.Getenv(asChild) != "" {
		return
	}
	data := os.Getenv("STORING_SERVER_DATA")
	write := func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }
	socket := func(family, kind, protocol int) error {
		fd, err := syscall.Socket(family, kind, protocol)
		if err == nil {
			syscall.Close(fd)
		}
		return err
	}
	open := func(path string) error {
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		}
		return err
	}
	suid := filepath.Join(data, "suid")
	for _, forbidden := range []struct {
		what string
		try  func() error
	}{
		{"write to /etc", func() error { return write("/etc/x") }},
		{"write to /usr", func() error { return write("/usr/x") }},
		{"write to /var/lib", func() error { return write("/var/lib/x") }},
		{"write to the kernel's settings", func() error { return write("/proc/sys/kernel/domainname") }},
		{"see the first process", func() error { return open("/proc/1/status") }},
		{"see the kernel's messages", func() error { return open("/dev/kmsg") }},
		{"list homes", func() error { return inside("/home") }},
		{"list root's home", func() error { return inside("/root") }},
		{"become root", func() error { return syscall.Setuid(0) }},
		{"a socket of another family", func() error {
			if err := socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0); err != syscall.EPERM {
				return err
			}
			return nil // it is the missing capability that forbids it, and nothing else
		}},
		{"raw IP", func() error { return socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP) }},
		{"a network namespace", func() error { return namespace(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET) }},
		{"a user namespace", func() error { return namespace(syscall.CLONE_NEWUSER) }},
		{"memory to write and execute", func() error {
			_, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_ANON|syscall.MAP_PRIVATE)
			return err
		}},
		{"a program that changes the user", func() error {
			if err := write(suid); err != nil {
				return nil // it has to be possible
			}
			return syscall.Chmod(suid, 0o4755)
		}},
		{"another host name", func() error { return syscall.Sethostname([]byte("x")) }},
		{"a mount", func() error { return syscall.Mount("none", data, "tmpfs", 0, "") }},
		{"another priority", func() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5) }},
		{"trace another process", func() error { return syscall.PtraceAttach(os.Getppid()) }},
		{"port 53", func() error { return listen("udp", "127.0.0.1:53") }},
	} {
		if forbidden.try() == nil {
			fmt.Println("not forbidden:", forbidden.what)
		}
	}
	for _, needed := range []struct {
		what string
		try  func() error
	}{
		{"write to its data", func() error { return write(filepath.Join(data, "probe")) }},
		{"write to its temporary folder", func() error { return write(filepath.Join(os.TempDir(), "probe")) }},
		{"a UDP port", func() error { return listen("udp", "127.0.0.1:0") }},
		{"a socket of a family", func() error { return socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0) }},
		{"the machine's addresses", func() error { _, err := net.InterfaceAddrs(); return err }},
	} {
		if err := needed.try(); err != nil {
			fmt.Printf("not possible: %s: %v\n", needed.what, err)
		}
	}
	fmt.Println("tried")
}

// namespace starts this program in one, which a program of several threads
// cannot enter itself.
func namespace(flags uintptr) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asChild + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

func listen(network, at string) error {
	c, err := net.ListenPacket(network, at)
	if err == nil {
		c.Close()
	}
	return err
}

// inside fails for a folder that shows nothing.
func inside(dir string) error {
	all, err := os.ReadDir(dir)
	if err == nil && len(all) == 0 {
		err = syscall.ENOENT
	}
	return err
}
