package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// AccessName is the file in the data folder that says who may log in.
const AccessName = "access.json"

// MinPassword and MaxPassword bound a password, in characters.
const (
	MinPassword = 12
	MaxPassword = 256
)

// Refusals of a password or a token.
var (
	ErrPassword = fmt.Errorf("want a password of %d to %d characters", MinPassword, MaxPassword)
	ErrName     = errors.New("want a name of 1 to 64 characters")
	ErrNoToken  = errors.New("no such API token")
)

// What a guess at the password costs whoever has stolen its hash (RFC 9106; of
// memory, in KiB, so little that a small machine has it).
const (
	argonTime   = 2
	argonMemory = 19 << 10
	argonLanes  = 1
	argonSize   = 32
)

// Access is who may log in and use the API. It is kept in a file, by hashes
// alone, and read again each time, so that a command changes it while the
// server runs.
type Access struct{ dir string }

// NewAccess returns what is kept in the data folder dir.
func NewAccess(dir string) Access { return Access{dir} }

// An APIToken is a token as lists show it. The token itself is kept nowhere.
type APIToken struct {
	ID   string    `json:"id"`
	Name string    `json:"name"`
	Hash string    `json:"sha256,omitempty"`
	Made time.Time `json:"made"`
}

type accessFile struct {
	Password string     `json:"password,omitempty"` // argon2id, as PHC strings have it
	Tokens   []APIToken `json:"tokens,omitempty"`
}

// SetPassword makes password the one to log in with. Who is logged in is
// logged out.
func (a Access) SetPassword(password string) error {
	if n := utf8.RuneCountInString(password); n < MinPassword || n > MaxPassword {
		return fmt.Errorf("web: set password: %w", ErrPassword)
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return a.change(func(f *accessFile) error {
		f.Password = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
			base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(argon(password, salt)))
		return nil
	})
}

func argon(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonSize)
}

// check reports whether password is the one to log in with. version changes
// with the password.
func (a Access) check(password string) (version string, ok bool, err error) {
	f, err := a.read()
	if err != nil {
		return "", false, err
	}
	salt, want, err := f.secret()
	if err != nil || len(password) > 4*MaxPassword {
		return "", false, err
	}
	return f.Password, subtle.ConstantTimeCompare(argon(password, salt), want) == 1, nil
}

// version returns what check does, without a password; empty: there is none.
func (a Access) version() (string, error) {
	f, err := a.read()
	return f.Password, err
}

// secret reads the hash that SetPassword wrote.
func (f accessFile) secret() (salt, hash []byte, err error) {
	parts := strings.Split(f.Password, "$")
	want := fmt.Sprintf("m=%d,t=%d,p=%d", argonMemory, argonTime, argonLanes)
	if len(parts) != 6 || parts[1] != "argon2id" || parts[3] != want {
		return nil, nil, fmt.Errorf("web: read %s: a password hash of another kind: set the password again", AccessName)
	}
	salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err == nil {
		hash, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(hash) != argonSize {
		return nil, nil, fmt.Errorf("web: read %s: a password hash that was cut: set the password again", AccessName)
	}
	return salt, hash, nil
}

// NewToken makes a token for a program that is called name, and returns its
// text, which is kept nowhere.
func (a Access) NewToken(name string) (text string, t APIToken, err error) {
	name = strings.TrimSpace(name)
	if name == "" || utf8.RuneCountInString(name) > 64 || !utf8.ValidString(name) {
		return "", APIToken{}, fmt.Errorf("web: make API token: %w", ErrName)
	}
	text = "fp_" + strings.ToLower(rand.Text())
	hash := sha256.Sum256([]byte(text))
	t = APIToken{ID: hex.EncodeToString(hash[:4]), Name: name, Hash: hex.EncodeToString(hash[:]), Made: time.Now().UTC().Truncate(time.Second)}
	err = a.change(func(f *accessFile) error {
		f.Tokens = append(f.Tokens, t)
		return nil
	})
	t.Hash = ""
	return text, t, err
}

// RevokeToken makes the token with that ID worth nothing.
func (a Access) RevokeToken(id string) error {
	return a.change(func(f *accessFile) error {
		left := slices.DeleteFunc(slices.Clone(f.Tokens), func(t APIToken) bool { return t.ID == id })
		if len(left) == len(f.Tokens) {
			return fmt.Errorf("web: revoke API token %q: %w", id, ErrNoToken)
		}
		f.Tokens = left
		return nil
	})
}

// Tokens returns the tokens that there are, in the order of their making.
func (a Access) Tokens() ([]APIToken, error) {
	f, err := a.read()
	for i := range f.Tokens {
		f.Tokens[i].Hash = ""
	}
	return f.Tokens, err
}

// bearer reports whether text is a token.
func (a Access) bearer(text string) (ok bool, err error) {
	f, err := a.read()
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	for _, t := range f.Tokens {
		ok = subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) == 1 || ok
	}
	return ok, err
}

func (a Access) read() (f accessFile, err error) {
	text, err := os.ReadFile(filepath.Join(a.dir, AccessName))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return accessFile{}, fmt.Errorf("web: read %s in %s: %w", AccessName, a.dir, err)
	}
	return f, nil
}

// change lets act alter the file: whole or not at all, and one at a time.
func (a Access) change(act func(*accessFile) error) error {
	dir, err := os.Open(a.dir)
	if err != nil {
		return fmt.Errorf("web: write %s: %w", AccessName, err)
	}
	defer dir.Close()
	// The folder's own lock is the store's; this one is of its descriptor.
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("web: write %s: lock folder: %w", AccessName, err)
	}
	f, err := a.read()
	if err != nil {
		return err
	}
	if err := act(&f); err != nil {
		return err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = writeFile(dir, AccessName, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("web: write %s: %w", AccessName, err)
	}
	return nil
}

// writeFile replaces a file of dir, so that a power cut leaves the old one or
// the new one. It belongs to whoever the folder belongs to, since a command may
// be run by root, and the server is not.
func writeFile(dir *os.File, name string, text []byte) error {
	f, err := os.CreateTemp(dir.Name(), "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(text)
	if info, e := dir.Stat(); err == nil && e == nil && os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir.Name(), name)); err != nil {
		return err
	}
	return dir.Sync()
}
