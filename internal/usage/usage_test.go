package usage

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// A child's figures count, and so do one's own.
func TestOf(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if family := Family(os.Getpid()); !slices.Contains(family, child.Process.Pid) || family[0] != os.Getpid() {
		t.Errorf("Family() = %v; want this process first, and %d", family, child.Process.Pid)
	}
	for begun := OwnCPU(); OwnCPU()-begun < 3*clockTick; {
	}
	with := Of(os.Getpid())
	alone := Of(child.Process.Pid)
	if with.CPU < 2*clockTick || with.Anonymous <= alone.Anonymous {
		t.Errorf("Of(this process) = %+v, Of(its child) = %+v; want more of the first", with, alone)
	}
	if all, one := Proportional(os.Getpid()), Proportional(child.Process.Pid); one <= 0 || all <= one {
		t.Errorf("Proportional(this process) = %d, of its child %d; want more of the first", all, one)
	}
	if all, part := Resident(os.Getpid()), Proportional(os.Getpid()); all < part {
		t.Errorf("Resident(this process) = %d; want no less than Proportional, %d", all, part)
	}
	if alone.Anonymous <= 0 || alone.CPU > time.Minute {
		t.Errorf("Of(a program that sleeps) = %+v", alone)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	if gone := Of(child.Process.Pid); gone != (Usage{}) {
		t.Errorf("Of(who has ended) = %+v; want nothing", gone)
	}
}
