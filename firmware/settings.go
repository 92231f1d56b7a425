package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"flexphone/boards"
	"flexphone/firmware/internal/config"
	"flexphone/firmware/internal/finder"
)

// checks are what config knows nothing of.
func checks() config.Checks {
	return config.Checks{
		"board": func(name string) error {
			_, err := boards.Named(name)
			return err
		},
		"audio.codecs": func(text string) error {
			_, err := preferred(text)
			return err
		},
		"storing_server": func(text string) error {
			_, err := finder.Parse(text)
			return err
		},
	}
}

// settingsOf returns the settings at path, and the board. With a fallback (not
// empty) there always are some; wrong is then what is wrong with those that were
// asked for. Without one, what is wrong is all.
func settingsOf(path, fallback string) (settings config.Config, board boards.Board, wrong error) {
	settings = config.Default()
	switch {
	case fallback != "":
		base, unusable := config.Over(config.Default(), fallback, checks())
		settings = base
		if path != "" {
			settings, wrong = config.Over(base, path, checks())
		}
		if wrong != nil { // else nobody needs it
			wrong = errors.Join(wrong, unusable)
		}
	case path != "":
		if settings, wrong = config.Load(path, checks()); wrong != nil {
			return settings, board, wrong
		}
	}
	board, err := findBoard(settings.Board)
	if err != nil {
		wrong = errors.Join(wrong, err)
		board = boards.Board{Name: "unknown", Port: "eth0"} // it has no part; it can still be reached
	}
	settings.Interface = cmp.Or(settings.Interface, board.Port)
	if settings.Address.ResolvConf == nil { // a machine that is more than a phone has its own
		ours := board.Image.Kernel != ""
		settings.Address.ResolvConf = &ours
	}
	return settings, board, wrong
}

// findBoard returns the named board, or the one that the device tree says this
// machine is.
func findBoard(name string) (boards.Board, error) {
	if name != "" {
		return boards.Named(name)
	}
	tree, err := os.ReadFile("/proc/device-tree/compatible")
	if err != nil {
		return boards.Board{}, fmt.Errorf("flexphone: this machine does not say which board it is: %w; set `board`, on a PC to \"host\"", err)
	}
	return boards.Find(string(tree))
}
