package snapshot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// differ writes the changes an upper directory stands for as a layer. It walks
// the upper directory only. Along the way it takes out of it what the layer
// does not contain, so that the directory ends up as the layer, unpacked:
// other chains may use it.
type differ struct {
	ctx     context.Context
	w       *LayerWriter
	below   *View
	links   map[inodeID]string // first name of files with several
	pending []Entry            // directories on the way down that may turn out unchanged
}

type inodeID struct{ dev, ino uint64 }

// diff writes to w what upper changes in below.
func diff(ctx context.Context, upper string, below *View, w *LayerWriter) error {
	d := &differ{ctx: ctx, w: w, below: below, links: make(map[inodeID]string)}
	root, err := openDir(upper)
	if err != nil {
		return err
	}
	defer root.close()
	old := below.root
	e, err := d.describeDir(root, ".", old)
	if err != nil {
		return err
	}
	e.ModTime = below.entry(".", old).ModTime // adding files to / says nothing about /
	if unchanged(&e, below.entry(".", old)) {
		return d.children(root, ".", old)
	}
	if err := w.Add(e, nil); err != nil {
		return err
	}
	return d.children(root, ".", old)
}

// children walks a directory of the upper one. old is the directory of the
// same path below, nil when there is none or it is hidden.
func (d *differ) children(dir dirFD, at string, old *vnode) error {
	names, err := dir.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		p := path.Join(at, name)
		if len(p) > maxPath {
			return fmt.Errorf("path of %d bytes is longer than %d: %.60q…", len(p), maxPath, p)
		}
		var was *vnode
		if old != nil {
			was = old.children[name]
		}
		if err := d.child(dir, name, p, was); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) child(dir dirFD, name, p string, was *vnode) error {
	st, err := dir.lstat(name)
	if err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return d.deleted(dir, name, p, was)
	case st.Mode&unix.S_IFMT == unix.S_IFSOCK: // dead without its process; what it replaced is gone all the same
		if err := dir.drop(name, 0); err != nil || was == nil {
			return err
		}
		if err := dir.keepTime(func() error { return dir.mknod(name, unix.S_IFCHR, 0) }); err != nil {
			return err
		}
		return d.deleted(dir, name, p, was)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return d.directory(dir, name, p, was)
	}
	return d.file(dir, name, p, &st, was)
}

// deleted handles a whiteout: it counts only where something is below.
func (d *differ) deleted(dir dirFD, name, p string, was *vnode) error {
	if was == nil {
		return dir.drop(name, 0)
	}
	return d.add(Entry{Path: p, Type: Whiteout}, nil)
}

// add writes an entry, after the directories it is in.
func (d *differ) add(e Entry, content io.Reader) error {
	for _, dir := range d.pending {
		if err := d.w.Add(dir, nil); err != nil {
			return err
		}
	}
	d.pending = d.pending[:0]
	return d.w.Add(e, content)
}

func (d *differ) directory(parent dirFD, name, p string, was *vnode) error {
	dir, err := parent.dir(name)
	if err != nil {
		return err
	}
	defer dir.close()
	e, err := d.describeDir(dir, p, was)
	if err != nil {
		return err
	}
	opaque, err := dir.opaque()
	if err != nil {
		return err
	}
	depth := len(d.pending)
	switch {
	case was == nil || !was.dir:
		was = nil
		if err := d.add(e, nil); err != nil {
			return err
		}
		if opaque { // an optimisation of overlayfs for new directories
			if err := unix.Fremovexattr(int(dir), overlayOpaque); err != nil {
				return pathErr("removexattr", p, err)
			}
		}
	case opaque:
		was = nil
		if err := d.add(e, nil); err != nil {
			return err
		}
		if err := d.add(Entry{Path: p, Type: Opaque}, nil); err != nil {
			return err
		}
	case unchanged(&e, d.below.entry(p, was)):
		d.pending = append(d.pending, e)
	default:
		if err := d.add(e, nil); err != nil {
			return err
		}
	}
	if err := d.children(dir, p, was); err != nil {
		return err
	}
	if len(d.pending) > depth { // nothing in it counted
		d.pending = d.pending[:depth]
		return parent.drop(name, unix.AT_REMOVEDIR)
	}
	return nil
}

