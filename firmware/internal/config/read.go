package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Checks say, by setting, whether a value can be used that this package knows
// nothing of. They are not asked about empty values.
type Checks map[string]func(value string) error

// A Problem is a setting that cannot be used.
type Problem struct {
	Line int    // counted from 1
	Key  string // such as "board" or "audio.backend"
	Err  error
}

// Error implements error.
func (p Problem) Error() string { return fmt.Sprintf("line %d: %v", p.Line, p.Err) }

// Unwrap returns why it cannot be used.
func (p Problem) Unwrap() error { return p.Err }

// Load reads the settings at path over the defaults. The first Problem is an
// error.
func Load(path string, checks Checks) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	c, err := Parse(string(text), checks)
	if err != nil {
		return Config{}, fmt.Errorf("config: %s: %w", path, err)
	}
	return c, nil
}

// Parse reads text over the defaults. The first Problem is an error.
func Parse(text string, checks Checks) (Config, error) {
	c, problems, err := read(text, Default(), checks)
	switch {
	case err != nil:
		return Config{}, err
	case len(problems) > 0:
		return Config{}, problems[0]
	}
	return c, nil
}

// Over reads the settings at path, and takes from base what they do not name and
// what cannot be used of them: all, where there is no such file, or it is no TOML.
// What it returns can be used if base can; the error says what is wrong with the
// file.
func Over(base Config, path string, checks Checks) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return base, fmt.Errorf("config: %w", err)
	}
	c, problems, err := read(string(text), base, checks)
	if err != nil {
		return base, fmt.Errorf("config: %s: %w", path, err)
	}
	var all []error
	for _, p := range problems {
		all = append(all, fmt.Errorf("config: %s: %w", path, p))
	}
	return c, errors.Join(all...)
}

// read returns the settings of text over base, without those that have a problem.
// The error is for text that is no TOML; the problems come in the order of the
// lines.
func read(text string, base Config, checks Checks) (Config, []Problem, error) {
	d := decoder{text: strings.TrimPrefix(text, "\ufeff"), config: base}
	var raw map[string]toml.Primitive
	var err error
	if d.meta, err = toml.Decode(d.text, &raw); err != nil {
		if at, ok := errors.AsType[toml.ParseError](err); ok {
			return base, nil, fmt.Errorf("line %d: %s", at.Position.Line, strings.TrimPrefix(at.Message, "toml: "))
		}
		return base, nil, err
	}
	d.table(nil, raw, settings(&d.config))
	for _, trim := range []*string{&d.config.Board, &d.config.Keypad, &d.config.Interface, &d.config.Fallback, &d.config.Address.Link} {
		*trim = strings.TrimSpace(*trim) // no name ends in one
	}
	d.check(base, checks)
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return d.config, d.problems, nil
}

// settings returns the place of each setting in c, by its key.
func settings(c *Config) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	var add func(table reflect.Value, prefix string)
	add = func(table reflect.Value, prefix string) {
		for f, v := range table.Fields() {
			key := prefix + f.Tag.Get("toml")
			if f.Type == reflect.TypeFor[Audio]() || f.Type == reflect.TypeFor[Address]() {
				add(v, key+".")
			} else {
				all[key] = v
			}
		}
	}
	add(reflect.ValueOf(c).Elem(), "")
	return all
}

// A decoder reads one file.
type decoder struct {
	text     string
	meta     toml.MetaData
	config   Config
	problems []Problem
}

func (d *decoder) wrong(key toml.Key, err error) {
	d.problems = append(d.problems, Problem{lineOf(d.text, key), strings.Join(key, "."), err})
}

// table reads one table, and the tables in it, into the places of settings.
func (d *decoder) table(above toml.Key, raw map[string]toml.Primitive, places map[string]reflect.Value) {
	for name, value := range raw {
		key := append(slices.Clone(above), name)
		path := strings.Join(key, ".")
		place, is := places[path]
		switch {
		case is:
			if err := d.meta.PrimitiveDecode(value, place.Addr().Interface()); err != nil {
				_, what, _ := strings.Cut(err.Error(), "): ") // behind "toml: line 1 (last key …"
				d.wrong(key, fmt.Errorf("%s: %s", path, cmp.Or(what, err.Error())))
			}
		case above == nil && (name == "audio" || name == "address"):
			var inner map[string]toml.Primitive
			if err := d.meta.PrimitiveDecode(value, &inner); err != nil || d.meta.Type(name) != "Hash" {
				d.wrong(key, fmt.Errorf("%s: want a table, [%s]", name, name))
				break
			}
			d.table(key, inner, places)
		default:
			d.wrong(key, fmt.Errorf("unknown setting %q; known are %s", key, known))
		}
	}
}

const known = "board, keypad, interface, fallback_interface, storing_server, enrolment_token, only_private, tell_quality, relayed, data, control, [audio] backend, capture, playback, ringer, mode, codecs, side_tone, volume, [address] source, link, prefix, router, dns, conflict, link_local, only_ipv6, resolv_conf, vlan"

// A rule is what makes settings wrong.
type rule struct {
	keys []string // taken from elsewhere when they are; the first is named
	err  error
}

