package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"flexphone/storing-server/internal/store"
)

// MinPassword and MaxPassword bound a password, in characters.
const (
	MinPassword = 12
	MaxPassword = 256
)

// Refusals of a password or of a token's name.
var (
	ErrPassword = fmt.Errorf("want a password of %d to %d characters", MinPassword, MaxPassword)
	ErrName     = errors.New("want a name of 1 to 64 characters")
)

// What a guess at the password costs whoever has stolen its hash (RFC 9106; of
// memory, in KiB, so little that a small machine has it).
const (
	argonTime   = 2
	argonMemory = 19 << 10
	argonLanes  = 1
	argonSize   = 32
)

// HashPassword returns what is kept of a password: argon2id, as PHC strings
// have it.
func HashPassword(password string) (string, error) {
	if n := utf8.RuneCountInString(password); n < MinPassword || n > MaxPassword {
		return "", fmt.Errorf("web: set password: %w", ErrPassword)
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(argon(password, salt))), nil
}

func argon(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, argonSize)
}

// checkPassword reports whether password is the one of which HashPassword made
// kept.
func checkPassword(kept, password string) (bool, error) {
	salt, want, err := readHash(kept)
	if err != nil || len(password) > 4*MaxPassword {
		return false, err
	}
	return subtle.ConstantTimeCompare(argon(password, salt), want) == 1, nil
}

// readHash reads what HashPassword wrote.
func readHash(kept string) (salt, hash []byte, err error) {
	parts := strings.Split(kept, "$")
	want := fmt.Sprintf("m=%d,t=%d,p=%d", argonMemory, argonTime, argonLanes)
	if len(parts) != 6 || parts[1] != "argon2id" || parts[3] != want {
		return nil, nil, errors.New("web: read password: a hash of another kind: set the password again")
	}
	salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err == nil {
		hash, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil || len(hash) != argonSize {
		return nil, nil, errors.New("web: read password: a hash that was cut: set the password again")
	}
	return salt, hash, nil
}

// NewAPIToken makes a token with which a program uses the API, and the hash
// that is kept of it.
func NewAPIToken(name string) (text string, hash store.APITokenHash, err error) {
	if name == "" || utf8.RuneCountInString(name) > 64 || !utf8.ValidString(name) {
		return "", hash, fmt.Errorf("web: make API token: %w", ErrName)
	}
	text = "fp_" + strings.ToLower(rand.Text())
	return text, sha256.Sum256([]byte(text)), nil
}
