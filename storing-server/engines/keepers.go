package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	bolt "go.etcd.io/bbolt"

	"flexphone/storing-server/internal/journal"
)

var engines = []engine{
	{"journal", openJournal, readJournal},
	{"jetstream", openJetStream, readJetStream},
	{"pebble", openPebble, readPebble},
	{"bbolt", openBolt, readBolt},
}

// self runs this program once more.
func self(args ...string) (string, error) {
	cmd := exec.Command(os.Args[0], args...)
	out, err := cmd.Output()
	return string(out), err
}

func name(row uint64) string { return fmt.Sprintf("flexphone.row.%012x", row) }

// The server's own.
type ownJournal struct {
	*journal.Journal
	ms []journal.Message
}

func openJournal(dir string) (keeper, error) {
	j, _, err := journal.Open(dir, 0, func(string, []byte, uint64) error { return nil })
	return &ownJournal{Journal: j}, err
}

func (j *ownJournal) commit(rows []uint64, body []byte) error {
	j.ms = j.ms[:0]
	for _, r := range rows {
		j.ms = append(j.ms, journal.Message{Subject: name(r), Data: body})
	}
	_, err := j.Append(j.ms)
	return err
}

func (j *ownJournal) close() error { return j.Close() }

// readJournal gives no row of which a newer record is damaged: whose that is, is
// not known, so that as many others are left out.
func readJournal(dir string, give func(row, body string)) error {
	var all []string
	st, err := journal.Read(dir, 0, func(subject string, body []byte, _ uint64) error {
		give(subject, string(body))
		all = append(all, subject)
		return nil
	})
	lost := 0
	for _, d := range st.Damages {
		lost += max(1, int(d.Lost))
	}
	for _, row := range all[:min(lost, len(all))] {
		give(row, "")
	}
	return err
}

// JetStream, embedded as the server had it.
type jetStream struct {
	server *server.Server
	conn   *nats.Conn
	last   uint64
}

func openJetStream(dir string) (keeper, error) { return startJetStream(dir) }

func startJetStream(dir string) (*jetStream, error) {
	ns, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoLog: true, NoSigs: true,
		JetStreamLimits: server.JSLimitOpts{MaxBatchSize: 4000},
	})
	if err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(time.Minute) {
		return nil, errors.New("not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	st, err := js.CreateOrUpdateStream(context.Background(), jetstream.StreamConfig{
		Name: "ROWS", Subjects: []string{"flexphone.>"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, AllowDirect: true, AllowAtomicPublish: true, Duplicates: 100 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return &jetStream{ns, conn, st.CachedInfo().State.LastSeq}, nil
}

func (j *jetStream) commit(rows []uint64, body []byte) error {
	m := &nats.Msg{Header: nats.Header{"Nats-Batch-Id": {nuid.Next()}}, Data: body}
	m.Header.Set("Nats-Expected-Last-Sequence", strconv.FormatUint(j.last, 10))
	for i, r := range rows {
		m.Subject = name(r)
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		if i == 1 {
			delete(m.Header, "Nats-Expected-Last-Sequence")
		}
		if i < len(rows)-1 {
			if err := j.conn.PublishMsg(m); err != nil {
				return err
			}
		}
	}
	m.Header["Nats-Batch-Commit"] = []string{"1"}
	reply, err := j.conn.RequestMsg(m, 10*time.Second)
	if err != nil {
		return err
	}
	if ack := string(reply.Data); strings.Contains(ack, `"error"`) {
		return errors.New(ack)
	}
	j.last += uint64(len(rows))
	return nil
}

func (j *jetStream) close() error {
	j.conn.Close()
	j.server.Shutdown()
	j.server.WaitForShutdown()
	return nil
}

func readJetStream(dir string, give func(row, body string)) error {
	j, err := startJetStream(dir)
	if err != nil {
		return err
	}
	defer j.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	js, err := jetstream.New(j.conn)
	if err != nil {
		return err
	}
	c, err := js.OrderedConsumer(ctx, "ROWS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	for {
		some, err := c.FetchNoWait(4096)
		if err != nil {
			return err
		}
		n := 0
		for m := range some.Messages() {
			give(m.Subject(), string(m.Data()))
			n++
		}
		if n == 0 {
			return some.Error()
		}
	}
}

// pebble, as it comes.
type pebbleDB struct{ *pebble.DB }

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func openPebble(dir string) (keeper, error)  { db, err := pebbleIn(dir); return pebbleDB{db}, err }
func pebbleIn(dir string) (*pebble.DB, error) {
	return pebble.Open(dir, &pebble.Options{Logger: quiet{}})
}

func (p pebbleDB) commit(rows []uint64, body []byte) error {
	b := p.NewBatch()
	for _, r := range rows {
		if err := b.Set(binary.BigEndian.AppendUint64(nil, r), body, nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (p pebbleDB) close() error { return p.Close() }

func readPebble(dir string, give func(row, body string)) error {
	db, err := pebbleIn(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		give(string(it.Key()), string(it.Value()))
	}
	return it.Close()
}

// bbolt, as it comes.
type boltDB struct{ *bolt.DB }

var bucket = []byte("rows")

func boltIn(dir string) (*bolt.DB, error) { return bolt.Open(filepath.Join(dir, "rows"), 0o600, nil) }

func openBolt(dir string) (keeper, error) {
	db, err := boltIn(dir)
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucketIfNotExists(bucket); return err })
	}
	return boltDB{db}, err
}

func (b boltDB) commit(rows []uint64, body []byte) error {
	return b.Update(func(tx *bolt.Tx) error {
		for _, r := range rows {
			if err := tx.Bucket(bucket).Put(binary.BigEndian.AppendUint64(nil, r), body); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b boltDB) close() error { return b.Close() }

func readBolt(dir string, give func(row, body string)) error {
	db, err := boltIn(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(row, body []byte) error { give(string(row), string(body)); return nil })
	})
}
