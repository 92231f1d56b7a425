package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// forPrograms reports whether a list is printed as JSON: when that is asked
// for, and when nobody sees it, since w is no terminal.
func forPrograms(asked bool, w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || asked {
		return true
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err != nil
}
