package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"flexphone/testbed"
)

// stayUp keeps the phones running, does what is typed, and shows what happens,
// until an empty line is, or ctx is done.
func (t *teller) stayUp(ctx context.Context, in io.Reader) {
	binary := filepath.Join("build", "host", "flexphone")
	fmt.Fprint(t.out, `
The phones stay up. Type what their users do:
  101 off      lifts the handset of 101; 101 on puts it back
  101 102#     presses keys there
Or in another terminal, from this folder:
`)
	for _, p := range []*testbed.Phone{t.one, t.two} {
		fmt.Fprintf(t.out, "  %s ctl --control %s status\n", binary, p.Control())
	}
	fmt.Fprintf(t.out, "and in place of status: dial 101, answer, hangup, events.\n")
	fmt.Fprintf(t.out, "What a phone plays is recorded in %s. Enter alone, or Ctrl-C, ends everything.\n\n", t.one.Heard)
	happens := make(chan string)
	tell := func(line string) bool {
		select {
		case happens <- line:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for _, p := range []*testbed.Phone{t.one, t.two} {
		go func() { // ends with ctx
			p.Mark()
			for {
				e, err := p.Await(ctx, "")
				if err != nil || !tell(p.Name+" "+e.String()) {
					return
				}
			}
		}()
	}
	enough := make(chan struct{})
	go func() { // ends with the program: nothing ends the reading of a terminal
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if strings.TrimSpace(lines.Text()) == "" {
				close(enough)
				return
			}
			if err := t.act(ctx, lines.Text()); err != nil && !tell(err.Error()) {
				return
			}
		}
	}()
	for {
		select {
		case line := <-happens:
			fmt.Fprintln(t.out, line)
		case <-enough:
			return
		case <-ctx.Done():
			fmt.Fprintln(t.out)
			return
		}
	}
}

// act does what a line says that a user does.
func (t *teller) act(ctx context.Context, line string) error {
	who, what, _ := strings.Cut(strings.TrimSpace(line), " ")
	p := map[string]*testbed.Phone{"101": t.one, "102": t.two}[who]
	switch {
	case p == nil || what == "":
		return fmt.Errorf("%q? Type 101 or 102, and then off, on, or keys such as 102#", line)
	case what == "off":
		return p.OffHook(ctx)
	case what == "on":
		return p.OnHook(ctx)
	}
	return p.Press(ctx, what)
}
