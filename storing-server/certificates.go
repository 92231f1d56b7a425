package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// A certificate is one of the operator's, in two files, which are read again
// when the operator says so: whoever holds a connection keeps it meanwhile.
type certificate struct {
	flag      string // that names the file
	cert, key string // PEM files
	present   atomic.Pointer[tls.Certificate]
}

// openCertificate reads the files that FLAG-cert and FLAG-key name, to be shown
// at the port of another flag; nil when they name none.
func openCertificate(flag, cert, key, portFlag, port string) (*certificate, error) {
	switch {
	case (cert == "") != (key == ""):
		return nil, &usageError{fmt.Sprintf("%s-cert and %s-key: want both or neither", flag, flag)}
	case cert == "":
		return nil, nil
	case port == "":
		return nil, &usageError{fmt.Sprintf("%s-cert: of use only with %s", flag, portFlag)}
	}
	c := &certificate{flag: flag + "-cert", cert: cert, key: key}
	return c, c.Reload()
}

// Reload reads the files. When it fails the certificate stays as it was.
func (c *certificate) Reload() error {
	next, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.flag, err)
	}
	c.present.Store(&next)
	return nil
}

// get is for tls.Config.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.present.Load(), nil
}

// A reloader is read from files that the operator may change.
type reloader interface{ Reload() error }

// reloadFiles reads files again each time a signal comes, until ctx is done.
// What cannot be read is told, and stays as it was.
func reloadFiles(ctx context.Context, signals <-chan os.Signal, files []reloader, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		failed := 0
		for _, f := range files {
			if err := f.Reload(); err != nil {
				failed++
				log.Error("file not read again; as it was, it is still in force", "err", err)
			}
		}
		log.Info("reloaded", "files", len(files)-failed, "failed", failed)
	}
}
