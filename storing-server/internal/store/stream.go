package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"flexphone/registry-client/wire"
)

const (
	streamName   = "FLEXPHONE"
	subjectRoot  = "flexphone."
	keptLinks    = subjectRoot + "links."  // which servers of before shared there, and the stream has kept the last of
	rowPrefix    = subjectRoot + "row."    // and 12 hexadecimal digits
	numberPrefix = subjectRoot + "number." // and the digits
	// batchOwn is how many messages the server in this process takes in one
	// atomic batch, and batchMost how many of them are used where it may be
	// another: those take 1000 by default.
	batchOwn  = 4000
	batchMost = 900
	// commitTimeout bounds the wait for this process's own disk, and
	// clusterTimeout that for a cluster, which may have lost the batch with one
	// of its nodes: then it is found out what became of it, and it is tried
	// again.
	commitTimeout  = 10 * time.Second
	clusterTimeout = 1500 * time.Millisecond
	// electionMost is for how long a start waits for a cluster that has lost its
	// leader, and chooses another within some ten seconds.
	electionMost = 1 * time.Minute
)

// codeWrongLast is JetStream's error for a row that somebody else has changed.
const codeWrongLast = 10071

var (
	errConflict = errors.New("store: somebody else changed the rows")
	// errUnsure: no answer came.
	errUnsure = errors.New("store: it is not known what became of it")
)

// A stream is the engine of a cluster: JetStream streams that keep the newest
// message of each subject. There is one for each partition; a row and a number
// are always in the same one. One in this process kept the rows of a single
// server before the journal did, and reads them when they move there.
type stream struct {
	embedded *server.Server // nil: a cluster
	conn     *nats.Conn
	js       jetstream.JetStream
	parts    []jetstream.Stream
	patience time.Duration // for the answer to a batch
}

// A place is where the streams are.
type place struct {
	dir        string // of the files of a NATS server in this process
	url        string // of a cluster; empty: in this process
	replicas   int    // in a cluster; 0: 1
	partitions int    // 0: 1
	unsynced   bool   // acknowledge before it is on the disk
}

// openStream starts a NATS server in this process, with its files in p.dir, or
// joins the cluster at p.url. An embedded one listens nowhere, and syncs its
// files before it acknowledges a batch.
func openStream(ctx context.Context, p place, log *slog.Logger) (*stream, error) {
	s := &stream{patience: clusterTimeout}
	if p.url == "" {
		s.patience = commitTimeout
		ns, err := server.NewServer(&server.Options{
			ServerName: "flexphone", DontListen: true,
			JetStream: true, StoreDir: p.dir, SyncAlways: !p.unsynced,
			JetStreamLimits: server.JSLimitOpts{MaxBatchSize: batchOwn},
			NoLog:           false, NoSigs: true,
		})
		if err != nil {
			return nil, fmt.Errorf("store: make NATS server: %w", err)
		}
		logger := &natsLog{log}
		ns.SetLoggerV2(logger, false, false, false)
		s.embedded = ns
		ns.Start()
		if !ns.ReadyForConnections(30 * time.Second) {
			s.close()
			return nil, fmt.Errorf("store: start NATS server in %s: not ready after 30 s", p.dir)
		}
	}
	opts := []nats.Option{
		nats.Name("storing-server"), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
	}
	if s.embedded != nil {
		opts = append(opts, nats.InProcessServer(s.embedded))
	}
	var err error
	if s.conn, err = nats.Connect(p.url, opts...); err != nil {
		s.close()
		return nil, fmt.Errorf("store: connect to NATS: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		s.close()
		return nil, fmt.Errorf("store: use JetStream: %w", err)
	}
	if err := s.awaitParts(ctx, p, log); err != nil {
		s.close()
		return nil, fmt.Errorf("store: open stream: %w", err)
	}
	return s, nil
}

func (s *stream) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.embedded != nil {
		s.embedded.Shutdown()
		s.embedded.WaitForShutdown()
	}
}

