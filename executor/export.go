package executor

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"mbuild/snapshot"
)

// WriteTar writes the filesystem of an image into a tar, with every name below prefix
// ("" for none). Entries are sorted, parents first. The caller closes w.
func (b *Builder) WriteTar(ctx context.Context, image Image, w *tar.Writer, prefix string) error {
	files, err := b.view(ctx, image.Layers)
	if err != nil {
		return err
	}
	first := map[string]string{}
	return walk(ctx, files, ".", func(e snapshot.Entry) error {
		h, err := tarHeader(e, path.Join(prefix, e.Path))
		if err != nil {
			return err
		}
		if e.Type == snapshot.Regular && e.Link != "" {
			if other, ok := first[e.Link]; ok {
				h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
				return w.WriteHeader(h)
			}
			first[e.Link] = h.Name
		}
		if err := w.WriteHeader(h); err != nil || e.Type != snapshot.Regular {
			return err
		}
		return copyContent(ctx, files, e, w)
	})
}

func tarHeader(e snapshot.Entry, name string) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(e.Mode), Uid: e.UID, Gid: e.GID, ModTime: e.ModTime, Format: tar.FormatPAX,
		Devmajor: e.DevMajor, Devminor: e.DevMinor,
	}
	for k, v := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	switch e.Type {
	case snapshot.Regular:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case snapshot.Directory:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case snapshot.Symlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case snapshot.Char:
		h.Typeflag = tar.TypeChar
	case snapshot.Block:
		h.Typeflag = tar.TypeBlock
	case snapshot.Fifo:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, fmt.Errorf("/%s is a %s, which a filesystem cannot hold", e.Path, e.Type)
	}
	return h, nil
}

// WriteDir writes the filesystem of an image into a directory: content, modes and
// times, all owned by whoever builds. Directories that exist are merged, other files
// are replaced. Devices, which only root could make, are left out.
func (b *Builder) WriteDir(ctx context.Context, image Image, root *os.Root) error {
	files, err := b.view(ctx, image.Layers)
	if err != nil {
		return err
	}
	d := &directory{root: root, files: files, first: map[string]string{}}
	if err := walk(ctx, files, ".", func(e snapshot.Entry) error { return d.place(ctx, e) }); err != nil {
		return err
	}
	// Directories get their modes and times last: a mode may forbid writing, and every
	// file made in a directory changes its time.
	for i := len(d.dirs) - 1; i >= 0; i-- {
		e := d.dirs[i]
		if err := errors.Join(root.Chmod(e.Path, fileMode(e)&^fs.ModeDir), root.Chtimes(e.Path, e.ModTime, e.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

// directory is where WriteDir writes to.
type directory struct {
	root  *os.Root
	files Files
	first map[string]string // hard link group -> its first name
	dirs  []snapshot.Entry
}

func (d *directory) place(ctx context.Context, e snapshot.Entry) error {
	if e.Type == snapshot.Directory {
		d.dirs = append(d.dirs, e)
		info, err := d.root.Lstat(e.Path)
		if err == nil && info.IsDir() {
			return d.root.Chmod(e.Path, 0o700|info.Mode().Perm())
		}
		return d.root.Mkdir(e.Path, 0o700)
	}
	if err := d.root.Remove(e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch e.Type {
	case snapshot.Symlink:
		return d.root.Symlink(e.Link, e.Path)
	case snapshot.Regular:
		if other, ok := d.first[e.Link]; ok && e.Link != "" {
			return d.root.Link(other, e.Path)
		}
		d.first[e.Link] = e.Path
		return d.file(ctx, e)
	}
	return nil
}

func (d *directory) file(ctx context.Context, e snapshot.Entry) error {
	out, err := d.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = copyContent(ctx, d.files, e, out)
	if err == nil {
		err = out.Chmod(fileMode(e))
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return d.root.Chtimes(e.Path, e.ModTime, e.ModTime)
}

// walk visits everything below dir, sorted by name, parents first.
func walk(ctx context.Context, files Files, dir string, visit func(snapshot.Entry) error) error {
	entries, err := files.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
		if e.Type == snapshot.Directory {
			if err := walk(ctx, files, e.Path, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyContent(ctx context.Context, files Files, e snapshot.Entry, w io.Writer) error {
	in, err := files.Open(ctx, e.Path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return errors.Join(err, in.Close())
}
