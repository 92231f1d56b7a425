package boards

// host is a phone on a desk: any Linux machine, with keys, hook, lamp and
// display that the control socket serves, and sound by whatever card PortAudio
// takes for its default.
func host() Board {
	return Board{
		Name:     "host",
		Keypads:  []Keypad{{Name: "simulated", Simulated: true}},
		Hook:     Hook{Simulated: true},
		Lamp:     Lamp{Simulated: true},
		Display:  Display{Simulated: true},
		Sound:    Sound{Mode: "handset"},
		RealTime: RealTime{Priority: soundPriority, Prompt: true},
		Port:     "eth0",
	}
}
