//go:build !amd64 && !arm64 && !arm

package ccall

// static void call(void *fn, void *arg) { ((void (*)(void *))fn)(arg); }
import "C"

import "unsafe"

func call(fn, arg unsafe.Pointer, _ uintptr) { C.call(fn, arg) }
