package index

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrCorrupt is in the chain of every error about content that does not match
// the digest or the size it was promised with.
var ErrCorrupt = errors.New("content is not what its descriptor says")

// checkDescriptor refuses descriptors that cannot be verified.
func checkDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("descriptor with digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor of %s has size %d", d.Digest, d.Size)
	}
	return nil
}

// verify returns data's error, if any, against d.
func verify(data []byte, d ocispec.Descriptor) error {
	if int64(len(data)) != d.Size {
		return sizeError(d, int64(len(data)))
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return digestError(d, got)
	}
	return nil
}

func sizeError(d ocispec.Descriptor, got int64) error {
	return fmt.Errorf("%s: %w: got %d bytes, want %d", d.Digest, ErrCorrupt, got, d.Size)
}

func digestError(d ocispec.Descriptor, got digest.Digest) error {
	return fmt.Errorf("%s: %w: got %s", d.Digest, ErrCorrupt, got)
}

// verifier passes a stream on and ends it with io.EOF only when it was, byte for
// byte, what the descriptor says.
type verifier struct {
	io.ReadCloser
	desc ocispec.Descriptor
	hash hash.Hash
	n    int64
	err  error // sticky
}

// verified wraps rc, whose descriptor must have passed checkDescriptor.
func verified(rc io.ReadCloser, d ocispec.Descriptor) io.ReadCloser {
	return &verifier{ReadCloser: rc, desc: d, hash: d.Digest.Algorithm().Hash()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	// One byte more than there may be, so that too long a stream is noticed
	// before more of it is handed on.
	if left := v.desc.Size - v.n + 1; int64(len(p)) > left {
		p = p[:left]
	}
	n, err := v.ReadCloser.Read(p)
	if v.n += int64(n); v.n > v.desc.Size {
		v.err = fmt.Errorf("%s: %w: more than the %d bytes announced", v.desc.Digest, ErrCorrupt, v.desc.Size)
		return 0, v.err
	}
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) {
		err = v.end()
	}
	v.err = err
	return n, err
}

func (v *verifier) end() error {
	if v.n != v.desc.Size {
		return sizeError(v.desc, v.n)
	}
	if got := digest.NewDigest(v.desc.Digest.Algorithm(), v.hash); got != v.desc.Digest {
		return digestError(v.desc, got)
	}
	return io.EOF
}
