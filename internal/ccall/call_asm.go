//go:build amd64 || arm64 || arm

package ccall

import "unsafe"

// call calls fn with its stack's end at top, which is a multiple of 16.
//
//go:noescape
func call(fn, arg unsafe.Pointer, top uintptr)
