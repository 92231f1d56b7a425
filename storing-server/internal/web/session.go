package web

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"flexphone/storing-server/internal/store"
)

const (
	cookieName = "storing-server"
	// sessionIdle and sessionMost are for how long a login lasts when nothing is
	// done, and at the most.
	sessionIdle = 30 * time.Minute
	sessionMost = 12 * time.Hour
	// sessionsMost is how many logins there may be; the oldest goes first.
	sessionsMost = 256
)

// A session is a login.
type session struct {
	csrf    string // in each form
	begun   time.Time
	role    store.Role
	version string // of the role's password
	from    string // where it was logged in from

	mu    sync.Mutex
	last  time.Time
	flash *flash
}

// A flash is what the next page says once.
type flash struct {
	Text   string
	Secret string // to be copied; shown this once
	Bad    bool
}

func (s *session) say(f flash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flash = &f
}

func (s *session) said() *flash {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flash
	s.flash = nil
	return f
}

// meant reports whether a form with that token was made for this session.
func (s *session) meant(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.csrf)) == 1
}

// sessions are all logins, by what stands in their cookies.
type sessions struct {
	mu  sync.Mutex
	all map[string]*session
}

func (s *sessions) begin(role store.Role, version, from string, now time.Time) (cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= sessionsMost {
		oldest := ""
		for c, x := range s.all {
			if oldest == "" || x.begun.Before(s.all[oldest].begun) {
				oldest = c
			}
		}
		delete(s.all, oldest)
	}
	cookie = rand.Text()
	s.all[cookie] = &session{csrf: rand.Text(), begun: now, last: now, role: role, version: version, from: from}
	return cookie
}

// of returns the login that a cookie stands for; nil: none. version says what
// the password of its role is now: when that is another the login has ended.
// used says that somebody has done something, rather than left a page open.
func (s *sessions) of(cookie string, version func(store.Role) string, now time.Time, used bool) *session {
	s.mu.Lock()
	x := s.all[cookie]
	s.mu.Unlock()
	if x == nil {
		return nil
	}
	x.mu.Lock()
	ended := now.Sub(x.last) > sessionIdle || now.Sub(x.begun) > sessionMost || x.version != version(x.role)
	if used && !ended {
		x.last = now
	}
	x.mu.Unlock()
	if ended {
		s.end(cookie)
		return nil
	}
	return x
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, cookie)
}
