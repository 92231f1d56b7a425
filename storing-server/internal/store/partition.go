package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"flexphone/registry-client/wire"
)

// partitionsKey is in the metadata of each stream: how many there are.
const partitionsKey = "flexphone-partitions"

// maxPartitions bounds --partitions: each is a consensus group of its own.
const maxPartitions = 256

// ErrPartitions: the rows were divided in another way when they were made.
var ErrPartitions = errors.New("the number of partitions is fixed when the rows are made")

// partition returns which of n partitions key is in: FNV-1a, so that every
// server says the same for ever.
func partition(key []byte, n int) int {
	h := fnv.New32a()
	h.Write(key) // never fails
	return int(h.Sum32() % uint32(n))
}

// rowPart and numberPart say where a row and a number are. A number that is
// given out is one of its row's partition (see pick), so that both are written
// by one atomic batch.
func rowPart(mac wire.MAC, n int) int     { return partition(mac[:], n) }
func numberPart(digits string, n int) int { return partition([]byte(digits), n) }

// notePart is the row's, for notes that are by MAC.
func notePart(k noteKey, n int) int { return partition([]byte(k.key), n) }

func partName(part, n int) string {
	if n == 1 {
		return streamName
	}
	return streamName + "-" + strconv.Itoa(part)
}

// partRoot begins the subjects of a partition.
func partRoot(part, n int) string {
	if n == 1 {
		return subjectRoot
	}
	return subjectRoot + "p" + strconv.Itoa(part) + "."
}

// inPart returns subject as it is in partition part.
func (s *stream) inPart(part int, subject string) string {
	return partRoot(part, len(s.parts)) + strings.TrimPrefix(subject, subjectRoot)
}

// bare undoes inPart.
func (s *stream) bare(part int, subject string) string {
	return subjectRoot + strings.TrimPrefix(subject, partRoot(part, len(s.parts)))
}

// openParts opens the streams, and makes them when there are none.
func (s *stream) openParts(ctx context.Context, p place) error {
	n, err := s.countParts(ctx, p.partitions)
	if err != nil {
		return err
	}
	s.parts = make([]jetstream.Stream, n)
	for i := range s.parts {
		s.parts[i], err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: partName(i, n), Subjects: []string{partRoot(i, n) + ">"}, Replicas: max(1, p.replicas),
			Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			// Duplicates are found by places here. JetStream reads what came in this
			// window once more when it starts; 100 ms is the shortest.
			Duplicates:        100 * time.Millisecond,
			MaxMsgsPerSubject: 1, AllowDirect: true, AllowAtomicPublish: true, AllowMsgTTL: true,
			Metadata: map[string]string{partitionsKey: strconv.Itoa(n)},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countParts returns how many partitions there are, or are to be: as many as
// were asked for, which zero leaves open. It refuses to open what was made with
// another number.
func (s *stream) countParts(ctx context.Context, asked int) (int, error) {
	if asked < 0 || asked > maxPartitions {
		return 0, fmt.Errorf("%d partitions, want 1 to %d", asked, maxPartitions)
	}
	for _, name := range []string{partName(0, 1), partName(0, 2)} {
		have, err := s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		made := 1 // as it was before there were more
		if text := have.CachedInfo().Config.Metadata[partitionsKey]; text != "" {
			if made, err = strconv.Atoi(text); err != nil || made < 1 || made > maxPartitions {
				return 0, fmt.Errorf("stream %s says that there are %q partitions", name, text)
			}
		}
		if asked != 0 && asked != made {
			return 0, fmt.Errorf("made with --partitions %d, asked for %d: %w", made, asked, ErrPartitions)
		}
		return made, nil
	}
	return max(1, asked), nil
}

// touch notes that the running operation depends on a partition.
func (v *view) touch(part int) {
	if !slices.Contains(v.touched, part) {
		v.touched = append(v.touched, part)
	}
}

// messages returns v's changes as the streams take them, by partition. What
// late has is written after early: a number or a token is taken before the row
// that it is taken for, when that is in another partition. With one partition,
// all is late, and so one atomic batch.
func (v *view) messages() (early, late [][]message) {
	early, late = make([][]message, v.parts), make([][]message, v.parts)
	if v.parts == 1 {
		late[0] = make([]message, 0, v.size())
	}
	for mac, c := range v.rows {
		part := rowPart(mac, v.parts)
		late[part] = append(late[part], message{subject: rowSubject(mac), base: c.base, row: c.to})
	}
	for digits, c := range v.numbers {
		part, round := numberPart(digits, v.parts), late
		if c.to != (wire.MAC{}) && rowPart(c.to, v.parts) != part {
			round = early
		}
		round[part] = append(round[part], message{subject: numberSubject(digits), base: c.base, data: encodeHolder(c.to, c.rests)})
	}
	for k, c := range v.notes {
		part, round := notePart(k, v.parts), late
		if k.kind == tokenNote && v.parts > 1 {
			round = early
		}
		round[part] = append(round[part], message{subject: k.subject(), base: c.base, data: c.to})
	}
	return early, late
}

// commitRound commits one batch in each partition, at the same time, and
// leaves in f what was placed and what failed.
func (s *Store) commitRound(ctx context.Context, round [][]message, f *flight) {
	var mu sync.Mutex
	one := func(part int) {
		tail := perSubject
		if s.opts.NATS == "" {
			tail = s.tails[part]
		}
		first, err := s.engine.commit(ctx, part, round[part], tail)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			f.failed[part] = err
			return
		}
		f.placed = append(f.placed, placement{part, round[part], first})
		s.tails[part] = first + uint64(len(round[part])) - 1
	}
	var all sync.WaitGroup
	for part, ms := range round {
		switch {
		case len(ms) == 0:
		case len(round) == 1:
			one(part)
		default:
			all.Go(func() { one(part) })
		}
	}
	all.Wait()
}

// place puts messages that are on the disk into the table, as apply.
func (t *table) place(touched []wire.Query, ms []message, first uint64) []wire.Query {
	for i, m := range ms {
		seq := first + uint64(i)
		if m.row != nil {
			touched = t.putRow(touched, m.row.MAC, m.row, seq)
			continue
		}
		touched, _ = t.apply(touched, m.subject, m.data, seq) // our own messages are well-formed
	}
	return touched
}

// fate returns what became of op.
func (s *Store) fate(op *operation, failed []error, err error) error {
	none := true
	for _, part := range op.parts {
		if failed[part] != nil {
			return failed[part]
		}
	}
	for _, f := range failed {
		none = none && f == nil
	}
	if err != nil && (none || len(op.parts) > 1) {
		return err // before anything was written, or between the rounds
	}
	return nil
}

// passes reports whether an operation may be planned again after err: somebody
// else was first, or a node of the cluster was lost.
func (s *Store) passes(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, errConflict) || s.opts.NATS != "" && errors.Is(err, errUnsure) && !errors.As(err, &refused)
}

