package judge

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Uncompressed streams a layer's tar and compares it, at its end, with the diffID
// the image's config has for it.
func Uncompressed(l v1.Layer) (io.ReadCloser, error) {
	want, err := l.DiffID()
	if err != nil {
		return nil, err
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	b := bufio.NewReader(rc)
	r, err := decompressed(b)
	if err != nil {
		rc.Close()
		return nil, err
	}
	sum := sha256.New()
	return &checked{Reader: io.TeeReader(r, sum), rc: rc, want: want.String(), sum: func() string {
		return "sha256:" + hex.EncodeToString(sum.Sum(nil))
	}}, nil
}

func decompressed(b *bufio.Reader) (io.Reader, error) {
	magic, err := b.Peek(4)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read layer: %w", err)
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(b)
	case string(magic) == "\x28\xb5\x2f\xfd":
		return zstd.NewReader(b)
	}
	return b, nil
}

// checked turns the end of a stream with the wrong digest into an error.
type checked struct {
	io.Reader
	rc   io.Closer
	want string
	sum  func() string
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		if got := c.sum(); got != c.want {
			return n, fmt.Errorf("diffID: got %s, want %s", got, c.want)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (c *checked) Close() error { return c.rc.Close() }

// Layers prints the entries of every layer as they stand in its tar: number,
// type, mode, owner, name and link target.
func Layers(img v1.Image) ([]string, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var lines []string
	for i, l := range layers {
		more, err := entries(i, l)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

func entries(i int, l v1.Layer) ([]string, error) {
	rc, err := Uncompressed(l)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var lines []string
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, rc)
			return lines, err
		}
		if err != nil {
			return nil, err
		}
		kind := map[byte]string{tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "link", tar.TypeLink: "hardlink"}[h.Typeflag]
		lines = append(lines, fmt.Sprintf("%d %s %04o %d:%d %s %s", i, kind, h.Mode&0o7777, h.Uid, h.Gid, h.Name, h.Linkname))
	}
}
