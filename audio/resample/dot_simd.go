//go:build amd64 || arm64

package resample

// dot is the sum of products of as many numbers as a has, a multiple of four; b has no
// fewer.
//
//go:noescape
func dot(a, b []float32) float32
