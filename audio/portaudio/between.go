package portaudio

import "flexphone/audio/resample"

// odd is a rate that some cards have alone, and instead what the engine has then.
const (
	odd     = 44100
	instead = 48000
)

// between changes a tick's rate on the way to and from a card of the odd one.
type between struct {
	up, down         *resample.Ratio
	played, captured []int16
}

func newBetween() *between {
	return &between{
		up: resample.NewRatio(odd, instead), down: resample.NewRatio(instead, odd),
		played: make([]int16, odd/ticksPerSecond), captured: make([]int16, odd/ticksPerSecond),
	}
}

// play returns a tick as the card has it.
func (b *between) play(tick []int16) []int16 {
	b.down.Process(b.played, tick)
	return b.played
}
