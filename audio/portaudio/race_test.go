//go:build race

package portaudio

const raceDetector = true
