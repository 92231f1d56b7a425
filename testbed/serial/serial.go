// Package serial is what the testbed and its agent inside of a virtual machine
// say to each other, over one serial line that carries many conversations.
//
// It knows the messages and how they share the line; it knows neither who
// sends them nor what becomes of them.
package serial

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"flexphone/testbed/pace"
)

// Hello is the first that the agent says on the line. What came before it, such
// as what a kernel prints, is not for the testbed. Its first byte occurs once.
const Hello = "\x06the agent is here\n"

// What the agent can be asked to do.
const (
	// Connect joins the conversation to the phone's control socket.
	Connect = "connect"
	// Press presses Keys, one after the other or as How says, by pulling GPIO lines.
	Press = "press"
	// Rest passes the time that a person in a hurry holds a key, by the machine's
	// clock: when it is over, the machine has seen what was moved before.
	Rest = "rest"
	// Hook lifts the handset if Lifted, else puts it back, by a GPIO line.
	Hook = "hook"
	// Sound begins to speak into the phone's microphone, and sends what the
	// phone plays: samples of 16 bits at Rate, as long as the conversation lasts,
	// by way of a tape (TapeWriter) if the machine has a disk for one.
	Sound = "sound"
	// Off switches the phone off, in order.
	Off = "off"
	// Signal sends the signal of that Number to the phone's program.
	Signal = "signal"
	// Save writes Settings into the phone's file of settings, as whoever sets a
	// phone up should: a new file, on the disk before it gets the name. Again,
	// it goes on doing so, with settings of another length each time.
	Save = "save"
	// Pace runs a metronome (package pace) until Enough comes as a second Request,
	// and replies how the machine kept pace.
	Pace   = "pace"
	Enough = "enough"
	// Sysctl sets the kernel's switch Name, such as net/ipv4/ip_forward, to Value.
	Sysctl = "sysctl"
)

// How keys can be pressed, beside one after the other.
const (
	Bouncing = "bouncing" // by contacts that close and open five times first
	Long     = "long"     // each for longer than a second
	Together = "together" // one more and one more, and then let go in the same order
)

// Rate is the sampling rate of all sound on the line, in Hz.
const Rate = 16000

// A Request opens a conversation.
type Request struct {
	Do     string `json:"do"`
	Keys   string `json:"keys,omitempty"`
	How    string `json:"how,omitempty"`
	Lifted bool   `json:"lifted,omitempty"`

	Number   int    `json:"number,omitempty"`
	Settings string `json:"settings,omitempty"`
	Again    bool   `json:"again,omitempty"`

	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
}

// Pressed says how well keys could be pressed.
type Pressed struct {
	// Bounced is how long the longest bounce took.
	Bounced time.Duration `json:"bounced,omitempty"`
	// Between is the longest that the phone may have waited between two keys.
	Between time.Duration `json:"between,omitempty"`
	// Late is for how long the phone may have seen contacts as they were before.
	Late time.Duration `json:"late,omitempty"`
}

// A Reply ends a conversation whose request was an order.
type Reply struct {
	Error string `json:"error,omitempty"`
	Pressed
	// Now is the machine's monotonic clock at the end of a Rest.
	Now time.Duration `json:"now,omitempty"`
	// Pace is how the machine kept pace.
	Pace pace.Report `json:"pace,omitzero"`
}

// maxMessage bounds a Request or a Reply, in bytes.
const maxMessage = 4096

// Send writes a Request or a Reply.
func Send(w io.Writer, message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("serial: send: %w", err)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("serial: send: %w", err)
	}
	return nil
}

// Receive reads a Request or a Reply. It reads no byte beyond.
func Receive(r io.Reader, message any) error {
	line, err := readLine(r)
	if err != nil {
		return fmt.Errorf("serial: receive: %w", err)
	}
	if err := json.Unmarshal(line, message); err != nil {
		return fmt.Errorf("serial: receive: %w", err)
	}
	return nil
}

func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	var one [1]byte
	for len(line) < maxMessage {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		line = append(line, one[0])
	}
	return nil, errors.New("a message without an end")
}

// AwaitHello reads until the agent has said Hello.
func AwaitHello(r *bufio.Reader) error {
	seen := 0
	for seen < len(Hello) {
		b, err := r.ReadByte()
		if err != nil {
			return fmt.Errorf("serial: wait for the agent: %w", err)
		}
		switch {
		case b == Hello[seen]:
			seen++
		case b == Hello[0]:
			seen = 1
		default:
			seen = 0
		}
	}
	return nil
}
