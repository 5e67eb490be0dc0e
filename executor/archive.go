package executor

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"mbuild/snapshot"
)

// maxUnpacked bounds what one archive of ADD may expand to.
const maxUnpacked = 256 << 30

// extract unpacks an archive of ADD into the destination, which then is a directory. It
// reports false when the selection is no archive, or one of a web server that --unpack
// does not ask for, and has to be copied.
func (c *copyPlan) extract(ctx context.Context, d *draft, s selection) (bool, error) {
	top := s.picks[0].entry
	wanted := !s.remote
	if c.op.Unpack != nil {
		wanted = *c.op.Unpack
	}
	if !c.op.Add || !wanted || top.Type != snapshot.Regular {
		return false, nil
	}
	if ok, err := isArchive(ctx, s.files, top.Path); err != nil || !ok {
		return false, err
	}
	dest, err := resolve(d.Lookup, c.op.Dest, true)
	if err != nil {
		return false, err
	}
	if err := d.mkdirAll(dest, 0o755, c.owner); err != nil {
		return false, err
	}
	x := &extraction{draft: d, dest: dest, owner: c.owner, archive: top.Path}
	if err := x.run(ctx, s.files); err != nil {
		return false, fmt.Errorf("extract %s: %w", top.Path, err)
	}
	return true, nil
}

// isArchive reports whether the file is a tar archive, compressed or not: whether a
// first header can be read.
func isArchive(ctx context.Context, files Files, name string) (bool, error) {
	f, err := files.Open(ctx, name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, err := decompress(f)
	if err != nil {
		return false, nil
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil, nil
}

// extraction unpacks one archive into a draft. Everything stays below dest: links in
// the archive and in the image are followed as if dest were the root directory.
// File contents go to a spool file, since the layer is written in another order.
type extraction struct {
	draft   *draft
	dest    string
	owner   owner
	archive string
	spool   *os.File
	offset  int64
}

func (x *extraction) run(ctx context.Context, files Files) error {
	f, err := files.Open(ctx, x.archive)
	if err != nil {
		return err
	}
	defer f.Close()
	return x.read(ctx, f)
}

// read unpacks the bytes of an archive.
func (x *extraction) read(ctx context.Context, archive io.Reader) error {
	r, err := decompress(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	if x.spool, err = x.draft.tempFile(); err != nil {
		return err
	}
	in := tar.NewReader(io.LimitReader(r, maxUnpacked))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, in); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// lookup sees the draft with dest as its root.
func (x *extraction) lookup(name string) (snapshot.Entry, error) {
	return x.draft.Lookup(path.Join(x.dest, name))
}

func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	inside, err := resolve(x.lookup, h.Name, false)
	if err != nil || inside == "." {
		return err // the root entry of the archive does not change the destination
	}
	e := snapshot.Entry{
		Path: path.Join(x.dest, inside), Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid,
		ModTime: h.ModTime, Xattrs: archiveXattrs(h),
	}
	x.owner.apply(&e)
	if err := x.draft.mkdirAll(path.Dir(e.Path), 0o755, x.owner); err != nil {
		return err
	}
	n := &node{}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Type, e.Size = snapshot.Regular, h.Size
		if n.content, err = x.store(content, h.Size); err != nil {
			return err
		}
	case tar.TypeDir:
		e.Type = snapshot.Directory
	case tar.TypeSymlink:
		e.Type, e.Link, e.Mode = snapshot.Symlink, h.Linkname, 0o777
	case tar.TypeLink:
		return x.hardlink(e.Path, h.Linkname)
	case tar.TypeFifo:
		e.Type = snapshot.Fifo
	case tar.TypeChar, tar.TypeBlock:
		e.Type = snapshot.Char
		if h.Typeflag == tar.TypeBlock {
			e.Type = snapshot.Block
		}
		e.DevMajor, e.DevMinor = h.Devmajor, h.Devminor
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("unsupported kind of archive entry %q", h.Typeflag)
	}
	n.entry = e
	return x.draft.replace(n)
}

// hardlink makes name another name of a file that the archive holds or, as a copy of
// it, of one that the image already has.
func (x *extraction) hardlink(name, target string) error {
	inside, err := resolve(x.lookup, target, false)
	if err != nil {
		return err
	}
	other := path.Join(x.dest, inside)
	e, err := x.draft.Lookup(other)
	if err != nil {
		return err
	}
	if e.Type == snapshot.Directory {
		return fmt.Errorf("hard link to the directory %q", target)
	}
	first := x.draft.nodes[other]
	if first == nil {
		below := x.draft.below
		first = &node{entry: e}
		if e.Type == snapshot.Regular {
			first.content = func(ctx context.Context) (io.ReadCloser, error) { return below.Open(ctx, e.Path) }
		}
		x.draft.nodes[other] = first
	}
	if first.group == "" {
		first.group = "archive\x00" + other
	}
	link := *first
	link.entry.Path = name
	return x.draft.replace(&link)
}

// store keeps the content of one file and returns how to read it again.
func (x *extraction) store(content io.Reader, size int64) (func(context.Context) (io.ReadCloser, error), error) {
	start := x.offset
	n, err := io.Copy(x.spool, content)
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, fmt.Errorf("got %d of %d bytes", n, size)
	}
	x.offset += n
	return func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(x.spool, start, n)), nil
	}, nil
}

func archiveXattrs(h *tar.Header) map[string]string {
	var attrs map[string]string
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if attrs == nil {
				attrs = map[string]string{}
			}
			attrs[name] = v
		}
	}
	return attrs
}

// decompress recognises a compression by the first bytes, whatever the name says.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(in)), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		x, err := xz.NewReader(in)
		return io.NopCloser(x), err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}
