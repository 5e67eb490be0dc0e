package executor

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"mbuild/snapshot"
)

// Unpacked is the files of an archive, in a file without a name that goes with Close.
type Unpacked struct {
	draft *draft
	dirs  map[string][]snapshot.Entry
}

// Unpack reads a tar archive, compressed or not, to its end. As files of a build context its
// files belong to 0:0, whoever packed them. Nothing in the archive leads out of the tree. The caller closes what it returns.
func (r *Remotes) Unpack(ctx context.Context, archive io.Reader) (_ *Unpacked, err error) {
	d := newDraft(noFiles{}, time.Now().UTC(), r.temp)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	x := &extraction{draft: d, dest: ".", owner: owner{set: true}}
	if err := x.read(ctx, archive); err != nil {
		return nil, err
	}
	u := &Unpacked{draft: d, dirs: map[string][]snapshot.Entry{}}
	for name, n := range d.nodes {
		e := n.entry
		if e.Type == snapshot.Regular {
			e.Link = n.group
			n.entry = e
		}
		dir := path.Dir(name)
		u.dirs[dir] = append(u.dirs[dir], e)
	}
	for _, entries := range u.dirs {
		slices.SortFunc(entries, func(a, b snapshot.Entry) int { return strings.Compare(a.Path, b.Path) })
	}
	return u, nil
}

// Close gives the files up.
func (u *Unpacked) Close() error { return u.draft.close() }

// Lookup describes one path without following a link.
func (u *Unpacked) Lookup(name string) (snapshot.Entry, error) { return u.draft.Lookup(name) }

// ReadDir lists a directory, sorted.
func (u *Unpacked) ReadDir(name string) ([]snapshot.Entry, error) {
	if e, err := u.Lookup(name); err != nil || e.Type != snapshot.Directory {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(u.dirs[name]), nil
}

// Open reads a regular file.
func (u *Unpacked) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	n := u.draft.nodes[name]
	if n == nil || n.content == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return n.content(ctx)
}

// ArchiveHead is how many bytes at the start of a file IsArchive wants to see.
const ArchiveHead = 64 << 10

// IsArchive reports whether a file that begins with head is a tar archive, compressed or not.
// What is compressed is taken for one.
func IsArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}

// ReadFile reads a file of at most limit bytes, following links inside the tree.
func ReadFile(ctx context.Context, files Files, name string, limit int64) ([]byte, error) {
	at, err := resolve(files.Lookup, name, true)
	if err != nil {
		return nil, err
	}
	e, err := files.Lookup(at)
	if err != nil {
		return nil, err
	}
	if e.Type != snapshot.Regular {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is a %s", e.Type)}
	}
	f, err := files.Open(ctx, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}
