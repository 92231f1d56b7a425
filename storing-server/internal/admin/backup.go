package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// A Backer can write all of its rows while it serves, and says what of them has
// rotted on its disk.
type Backer interface {
	Backup(ctx context.Context, w io.Writer) (rotten string, err error)
}

// rottenTrailer is the HTTP trailer that says so.
const rottenTrailer = "Flexphone-Rotten"

// backUp sends a backup. One that fails on its way lacks its end, which its
// reader finds out.
func backUp(rows any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, ok := rows.(Backer)
		if !ok {
			http.Error(w, "rows of this kind have no backup", http.StatusNotImplemented)
			return
		}
		w.Header().Set("Trailer", rottenTrailer)
		out := &started{Writer: w}
		rotten, err := b.Backup(r.Context(), out)
		if err != nil && !out.yes {
			http.Error(w, err.Error(), http.StatusConflict)
		}
		w.Header().Set(rottenTrailer, rotten)
	}
}

// started knows whether anything was written.
type started struct {
	io.Writer
	yes bool
}

func (s *started) Write(p []byte) (int, error) {
	s.yes = true
	return s.Writer.Write(p)
}

// Backup writes a backup of the server's rows to w, and returns what of them has
// rotted on the server's disk. Whether it is whole is for who reads it to find out.
func (c *Client) Backup(ctx context.Context, w io.Writer) (rotten string, err error) {
	resp, err := c.do(ctx, http.MethodGet, "/backup", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return "", fmt.Errorf("admin: read backup: %w", err)
	}
	return resp.Trailer.Get(rottenTrailer), nil
}
