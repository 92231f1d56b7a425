package sip

import (
	"net/netip"
	"sync"

	gosip "github.com/emiago/sipgo/sip"
)

// streamTracer is told by sipgo of what it writes; packets and the screen tell of
// the rest themselves.
type streamTracer func(sent bool, with netip.AddrPort, message []byte)

// SIPTraceRead implements gosip.SIPTracer.
func (streamTracer) SIPTraceRead(string, string, string, []byte) {}

// SIPTraceWrite implements gosip.SIPTracer. TLS is a stream as well to it.
func (t streamTracer) SIPTraceWrite(transport, _, to string, message []byte) {
	if transport == "TCP" {
		t(true, sourceOf(to), message)
	}
}

var tracing sync.Once

// traceStreams has sipgo tell trace what it writes on streams. Its switch for that
// is one of the process, and may not be moved while it works.
func traceStreams(trace func(sent bool, with netip.AddrPort, message []byte)) {
	tracing.Do(func() {
		gosip.SIPDebugTracer(streamTracer(trace))
		gosip.SIPDebug = true
	})
}
