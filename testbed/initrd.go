package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// writeInitrd puts the agent, and what is spoken, beside the initramfs of the
// image.
func (g *guest) writeInitrd(speech []int16) error {
	agent, err := os.ReadFile(filepath.Join(g.image, "agent"))
	if err != nil {
		return fmt.Errorf("testbed: find the agent: %w (run `make guest-%s` first)", err, g.board.name)
	}
	own, err := os.ReadFile(filepath.Join(g.image, "initrd"))
	if err != nil {
		return fmt.Errorf("testbed: find the initramfs: %w (run `make image BOARD=%s` first)", err, g.board.name)
	}
	var spoken []byte
	for _, s := range speech {
		spoken = binary.LittleEndian.AppendUint16(spoken, uint16(s))
	}
	// It is run once the root is mounted, and /dev has moved there.
	start := "#!/bin/sh\nexec /testbed/agent -root /root " + strings.Join(g.board.agent, " ") + " " + g.board.keypads[g.p.special.Keypad] +
		" </testbed/speech >/root/dev/kmsg 2>&1\n"

	b := bytes.NewBuffer(own)
	pad(b) // where archives may meet
	cpio := archive{to: b}
	cpio.add("testbed", 0o40755, nil)
	cpio.add("testbed/start", 0o100755, []byte(start))
	cpio.add("testbed/agent", 0o100755, agent)
	cpio.add("testbed/speech", 0o100644, spoken)
	cpio.add("TRAILER!!!", 0, nil)
	if err := os.WriteFile(g.initrd(), b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("testbed: make %s: %w", g.p.Name, err)
	}
	return nil
}

// An archive is one of cpio's "newc" format, which the kernel unpacks.
type archive struct {
	to    *bytes.Buffer
	files int
}

func (a *archive) add(name string, mode int, content []byte) {
	a.files++
	fmt.Fprintf(a.to, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.files, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	pad(a.to)
	a.to.Write(content)
	pad(a.to)
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// copySparse copies a file, but not the zeros in it, and makes it as long as
// size if that is more.
func copySparse(to, from string, size int64) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	const block = 64 << 10
	b, zeros := make([]byte, block), make([]byte, block)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, b)
		if !bytes.Equal(b[:n], zeros[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return out.Truncate(max(at, size))
		case err != nil:
			return err
		}
	}
}
