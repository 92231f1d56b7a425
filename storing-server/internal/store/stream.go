package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	streamName    = "FLEXPHONE"
	rowPrefix     = "flexphone.row."    // and 12 hexadecimal digits
	numberPrefix  = "flexphone.number." // and the digits
	subjects      = "flexphone.>"
	batchMost     = 900 // messages in one atomic batch; the server takes 1000
	commitTimeout = 10 * time.Second
)

// codeWrongLast is JetStream's error for a row that somebody else has changed.
const codeWrongLast = 10071

var errConflict = errors.New("store: somebody else changed the rows")

// A stream is the durable side of the store: one JetStream stream that keeps
// the newest message of each subject, in this process or in a cluster.
type stream struct {
	embedded *server.Server // nil: a cluster
	conn     *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream
}

// openStream starts a NATS server in this process, with its files in dir, or
// joins the cluster at url. An embedded one listens nowhere, and syncs its
// files before it acknowledges a batch.
func openStream(ctx context.Context, dir, url string, log *slog.Logger) (*stream, error) {
	s := &stream{}
	if url == "" {
		ns, err := server.NewServer(&server.Options{
			ServerName: "flexphone", DontListen: true,
			JetStream: true, StoreDir: dir, SyncAlways: true,
			NoLog: false, NoSigs: true,
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
			return nil, fmt.Errorf("store: start NATS server in %s: not ready after 30 s", dir)
		}
	}
	opts := []nats.Option{nats.Name("storing-server"), nats.MaxReconnects(-1)}
	if s.embedded != nil {
		opts = append(opts, nats.InProcessServer(s.embedded))
	}
	var err error
	if s.conn, err = nats.Connect(url, opts...); err != nil {
		s.close()
		return nil, fmt.Errorf("store: connect to NATS: %w", err)
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		s.close()
		return nil, fmt.Errorf("store: use JetStream: %w", err)
	}
	s.stream, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{subjects},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, AllowDirect: true, AllowAtomicPublish: true, AllowMsgTTL: true,
	})
	if err != nil {
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

// A message is one change, as the stream takes it.
type message struct {
	subject string
	data    []byte // empty: forgotten or freed
	base    uint64 // must be the subject's newest place
}

// commit writes all of ms or none, as one atomic batch, and returns the place
// of the first; the others follow it. They are on the disk when it returns. It
// returns errConflict when a base was not right. After any other error it is
// not known whether they were written.
func (s *stream) commit(ctx context.Context, ms []message) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	id := nuid.Next()
	for i, m := range ms {
		out := nats.NewMsg(m.subject)
		out.Data = m.data
		out.Header.Set("Nats-Batch-Id", id)
		out.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		out.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(m.base, 10))
		if i < len(ms)-1 {
			if err := s.conn.PublishMsg(out); err != nil {
				return 0, fmt.Errorf("store: commit batch: %w", err)
			}
			continue
		}
		out.Header.Set("Nats-Batch-Commit", "1")
		reply, err := s.conn.RequestMsgWithContext(ctx, out)
		if err != nil {
			return 0, fmt.Errorf("store: commit batch: %w", err)
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
	return 0, nil
}

// read returns the newest message of subject; found is false when there is
// none.
func (s *stream) read(ctx context.Context, subject string) (data []byte, seq uint64, found bool, err error) {
	m, err := s.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("store: read %s: %w", subject, err)
	}
	return m.Data, m.Sequence, true, nil
}

// replay gives all newest messages to apply, in the stream's order, then calls
// caughtUp once, and goes on with each new message until ctx is done. Without
// follow it returns when it has caught up.
func (s *stream) replay(ctx context.Context, follow bool, apply func(subject string, data []byte, seq uint64) error, caughtUp func()) error {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("store: read stream: %w", err)
	}
	last := info.State.LastSeq
	told := false
	catchUp := func(seq uint64) bool {
		if !told && seq >= last {
			told = true
			caughtUp()
		}
		return told
	}
	if info.State.Msgs == 0 && catchUp(last) && !follow {
		return nil
	}
	consumer, err := s.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjects}, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	if err != nil {
		return fmt.Errorf("store: read stream: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(4096))
	if err != nil {
		return fmt.Errorf("store: read stream: %w", err)
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		m, err := messages.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("store: read stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("store: read stream: %w", err)
		}
		if err := apply(m.Subject(), m.Data(), meta.Sequence.Stream); err != nil {
			return err
		}
		if catchUp(meta.Sequence.Stream) && !follow {
			return nil
		}
	}
}

func rowSubject(mac wire.MAC) string     { return rowPrefix + mac.Hex() }
func numberSubject(digits string) string { return numberPrefix + digits }

// apply puts one message of the stream into the table.
func (t *table) apply(subject string, data []byte, seq uint64) ([]wire.Query, error) {
	if key, ok := strings.CutPrefix(subject, rowPrefix); ok {
		mac, err := wire.ParseMAC(key)
		if err != nil {
			return nil, fmt.Errorf("store: apply %s: %w", subject, err)
		}
		if len(data) == 0 {
			return t.putRow(mac, nil, seq), nil
		}
		r, err := decodeRecord(data)
		if err == nil && r.MAC != mac {
			err = fmt.Errorf("row of %v", r.MAC)
		}
		if err != nil {
			return nil, fmt.Errorf("store: apply %s at %d: %w", subject, seq, err)
		}
		return t.putRow(mac, &r, seq), nil
	}
	if digits, ok := strings.CutPrefix(subject, numberPrefix); ok {
		var mac wire.MAC
		if len(data) != 0 && len(data) != len(mac) || !wire.ValidNumber(digits) {
			return nil, fmt.Errorf("store: apply %s at %d: %d bytes", subject, seq, len(data))
		}
		copy(mac[:], data)
		t.putNumber(digits, mac, seq)
		return []wire.Query{{Number: digits}}, nil
	}
	return nil, fmt.Errorf("store: apply %s: no such subject", subject)
}

// natsLog hands the embedded server's log on: warnings as such, notices for
// those who debug.
type natsLog struct{ log *slog.Logger }

func (l *natsLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.TODO(), level) {
		l.log.Log(context.TODO(), level, "nats: "+fmt.Sprintf(format, v...))
	}
}
func (l *natsLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l *natsLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l *natsLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *natsLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l *natsLog) Debugf(format string, v ...any)  {}
func (l *natsLog) Tracef(format string, v ...any)  {}
