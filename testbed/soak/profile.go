package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"flexphone/testbed"
)

// profile asks a phone for a profile, and returns the sum of the n-th value of its
// samples.
func profile(ctx context.Context, p *testbed.Phone, kind string, n int) (int64, error) {
	raw, err := p.Profile(ctx, kind)
	if err != nil {
		return 0, err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return 0, fmt.Errorf("soak: read profile of %s: %w", p.Name, err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		return 0, fmt.Errorf("soak: read profile of %s: %w", p.Name, err)
	}
	sum, err := sumOf(plain, n)
	if err != nil {
		return 0, fmt.Errorf("soak: read profile of %s: %w", p.Name, err)
	}
	return sum, nil
}

// Fields of profile.proto (github.com/google/pprof), and the wire types of protocol
// buffers.
const (
	profileSample = 2
	sampleValue   = 2

	varint   = 0
	fixed64  = 1
	byLength = 2
	fixed32  = 5
)

var errProfile = errors.New("it is no profile")

// sumOf adds up the n-th value of each sample of a profile.
func sumOf(b []byte, n int) (sum int64, err error) {
	err = fields(b, func(field int, sample []byte) error {
		if field != profileSample {
			return nil
		}
		i := 0
		return fields(sample, func(field int, values []byte) error {
			for field == sampleValue && len(values) > 0 {
				v, k := binary.Uvarint(values)
				if k <= 0 {
					return errProfile
				}
				if i == n {
					sum += int64(v)
				}
				i++
				values = values[k:]
			}
			return nil
		})
	})
	return sum, err
}

// fields gives the fields of a message that have a length, or are a varint: of values
// there may be many in one field, or one.
func fields(b []byte, take func(field int, value []byte) error) error {
	for len(b) > 0 {
		key, k := binary.Uvarint(b)
		if k <= 0 {
			return errProfile
		}
		b = b[k:]
		var skip int
		switch key & 7 {
		case varint:
			if _, skip = binary.Uvarint(b); skip > 0 {
				if err := take(int(key>>3), b[:skip]); err != nil {
					return err
				}
			}
		case fixed64:
			skip = 8
		case fixed32:
			skip = 4
		case byLength:
			length, k := binary.Uvarint(b)
			if k <= 0 || length > uint64(len(b)-k) {
				return errProfile
			}
			if err := take(int(key>>3), b[k:k+int(length)]); err != nil {
				return err
			}
			skip = k + int(length)
		}
		if skip <= 0 || skip > len(b) {
			return errProfile
		}
		b = b[skip:]
	}
	return nil
}