// check gives back to base what cannot be used, until all can.
func (d *decoder) check(base Config, checks Checks) {
	for range len(settings(&base)) + 1 { // each turn gives back one more
		r, ok := d.config.wrong(checks)
		if !ok {
			return
		}
		d.wrong(strings.Split(r.keys[0], "."), r.err)
		have, other := settings(&d.config), settings(&base)
		for _, key := range r.keys {
			have[key].Set(other[key])
		}
	}
}

// wrong returns the first rule that c breaks.
func (c Config) wrong(checks Checks) (rule, bool) {
	values := settings(&c)
	for _, key := range slices.Sorted(maps.Keys(checks)) {
		if text := values[key].String(); text != "" {
			if err := checks[key](text); err != nil {
				return rule{[]string{key}, fmt.Errorf("%s = %q: %w", key, text, err)}, true
			}
		}
	}
	for _, key := range []string{"interface", "fallback_interface", "address.link"} {
		if text := values[key].String(); text != "" && !isInterface(text) {
			return rule{[]string{key}, fmt.Errorf("%s = %q: want the name of a network interface, such as those that `ip link` lists", key, text)}, true
		}
	}
	if c.Relayed != "anybody" && c.Relayed != "known" {
		return rule{[]string{"relayed"}, fmt.Errorf(`relayed = %q: want "anybody" or "known"`, c.Relayed)}, true
	}
	a := c.Address
	one := func(err error, keys ...string) (rule, bool) { return rule{keys, err}, true }
	switch {
	case !slices.Contains([]string{"", "portaudio", "wav"}, c.Audio.Backend):
		return one(fmt.Errorf(`[audio] backend = %q: want "portaudio" or "wav"`, c.Audio.Backend), "audio.backend")
	case !slices.Contains([]string{"", "handset", "hands-free", "off"}, c.Audio.Mode):
		return one(fmt.Errorf(`[audio] mode = %q: want "handset", "hands-free" or "off"`, c.Audio.Mode), "audio.mode")
	case c.Audio.Volume < 0 || c.Audio.Volume > 10:
		return one(fmt.Errorf("[audio] volume = %d: want 0 to 10", c.Audio.Volume), "audio.volume")
	case !slices.Contains([]string{"dhcp", "watch", "static"}, a.Source):
		return one(fmt.Errorf(`[address] source = %q: want "dhcp", "watch" or "static"`, a.Source), "address.source")
	case a.Source == "static" && !a.Prefix.IsValid():
		return one(errors.New(`[address] source = "static" wants prefix, such as "192.0.2.9/24"`), "address.source", "address.prefix", "address.router", "address.dns")
	case a.Source != "static" && (a.Prefix.IsValid() || a.Router.IsValid() || a.DNS != nil):
		return one(errors.New(`[address] prefix, router and dns go with source = "static" only`), "address.prefix", "address.router", "address.dns", "address.source")
	case a.Source != "watch" && a.Link != "":
		return one(errors.New(`[address] link goes with source = "watch" only`), "address.link", "address.source")
	case a.Conflict != "fast" && a.Conflict != "full":
		return one(fmt.Errorf(`[address] conflict = %q: want "fast" or "full"`, a.Conflict), "address.conflict")
	case a.LinkLocal && a.OnlyIPv6:
		return one(errors.New("[address] link_local and only_ipv6: one gives what the other does without"), "address.only_ipv6", "address.link_local")
	case !a.vlanValid():
		return one(fmt.Errorf(`[address] vlan = %q: want "auto", or a number from "1" to "4094"`, a.VLAN), "address.vlan")
	case c.Fallback != "" && c.Fallback == c.Interface:
		return one(fmt.Errorf("fallback_interface = %q: want another than interface", c.Fallback), "fallback_interface", "interface")
	case c.Data == "":
		return one(errors.New("data: want a folder"), "data")
	case c.Control == "" || len(c.Control) > maxSocket:
		return one(fmt.Errorf("control = %q: want the path of a socket, at most %d bytes", c.Control, maxSocket), "control")
	}
	return rule{}, false
}

// maxSocket bounds the path of a UNIX socket, in bytes (unix(7): sun_path).
const maxSocket = 107

// isInterface reports whether the kernel could have an interface of that name
// (dev_valid_name in net/core/dev.c).
func isInterface(name string) bool {
	return len(name) < 16 && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || r == 0 })
}

// lineOf returns the line on which key is set, counted from 1. The decoder does
// not tell it, so this looks for the last part of the key behind its table.
func lineOf(text string, key toml.Key) int {
	table, name := strings.Join(key[:len(key)-1], "."), key[len(key)-1]
	current := ""
	first := 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			current = strings.Trim(strings.SplitN(line, "#", 2)[0], "[] \t")
			if current == strings.Join(key, ".") {
				return i + 1
			}
			continue
		}
		left, _, set := strings.Cut(line, "=")
		left = strings.ReplaceAll(strings.TrimSpace(left), " ", "")
		left = strings.Trim(left, `"'`)
		if !set {
			continue
		}
		if current == table && left == name || left == strings.Join(key, ".") {
			return i + 1
		}
		if first == 0 && strings.Contains(left, name) {
			first = i + 1
		}
	}
	return max(first, 1)
}
