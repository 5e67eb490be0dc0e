package bases

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A Debian package is an ar archive (deb(5)): a magic line, then members with
// 60 byte headers, padded to even offsets.
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	maxBinary    = 64 << 20
)

// errNoFile is returned when a package does not hold the file asked for.
var errNoFile = errors.New("no such file in the package")

// fileFromDeb returns the content of the first of the given paths (relative,
// no leading "./") that is a regular file in the .deb called name.
func fileFromDeb(name string, paths ...string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := dataMember(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	body, err := fileFromTar(data, paths)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return body, nil
}

// dataMember finds the data.tar.* member of an ar archive and returns its
// decompressed bytes.
func dataMember(r io.Reader) (io.Reader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("ar magic: %w", err)
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("ar magic: got %q, want %q", magic, arMagic)
	}
	for {
		name, size, err := arHeader(r)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(name, "data.tar") {
			return decompress(path.Ext(name), io.LimitReader(r, size))
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, fmt.Errorf("ar member %s: %w", name, err)
		}
	}
}

func arHeader(r io.Reader) (name string, size int64, err error) {
	var h [arHeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, fmt.Errorf("ar header: %w", err)
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("ar header: bad size %q", h[48:58])
	}
	return strings.TrimRight(string(h[:16]), " /"), size, nil
}

func decompress(ext string, r io.Reader) (io.Reader, error) {
	switch ext {
	case ".tar":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return xz.NewReader(r)
	case ".zst":
		return zstd.NewReader(r)
	}
	return nil, fmt.Errorf("unknown compression %q", ext)
}

func fileFromTar(r io.Reader, paths []string) ([]byte, error) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: %s", errNoFile, strings.Join(paths, ", "))
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)[1:]
		for _, want := range paths {
			if name == want && h.Typeflag == tar.TypeReg {
				var b bytes.Buffer
				if _, err := io.Copy(&b, io.LimitReader(tr, maxBinary)); err != nil {
					return nil, err
				}
				if int64(b.Len()) != h.Size {
					return nil, fmt.Errorf("%s: got %d bytes, want %d", name, b.Len(), h.Size)
				}
				return b.Bytes(), nil
			}
		}
	}
}