// awaitParts opens the streams, of a cluster once that has a leader.
func (s *stream) awaitParts(ctx context.Context, p place, log *slog.Logger) error {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for start := time.Now(); ; {
		err := s.openParts(ctx, p)
		if s.embedded != nil || !leaderless(err) || ctx.Err() != nil || time.Since(start) > electionMost {
			return err
		}
		log.Warn("waiting for the NATS cluster to choose a leader", "err", err)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// leaderless reports whether err is what a request gets from a cluster that has
// no leader at the moment: no answer, or 503.
func leaderless(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable
}

func (s *stream) partitions() int { return len(s.parts) }

func (s *stream) messages() (n int) {
	for _, part := range s.parts {
		n += int(part.CachedInfo().State.Msgs)
	}
	return n
}

func (s *stream) connected() bool { return s.conn.IsConnected() }

func (s *stream) alone() bool { return s.embedded != nil && len(s.parts) == 1 }

func (s *stream) reach(ctx context.Context, part int) (readable, last uint64, err error) {
	info, err := s.parts[part].Info(ctx)
	if err == nil {
		last = info.State.LastSeq
		readable, err = s.newest(ctx, part)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("store: read rows: %w", err)
	}
	return readable, last, nil
}

// batchMost returns how many messages a batch may have.
func (s *stream) batchMost() int {
	if s.embedded == nil {
		return batchMost
	}
	return batchOwn
}

// A message is one change, as the stream takes it.
type message struct {
	subject string
	data    []byte  // empty: forgotten or freed
	base    uint64  // must be the subject's newest place
	row     *record // what data will say, when that is a row
}

// perSubject says that each message is checked by its base.
const perSubject uint64 = math.MaxUint64

// commit writes all of ms or none to partition part, as one atomic batch, and
// returns the place of the first; the others follow it. They are on the disk
// when it returns. tail must be the newest place of the partition, which spares
// JetStream to look up each base, or perSubject. It returns errConflict when a
// base or tail was not right. After any other error it is not known whether
// they were written.
func (s *stream) commit(ctx context.Context, part int, ms []message, tail uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	// One message for all: it is copied as it is published.
	number, base := []string{""}, []string{strconv.FormatUint(tail, 10)}
	out := &nats.Msg{Header: nats.Header{"Nats-Batch-Id": {nuid.Next()}, "Nats-Batch-Sequence": number}}
	if tail == perSubject {
		out.Header["Nats-Expected-Last-Subject-Sequence"] = base
	} else {
		out.Header["Nats-Expected-Last-Sequence"] = base // of the first, and so of all
	}
	var rows recordEncoder
	for i, m := range ms {
		out.Subject, out.Data = s.inPart(part, m.subject), m.data
		if m.row != nil {
			var err error
			if out.Data, err = rows.encode(m.row); err != nil {
				return 0, err
			}
		}
		number[0] = strconv.Itoa(i + 1)
		if tail == perSubject {
			base[0] = strconv.FormatUint(m.base, 10)
		} else if i == 1 {
			delete(out.Header, "Nats-Expected-Last-Sequence")
		}
		if i == len(ms)-1 {
			break
		}
		if err := s.conn.PublishMsg(out); err != nil {
			return 0, fmt.Errorf("store: commit batch: %w: %w", errUnsure, err)
		}
	}
	out.Header["Nats-Batch-Commit"] = []string{"1"}
	reply, err := s.conn.RequestMsgWithContext(ctx, out)
	if err != nil {
		return 0, fmt.Errorf("store: commit batch: %w: %w", errUnsure, err)
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
		Count int                 `json:"count"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, fmt.Errorf("store: commit batch: read answer: %w", err)
	}
	if ack.Error != nil {
		if ack.Error.ErrorCode == codeWrongLast {
			return 0, errConflict
		}
		return 0, fmt.Errorf("store: commit batch: %w", ack.Error)
	}
	if ack.Count != len(ms) || ack.Seq < uint64(len(ms)) {
		return 0, fmt.Errorf("store: commit batch: %d of %d messages at %d", ack.Count, len(ms), ack.Seq)
	}
	return ack.Seq - uint64(len(ms)) + 1, nil
}

// read returns the newest message of subject; found is false when there is
// none.
func (s *stream) read(ctx context.Context, part int, subject string) (data []byte, seq uint64, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	m, err := s.parts[part].GetLastMsgForSubject(ctx, s.inPart(part, subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("store: read %s: %w", subject, err)
	}
	return m.Data, m.Sequence, true, nil
}

func rowSubject(mac wire.MAC) string     { return rowPrefix + mac.Hex() }
func numberSubject(digits string) string { return numberPrefix + digits }

// apply puts one message of the stream into the table, and adds to touched the
// queries whose answers may have changed.
func (t *table) apply(touched []wire.Query, subject string, data []byte, seq uint64) ([]wire.Query, error) {
	if key, ok := strings.CutPrefix(subject, rowPrefix); ok {
		mac, err := wire.ParseMAC(key)
		if err != nil {
			return touched, fmt.Errorf("store: apply %s: %w", subject, err)
		}
		if len(data) == 0 {
			return t.putRow(touched, mac, nil, seq), nil
		}
		r, err := decodeRecord(data)
		if err == nil && r.MAC != mac {
			err = fmt.Errorf("row of %v", r.MAC)
		}
		if err != nil {
			return touched, fmt.Errorf("store: apply %s at %d: %w", subject, seq, err)
		}
		return t.putRow(touched, mac, &r, seq), nil
	}
	if digits, ok := strings.CutPrefix(subject, numberPrefix); ok {
		mac, rests, err := decodeHolder(data)
		if err != nil || !wire.ValidNumber(digits) {
			return touched, fmt.Errorf("store: apply %s at %d: %d bytes", subject, seq, len(data))
		}
		return t.putNumber(touched, digits, mac, rests, seq), nil
	}
	if key, ok := strings.CutPrefix(subject, notePrefix); ok {
		k, err := parseNoteKey(key)
		if err != nil {
			return touched, fmt.Errorf("store: apply %s at %d: %w", subject, seq, err)
		}
		t.putNote(k, data, seq)
		if k.kind == namingNote && !t.loading {
			touched = append(touched, wire.Query{MAC: wire.MAC([]byte(k.key[:len(wire.MAC{})]))}) // pages show it
		}
		return touched, nil
	}
	if strings.HasPrefix(subject, keptLinks) {
		return touched, nil
	}
	return touched, fmt.Errorf("store: apply %s: no such subject", subject)
}

// natsLog hands the embedded server's log on: warnings as such, notices for
// those who debug.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLog) Fatalf(format string, v ...any)  { l.Errorf(format, v...) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLog) Debugf(format string, v ...any)  {}
func (l *natsLog) Tracef(format string, v ...any)  {}
