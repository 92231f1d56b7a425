package gpio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"flexphone/hal"
)

// settle is how long the columns take to follow a row: an internal pull-up of
// 100 kOhm charges 100 pF of cable to nine tenths in 23 us.
const settle = 50 * time.Microsecond

// unread is how many events of a matrix wait for ReadKey. When more come, the
// matrix is not looked at until one is read.
const unread = 64

// A Matrix is a hal.Keypad of keys that join rows to columns. While no key is
// down it waits for an edge, and the processor may sleep.
type Matrix struct {
	rows, cols lines
	keys       [][]hal.Key // by row and column; 0 where there is none
	settle     func()      // returns once the columns have followed a row
	scanner    scanner     // the goroutine's

	events chan hal.KeyEvent
	stop   context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
	err    error         // why, once done is closed

	closing sync.Once
}

var _ hal.Keypad = (*Matrix)(nil)

// MatrixConfig wires keys as rows and columns. A pressed key joins its row to
// its column; neither needs a resistor if the columns' chip has pull-ups.
type MatrixConfig struct {
	Rows []Line // all on one chip
	Cols []Line // all on one chip
	// Keys has one string a row and one character a column, a blank where
	// there is no key.
	Keys     []string
	Debounce time.Duration // 0: the package's Debounce
	Settle   time.Duration // from driving a row to reading the columns; 0: 50 us
	// PushPull drives the rows that are not selected high, which only keys
	// with a diode each endure.
	PushPull bool

	settled func() // in place of Settle, for tests whose columns follow by a program
}

// OpenMatrix requests the lines and watches them until Close, or until ctx is
// done.
func OpenMatrix(ctx context.Context, c MatrixConfig) (*Matrix, error) {
	keys, err := c.layout()
	if err != nil {
		return nil, fmt.Errorf("gpio: open matrix: %w", err)
	}
	cols, err := requestInputs(c.Cols, input{activeLow: true, bias: PullUp})
	if err != nil {
		return nil, err
	}
	var flags uint64 = flagActiveLow
	if !c.PushPull {
		flags |= flagOpenDrain
	}
	rows, err := requestOutputs(c.Rows, flags)
	if err != nil {
		cols.Close()
		return nil, err
	}
	settled := c.settled
	if settled == nil {
		settled = pause(cmp.Or(c.Settle, settle))
	}
	return newMatrix(ctx, rows, cols, keys, orDefault(c.Debounce), settled), nil
}

func pause(d time.Duration) func() { return func() { time.Sleep(d) } }

func (c MatrixConfig) layout() ([][]hal.Key, error) {
	if len(c.Rows)*len(c.Cols) > 64 {
		return nil, fmt.Errorf("%d rows of %d keys are more than 64 keys", len(c.Rows), len(c.Cols))
	}
	if len(c.Keys) != len(c.Rows) {
		return nil, fmt.Errorf("%d rows of keys, but %d row lines", len(c.Keys), len(c.Rows))
	}
	var keys [][]hal.Key
	for i, s := range c.Keys {
		if n := utf8.RuneCountInString(s); n != len(c.Cols) {
			return nil, fmt.Errorf("row %d has %d keys, but there are %d column lines", i, n, len(c.Cols))
		}
		var row []hal.Key
		for _, r := range s {
			if r == ' ' {
				r = 0
			}
			row = append(row, hal.Key(r))
		}
		keys = append(keys, row)
	}
	return keys, nil
}

func newMatrix(ctx context.Context, rows, cols lines, keys [][]hal.Key, debounce time.Duration, settled func()) *Matrix {
	ctx, stop := context.WithCancel(ctx)
	m := &Matrix{
		rows: rows, cols: cols, keys: keys, settle: settled,
		scanner: scanner{cols: len(keys[0]), debounce: debounce},
		events:  make(chan hal.KeyEvent, unread),
		stop:    stop, done: make(chan struct{}),
	}
	go func() {
		defer close(m.done)
		m.err = m.watch(ctx)
	}()
	return m
}

// ReadKey returns the next move of a key. Its time is that of the first look at
// the matrix that showed it.
func (m *Matrix) ReadKey(ctx context.Context) (hal.KeyEvent, error) {
	if err := ctx.Err(); err != nil {
		return hal.KeyEvent{}, err
	}
	select {
	case <-ctx.Done():
		return hal.KeyEvent{}, ctx.Err()
	case e := <-m.events:
		return e, nil
	case <-m.done:
		return hal.KeyEvent{}, fmt.Errorf("gpio: read matrix: %w", m.err)
	}
}

// Close ends the watching and gives the lines back.
func (m *Matrix) Close() error {
	err := os.ErrClosed
	m.closing.Do(func() {
		m.stop()
		<-m.done
		err = errors.Join(m.rows.Close(), m.cols.Close())
	})
	return err
}

// watch looks at the matrix for as long as a key is down, then waits for an
// edge, until ctx is done.
func (m *Matrix) watch(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return os.ErrClosed
		case <-again.C:
		}
		matrix, err := m.look()
		if err != nil {
			return err
		}
		moves, next := m.scanner.step(time.Now(), matrix)
		for _, mv := range moves {
			if !m.tell(ctx, mv) {
				return os.ErrClosed
			}
		}
		if next == 0 {
			if err := m.idle(ctx); err != nil {
				return err
			}
		}
		again.Reset(next)
	}
}

// look drives one row after the other and reads the columns.
func (m *Matrix) look() (matrix uint64, err error) {
	for r := range m.keys {
		if err := m.rows.set(1 << r); err != nil {
			return 0, err
		}
		m.settle()
		cols, err := m.cols.values()
		if err != nil {
			return 0, err
		}
		matrix |= cols << (r * m.scanner.cols)
	}
	return matrix, nil
}

// idle drives all rows and blocks until a column is active.
func (m *Matrix) idle(ctx context.Context) error {
	if err := m.rows.set(1<<len(m.keys) - 1); err != nil {
		return err
	}
	m.settle()
	// Edges that came of driving the rows are forgotten. A key that went down
	// since the last look shows in the columns; one that goes down from now on
	// leaves an edge.
	if _, err := m.cols.drain(); err != nil {
		return err
	}
	if cols, err := m.cols.values(); cols != 0 || err != nil {
		return err
	}
	_, _, err := m.cols.edges(ctx, make([]edge, 1))
	if ctx.Err() != nil {
		return os.ErrClosed
	}
	return err
}

// tell passes a move on, unless ctx is done before there is room for it.
func (m *Matrix) tell(ctx context.Context, mv move) bool {
	key := m.keys[mv.key/m.scanner.cols][mv.key%m.scanner.cols]
	if key == 0 {
		return true
	}
	e := hal.KeyEvent{Key: key, Motion: hal.Up, At: mv.at}
	if mv.down {
		e.Motion = hal.Down
	}
	select {
	case m.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}
