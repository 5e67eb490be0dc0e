package snapshot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression says how a layer's blob is made. The zero value, CompressionAny,
// leaves it open.
type Compression struct {
	Algorithm string // "gzip", "zstd", "uncompressed" or "" (any)
	Level     int    // gzip: 1 to 9, zstd: 1 to 22; 0 is the default
}

// The algorithms of a Compression.
const (
	Gzip         = "gzip"
	Zstd         = "zstd"
	Uncompressed = "uncompressed"
)

// CompressionAny takes a blob as it is, or leaves making one for later.
var CompressionAny = Compression{}

// The default levels. On a root filesystem of 188 MB this library's gzip 4
// takes a sixth of the CPU time of zlib's default (6) and makes 4 percent more
// bytes; its own 6 takes a third longer for 2 percent less. zstd 3 is the
// format's own default.
const (
	defaultGzipLevel = 4
	defaultZstdLevel = 3
)

// The compressed bytes are part of what mbuild reproduces, so nothing that
// shapes them may depend on the machine: gzip is cut into blocks of this size
// however many cores work on them, zstd always uses one encoder.
const (
	gzipBlock       = 1 << 20
	zstdConcurrency = 1
)

// zstdMaxWindow bounds the memory a hostile frame can demand of the decoder.
// It is what "zstd --long" (27) needs.
const zstdMaxWindow = 128 << 20

// ErrCompression is wrapped by errors about an unknown algorithm or level.
var ErrCompression = errors.New("unsupported compression")

// Validate returns an error that wraps ErrCompression for what cannot be made.
func (c Compression) Validate() error {
	top := map[string]int{"": 0, Uncompressed: 0, Gzip: 9, Zstd: 22}
	highest, ok := top[c.Algorithm]
	switch {
	case !ok:
		return fmt.Errorf("%w: %q is none of gzip, zstd, uncompressed", ErrCompression, c.Algorithm)
	case c.Level < 0 || c.Level > highest:
		return fmt.Errorf("%w: level %d of %q is not between 0 (default) and %d", ErrCompression, c.Level, c.Algorithm, highest)
	}
	return nil
}

// normal fills in the default level.
func (c Compression) normal() Compression {
	if c.Level == 0 {
		c.Level = map[string]int{Gzip: defaultGzipLevel, Zstd: defaultZstdLevel}[c.Algorithm]
	}
	return c
}

func (c Compression) mediaType() string {
	switch c.Algorithm {
	case Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ocispec.MediaTypeImageLayer
}

// algorithmOf tells from a media type how a layer blob is compressed, "" when
// the type is not one of a layer.
func algorithmOf(mediaType string) string {
	switch mediaType {
	case ocispec.MediaTypeImageLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return Gzip
	case ocispec.MediaTypeImageLayerZstd, "application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return Zstd
	case ocispec.MediaTypeImageLayer, "application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar":
		return Uncompressed
	}
	return ""
}

// nopCloser makes a Writer a WriteCloser.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// compressor returns a writer whose output depends on c and the bytes written
// only. Close ends the compressed stream and leaves w open.
func compressor(w io.Writer, c Compression) (io.WriteCloser, error) {
	c = c.normal()
	switch c.Algorithm {
	case Gzip:
		z, err := pgzip.NewWriterLevel(w, c.Level)
		if err != nil {
			return nil, err
		}
		// The header stays as the library makes it: no name, no time, unknown system.
		return z, z.SetConcurrency(gzipBlock, runtime.GOMAXPROCS(0)+1)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(c.Level)),
			zstd.WithEncoderConcurrency(zstdConcurrency), zstd.WithEncoderCRC(true))
	}
	return nopCloser{w}, nil
}

// decompressor recognises gzip and zstd by their first bytes (media types in
// the wild are not reliable) and takes anything else for a plain tar. The
// reader works ahead in its own goroutine: it must be closed. Closing does not
// close r.
func decompressor(r io.Reader) (plain io.ReadCloser, compressed bool, err error) {
	in := bufio.NewReaderSize(r, copyBuffer)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, true, fmt.Errorf("gzip: %w", err)
		}
		return newReadahead(z, nil), true, nil
	case isZstd(head):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdMaxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, true, fmt.Errorf("zstd: %w", err)
		}
		return newReadahead(z, z.Close), true, nil
	}
	return io.NopCloser(in), false, nil
}

// isZstd recognises a frame and a skippable frame.
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18})
}
