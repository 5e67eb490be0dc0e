package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/index/transport"
)

// stall is how long a connection may be silent in the middle of a blob.
const stall = 2 * time.Minute

// blobReader streams a blob from the first origin that has it, and goes on where
// it was when the connection breaks. It does not verify anything.
type blobReader struct {
	ctx     context.Context // of the reader's life, as for an http.Request
	origins []origin
	desc    ocispec.Descriptor

	body     io.ReadCloser
	cancel   context.CancelCauseFunc // ends body
	offset   int64                   // bytes handed out
	attempts int                     // broken connections without progress in between
	resumed  int64                   // offset of the last resumption
}

// progress is how much must arrive for a resumption to count as a success.
const progress = 1 << 20

var errStalled = fmt.Errorf("no data for %s", stall)

// connect opens body at offset.
func (b *blobReader) connect() error {
	ctx, cancel := context.WithCancelCause(b.ctx)
	_, err := first(b.origins, func(o origin) error { return b.get(ctx, o) })
	if err != nil {
		cancel(nil)
		return err
	}
	b.cancel = cancel
	return nil
}

func (b *blobReader) get(ctx context.Context, o origin) error {
	req := transport.Request{Method: http.MethodGet, Repository: o.repository, Path: "blobs/" + b.desc.Digest.String()}
	if b.offset > 0 {
		req.Header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", b.offset)}}
	}
	resp, err := o.client.Do(ctx, req)
	if err != nil {
		return err
	}
	skip, want := b.offset, b.desc.Size
	if resp.StatusCode == http.StatusPartialContent {
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.offset)) {
			resp.Body.Close()
			return fmt.Errorf("%s: asked for the bytes from %d of %s, got %q", o, b.offset, b.desc.Digest, resp.Header.Get("Content-Range"))
		}
		skip, want = 0, b.desc.Size-b.offset
	}
	if resp.ContentLength >= 0 && resp.ContentLength != want {
		resp.Body.Close()
		return fmt.Errorf("%s: %s: %w: the registry announces %d bytes, want %d", o, b.desc.Digest, ErrCorrupt, resp.ContentLength, want)
	}
	b.body = resp.Body
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		resp.Body.Close()
		return fmt.Errorf("%s: %s: %w", o, b.desc.Digest, err)
	}
	return nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if err := b.ctx.Err(); err != nil { // what is buffered could still be read
			return 0, err
		}
		n, err := b.read(p)
		b.offset += int64(n)
		if n > 0 {
			if !errors.Is(err, io.EOF) || b.offset < b.desc.Size {
				return n, nil // the next call meets the same error
			}
		}
		if err == nil || errors.Is(err, io.EOF) && b.offset >= b.desc.Size {
			return n, err
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// read is one Read of body that does not wait for ever.
func (b *blobReader) read(p []byte) (int, error) {
	timer := time.AfterFunc(stall, func() { b.cancel(errStalled) })
	defer timer.Stop()
	return b.body.Read(p)
}

// resume replaces a body that broke with cause.
func (b *blobReader) resume(cause error) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.Close()
	if b.offset-b.resumed >= progress {
		b.attempts = 0
	}
	b.resumed = b.offset
	b.attempts++
	client := b.origins[0].client
	broken := &transport.Error{Host: client.Name(), Request: "GET blobs/" + b.desc.Digest.String(), Err: cause}
	switch {
	case client.Retry().Wait(b.ctx, b.attempts, broken):
		return b.connect()
	case errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: %s: %w: it ends after %d of %d bytes", client.Name(), b.desc.Digest, ErrCorrupt, b.offset, b.desc.Size)
	}
	return broken
}

// Close ends the connection.
func (b *blobReader) Close() error {
	b.cancel(nil)
	return b.body.Close()
}
