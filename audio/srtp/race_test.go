//go:build race

package srtp

// underRace: the race detector makes sync.Pool, in which pion/srtp keeps its
// buffers for AES in counter mode, forget at random.
const underRace = true