// learn brings the table back to what the streams hold, after batches whose
// fate is not known. Nothing else is written before that has succeeded.
func (s *Store) learn(ctx context.Context, f *flight) (touched []wire.Query) {
	retry := func(what string, read func() error) {
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			err := read()
			if err == nil || ctx.Err() != nil {
				return
			}
			s.opts.Log.Warn("rows not read again", "what", what, "retry", wait, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
	take := func(subject string, data []byte, seq uint64) (err error) {
		touched, err = s.table.apply(touched, subject, data, seq)
		return err
	}
	for part, failed := range f.failed {
		if failed == nil {
			continue
		}
		if s.opts.NATS == "" {
			// All that came after what the table holds: a batch that was given up
			// may have landed late.
			retry(partName(part, s.engine.partitions()), func() error {
				return s.engine.replay(ctx, part, s.tails[part], false, func(subject string, data []byte, seq uint64) error {
					s.tails[part] = max(s.tails[part], seq)
					return take(subject, data, seq)
				}, func() {})
			})
			continue
		}
		for _, m := range slices.Concat(f.early[part], f.late[part]) {
			retry(m.subject, func() error {
				data, seq, found, err := s.engine.read(ctx, part, m.subject)
				if err == nil && found {
					err = take(m.subject, data, seq)
				}
				return err
			})
		}
	}
	return touched
}

// follow reads one partition into the table and calls ready once, with nil when
// the table holds what the stream held at the beginning. Against a cluster it
// goes on until ctx is done, over all of the cluster's failures.
func (s *Store) follow(ctx context.Context, part int, ready func(error)) {
	cluster := s.opts.NATS != ""
	var seen uint64
	loading := true
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := s.engine.replay(ctx, part, seen, cluster, func(subject string, data []byte, seq uint64) error {
			touched, err := s.table.apply(nil, subject, data, seq)
			if err == nil {
				seen, wait = seq, 50*time.Millisecond
				if !loading {
					s.tell(touched)
				}
			}
			return err
		}, func() {
			if loading {
				loading = false
				ready(nil)
			}
		})
		if loading && (err == nil || !cluster || ctx.Err() != nil) {
			ready(err)
		}
		if !cluster || ctx.Err() != nil {
			return
		}
		s.opts.Log.Warn("rows of others not followed", "partition", part, "retry", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			if loading {
				ready(ctx.Err())
			}
			return
		}
	}
}

// Numbers that servers of a cluster give out at the same time should seldom be
// the same: each takes one by chance, of so many times as many as are taken.
const (
	spreadTimes = 4
	spreadLeast = 1000
	spreadTries = 10000
)

// pick returns a number of n that nobody has for mac, of mac's partition, and
// none when there is hardly one left.
func (v *view) pick(n Numbers, mac wire.MAC) string {
	part := rowPart(mac, v.parts)
	most := max(spreadLeast, spreadTimes*v.parts*(v.table.size()+len(v.rows)))
	for try := range spreadTries {
		if try%100 == 99 {
			most *= 2
		}
		d := strconv.Itoa(n.First + rand.IntN(min(most, n.Last-n.First+1)))
		if numberPart(d, v.parts) == part && v.idle(d) {
			return d
		}
	}
	return ""
}