// file handles what is not a directory.
func (d *differ) file(dir dirFD, name, p string, st *unix.Stat_t, was *vnode) error {
	if st.Nlink > 1 {
		id := inodeID{uint64(st.Dev), st.Ino}
		if first, ok := d.links[id]; ok {
			return d.add(Entry{Path: p, Type: Hardlink, Link: first}, nil)
		}
		d.links[id] = p
	}
	if was != nil && (st.Nlink > 1 || was.dir) {
		was = nil // cannot be as it was
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return d.regular(dir, name, p, st, was)
	}
	e := statEntry(p, st)
	if e.Type == Symlink {
		target, err := dir.readlink(name)
		if err != nil {
			return err
		}
		e.Link = target
	}
	if err := d.setXattrs(&e, pathXattrs(procPath(dir, name)), was); err != nil {
		return err
	}
	if was != nil && unchanged(&e, d.below.entry(p, was)) {
		return dir.drop(name, 0)
	}
	return d.add(e, nil)
}

func (d *differ) regular(dir dirFD, name, p string, st *unix.Stat_t, was *vnode) error {
	f, err := dir.openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	e := statEntry(p, st)
	if err := d.setXattrs(&e, fdXattrs(int(f)), was); err != nil {
		return err
	}
	if was != nil && unchanged(&e, d.below.entry(p, was)) {
		// Opened for writing but not written? Only the content can tell.
		same, err := sameContent(f, was.rec.sum)
		if err != nil {
			return err
		}
		if same {
			return dir.drop(name, 0)
		}
	}
	return d.add(e, cancellable{d.ctx, f})
}

func sameContent(f openFile, sum string) (bool, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, f, make([]byte, copyBuffer)); err != nil {
		return false, err
	}
	_, err := unix.Seek(int(f), 0, io.SeekStart)
	return string(h.Sum(nil)) == sum, err
}

// unchanged compares everything but content. Times count in whole seconds,
// like in the tar.
func unchanged(e *Entry, was Entry) bool {
	return e.Type == was.Type && e.Mode == was.Mode && e.UID == was.UID && e.GID == was.GID && e.Size == was.Size &&
		e.ModTime.Unix() == was.ModTime.Unix() && (e.Type != Symlink || e.Link == was.Link) &&
		e.DevMajor == was.DevMajor && e.DevMinor == was.DevMinor && sameXattrs(e.Xattrs, was.Xattrs)
}

func sameXattrs(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func (d *differ) describeDir(dir dirFD, p string, was *vnode) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir), &st); err != nil {
		return Entry{}, pathErr("stat", p, err)
	}
	e := statEntry(p, &st)
	return e, d.setXattrs(&e, fdXattrs(int(dir)), was)
}

func statEntry(p string, st *unix.Stat_t) Entry {
	types := map[uint32]Type{unix.S_IFDIR: Directory, unix.S_IFLNK: Symlink, unix.S_IFCHR: Char, unix.S_IFBLK: Block, unix.S_IFIFO: Fifo}
	e := Entry{
		Path: p, Type: types[st.Mode&unix.S_IFMT], Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()).UTC(),
	}
	switch e.Type {
	case Regular:
		e.Size = st.Size
	case Char, Block:
		e.DevMajor, e.DevMinor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
	return e
}

// setXattrs gives e the attributes found, without overlayfs's own. A file copied
// up from below keeps the attributes that could not be set on disk there (and
// which, for the same reason, nothing in the tree can have changed).
func (d *differ) setXattrs(e *Entry, x xattrReader, was *vnode) error {
	all, err := x.all()
	if err != nil {
		return pathErr("listxattr", e.Path, err)
	}
	_, copied := all[overlayOrigin]
	for k, v := range all {
		if !overlayXattr(k) {
			e.set(k, v)
		}
	}
	if !copied || was == nil || was.rec == nil || was.rec.typ != e.Type {
		return nil
	}
	for _, x := range was.rec.xattrs {
		if _, have := all[x.key]; !have && unsettable(x.key) {
			e.set(x.key, x.value)
		}
	}
	return nil
}
