package testbed

import (
	"fmt"
	"net/netip"
	"testing"
)

// The address of one phone after the other changes, fifty times, in the same subnet and
// into another one. After each change it is called by its number. Half of it happens in
// another town, beside the first; these two begin before most others, since they are long.
func TestMovesAndACallAfterEach(t *testing.T)     { moveAndCall(t, 0) }
func TestMoreMovesAndACallAfterEach(t *testing.T) { moveAndCall(t, 1) }

// moveAndCall makes half of the moves: the first or the second.
func moveAndCall(t *testing.T, which int) {
	moves := 25
	if board() != hostBoard {
		moves = 5 // all kinds of them are among the ten of both
	}
	ctx, bed, phones := town(t, Config{}, 2)
	must(t, bed.ISP.ChangePool(ctx, East, West))
	for i := which * moves; i < (which+1)*moves; i++ {
		mover, other := phones[i%2], phones[1-i%2]
		pool := East
		if i%4 > 1 {
			pool = West
		}
		to := pool.Address(50 + i%40)
		if to == leased(mover) { // by chance: it would be renewed
			to = pool.Address(90 + i%10)
		}
		move(ctx, t, bed, mover, to)
		number := fmt.Sprint(101 + i%2)
		if i%5 == 4 {
			number = mover.MAC.Digits()
		}
		callWithSound(ctx, t, other, mover, number, to)
	}
}

// leased is the address that p has been leased last.
func leased(p *Phone) (at netip.Addr) {
	for _, e := range p.Events() {
		if e.Name == "lease.bound" {
			at = e.Addr()
		}
	}
	return at
}
