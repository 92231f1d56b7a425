//go:build !race

package srtp

const underRace = false
