package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// content opens a regular file of a layer: from the unpacked layer when there
// is one this process may read, else from the plain tar, which is made first
// if need be. What it returns is not verified.
func (s *Store) content(ctx context.Context, l Layer, r *record) (io.ReadCloser, error) {
	if r.size == 0 {
		return io.NopCloser(eof{}), nil
	}
	dir, err := s.layerDir(l.DiffID)
	if err != nil {
		return nil, err
	}
	if f, err := openUnpacked(filepath.Join(dir, s.diff), r); err == nil {
		return f, nil
	}
	f, err := os.Open(filepath.Join(dir, "tar"))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.makeTar(ctx, l)
	}
	if err != nil {
		return nil, err
	}
	if r.flags&flagSparse != 0 {
		return sparseContent(f, r)
	}
	return readCloser{io.NewSectionReader(f, r.offset, r.size), f}, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func (s *Store) makeTar(ctx context.Context, l Layer) (*os.File, error) {
	unlock, err := s.lockLayer(ctx, l.DiffID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	name, err := s.tarLocked(ctx, l)
	if err != nil {
		return nil, err
	}
	return os.Open(name)
}

// openUnpacked opens a file of an unpacked layer if it looks as r says.
func openUnpacked(dir string, r *record) (openFile, error) {
	root, err := openDir(dir)
	if err != nil {
		return -1, err
	}
	defer root.close()
	f, err := root.openFile(r.path)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f), &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != r.size) {
		err = fmt.Errorf("%s: %w", r.path, ErrCorrupt)
	}
	if err != nil {
		return -1, errors.Join(err, f.Close())
	}
	return f, nil
}

// sparseContent finds a file by the number of its tar header: its content is
// not one piece of the tar.
func sparseContent(f *os.File, r *record) (io.ReadCloser, error) {
	tr := tar.NewReader(f)
	for n := int64(0); ; n++ {
		if _, err := tr.Next(); err != nil {
			f.Close()
			return nil, fmt.Errorf("tar entry %d of %d: %w", n, r.offset, err)
		}
		if n == r.offset {
			return readCloser{tr, f}, nil
		}
	}
}
