package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// ErrCorrupt is wrapped by errors about content that is not what its
// descriptor, diffID or digest promised.
var ErrCorrupt = errors.New("content does not match")

// verified passes on size bytes that must have the given digest. It reports
// io.EOF only after both are proved. what names the content in errors.
type verified struct {
	r        io.Reader
	what     string
	size     int64
	digest   digest.Digest
	verifier digest.Digester
	n        int64
	err      error // sticky
}

// newVerified needs a valid digest.
func newVerified(r io.Reader, what string, d digest.Digest, size int64) *verified {
	return &verified{r: r, what: what, size: size, digest: d, verifier: d.Algorithm().Digester()}
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.n += int64(n)
	if v.n > v.size {
		v.err = fmt.Errorf("%s: %w: got more than the %d bytes wanted", v.what, ErrCorrupt, v.size)
		return 0, v.err
	}
	v.verifier.Hash().Write(p[:n])
	if err == io.EOF {
		err = v.check()
	} else if err != nil {
		err = fmt.Errorf("%s: after %d of %d bytes: %w", v.what, v.n, v.size, err)
	}
	v.err = err
	return n, err
}

// check is the verdict at the end of the source: io.EOF when all is well.
func (v *verified) check() error {
	if v.n != v.size {
		return fmt.Errorf("%s: %w: got %d bytes, want %d", v.what, ErrCorrupt, v.n, v.size)
	}
	if got := v.verifier.Digest(); got != v.digest {
		return fmt.Errorf("%s: %w: got digest %s, want %s", v.what, ErrCorrupt, got, v.digest)
	}
	return io.EOF
}

// failed is the error that ended reading, nil while it goes on or when all was well.
func (v *verified) failed() error {
	if v.err == io.EOF {
		return nil
	}
	return v.err
}

// cancellable fails reads once ctx is done.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// readCloser joins a reader with what has to be closed under it.
type readCloser struct {
	io.Reader
	io.Closer
}

// closeOnce makes closing twice harmless.
type closeOnce struct {
	c    io.Closer
	once sync.Once
}

func (c *closeOnce) Close() (err error) {
	c.once.Do(func() { err = c.c.Close() })
	return err
}

// limited fails instead of ending when more than n bytes come.
type limited struct {
	r io.Reader
	n int64 // left
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.n -= int64(n); l.n < 0 {
		return 0, errTooBig
	}
	return n, err
}

// errTooBig is returned when a layer grows beyond the limits of a Store.
var errTooBig = errors.New("uncompressed layer is larger than allowed")
