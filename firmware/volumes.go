package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"flexphone/audio/echo"
	"flexphone/internal/durable"
)

// settled is how long a volume stays as it is before it is written: who turns it
// presses several times, and flash wears.
const settled = 3 * time.Second

// volumes are those of a desk, which last in a file: who has turned the ringer down wants
// it so after a power cut. Mute does not last.
type volumes struct {
	path  string
	desk  *echo.Desk
	dirty chan struct{} // one slot: something is not on the disk
	read  bool          // belongs to keep
}

func newVolumes(path string, desk *echo.Desk) *volumes {
	return &volumes{path: path, desk: desk, dirty: make(chan struct{}, 1)}
}

// set sets the volume of an output for good.
func (v *volumes) set(o echo.Output, to int) {
	v.desk.SetVolume(o, to)
	v.changed()
}

func (v *volumes) changed() {
	select {
	case v.dirty <- struct{}{}:
	default:
	}
}

// all are the volumes by their outputs' names.
func (v *volumes) all() map[string]int {
	all := map[string]int{}
	for name, o := range echo.Outputs() {
		all[name] = v.desk.Volume(o)
	}
	return all
}

// loud is the volume of an output as the display says it.
func (v *volumes) loud(o echo.Output) string {
	if now := v.desk.Volume(o); now > 0 || o != echo.Ringer {
		return fmt.Sprintf("%v %d of %d", o, now, echo.MaxVolume)
	}
	return "ringer off"
}

// keep reads the file once, and writes it when something has changed and settled, until
// ctx is done or the disk fails. Called again it goes on where it has failed.
func (v *volumes) keep(ctx context.Context, works func()) error {
	if !v.read {
		v.read = true
		if err := v.load(); err != nil {
			return err
		}
	}
	works()
	for {
		select {
		case <-v.dirty:
		case <-ctx.Done():
			return ctx.Err()
		}
		t := time.NewTimer(settled)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		select {
		case <-v.dirty: // written with the rest
		default:
		}
		if err := v.write(); err != nil {
			v.changed()
			return fmt.Errorf("flexphone: keep volumes: %w; they last until the phone is switched off", err)
		}
	}
}

func (v *volumes) write() error {
	text, err := json.Marshal(v.all())
	if err != nil {
		return err
	}
	return durable.WriteFile(v.path, append(text, '\n'), 0o600)
}

// load sets what the file says. One that cannot be understood is replaced by the next
// that is written.
func (v *volumes) load() error {
	text, err := os.ReadFile(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var said map[string]int
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		return fmt.Errorf("flexphone: read volumes: %w; they are those of the settings", err)
	}
	for name, o := range echo.Outputs() {
		if to, ok := said[name]; ok {
			v.desk.SetVolume(o, to)
		}
	}
	return nil
}
