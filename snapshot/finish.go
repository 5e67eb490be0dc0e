package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The xattrs overlayfs keeps its notes in, with the mount option userxattr.
const (
	overlayOpaque = "user.overlay.opaque"
	overlayOrigin = "user.overlay.origin"
)

// impliedDirectory is what a directory without an entry gets on disk. A Tree
// gives it the metadata of the layers below, if they have it.
var impliedDirectory = record{typ: Directory, mode: 0o755}

// finish makes everything that is not a regular file's content, directories
// last and from the leaves up, so that their times stay. Then the directory
// gets its name.
func (u *unpacker) finish(records []record) error {
	described := make(map[string]*record)
	special := make(map[string]bool) // not regular, has several names
	for i := range records {
		r := &records[i]
		if err := u.ctx.Err(); err != nil {
			return err
		}
		if err := u.make(r, special); err != nil {
			return fmt.Errorf("unpack %q: %w", r.path, err)
		}
		if r.typ == Directory {
			described[r.path] = r
		}
	}
	for _, dir := range deepestFirst(u.made) {
		r := described[dir]
		if r == nil {
			r = &impliedDirectory
		}
		if err := u.finishDirectory(dir, r); err != nil {
			return fmt.Errorf("unpack %q: %w", dir, err)
		}
	}
	return installDir(u.dir, u.to)
}

// make makes what a record stands for, but for regular files and hard links to
// them, which exist already.
func (u *unpacker) make(r *record, special map[string]bool) error {
	if r.typ == Directory || r.typ == Opaque {
		if err := u.mkdirAll(r.path); err != nil {
			return err
		}
		if r.typ == Opaque {
			return u.mark(r.path, overlayOpaque, "y")
		}
		return nil
	}
	dir := parentOf(r.path)
	if err := u.mkdirAll(dir); err != nil { // a directory made before is only noted again
		return err
	}
	if r.typ == Regular || r.typ == Hardlink && !special[r.link] {
		return nil
	}
	if r.typ == Hardlink {
		return u.linkNow(r.link, r.path)
	}
	special[r.path] = r.flags&flagLinked != 0
	hidden := r.typ == Whiteout
	err := u.in(r.path, func(d dirFD, name string) (err error) {
		if hidden, err = makeSpecial(d, name, r); err != nil || hidden {
			return err
		}
		return setSpecialMetadata(d, name, r)
	})
	if err == nil && hidden {
		// Zero bytes of "origin" tell overlayfs that a directory may have
		// whiteouts though it is not merged with another one.
		err = tolerable(u.mark(dir, overlayOrigin, ""))
	}
	return err
}

// deepestFirst lists directories so that none comes before what is in it.
func deepestFirst(dirs map[string]bool) []string {
	depth := func(p string) int {
		if p == "." {
			return -1
		}
		return strings.Count(p, "/")
	}
	return slices.SortedFunc(maps.Keys(dirs), func(a, b string) int {
		return cmp.Or(depth(b)-depth(a), cmp.Compare(a, b))
	})
}

// makeSpecial makes a symlink, fifo, device or whiteout. hidden says that it
// became a whiteout.
func makeSpecial(d dirFD, name string, r *record) (hidden bool, err error) {
	switch r.typ {
	case Symlink:
		return false, d.symlink(r.link, name)
	case Fifo:
		return false, d.mknod(name, unix.S_IFIFO|0o600, 0)
	case Char, Block:
		kind := uint32(unix.S_IFCHR)
		if r.typ == Block {
			kind = unix.S_IFBLK
		}
		err := d.mknod(name, kind|0o600, unix.Mkdev(r.major, r.minor))
		if !errors.Is(err, unix.EPERM) {
			return false, err
		}
	}
	return true, d.mknod(name, unix.S_IFCHR, 0)
}

func setSpecialMetadata(d dirFD, name string, r *record) error {
	if err := d.chown(name, int(r.uid), int(r.gid)); err != nil {
		return ownerError(name, r, errors.Unwrap(err))
	}
	if r.typ != Symlink {
		if err := d.chmod(name, r.mode); err != nil {
			return err
		}
	}
	for _, x := range r.xattrs {
		if err := tolerable(unix.Lsetxattr(procPath(d, name), x.key, []byte(x.value), 0)); err != nil && !errors.Is(err, unix.ENOENT) {
			return pathErr("setxattr "+x.key, name, err)
		}
	}
	return d.utimes(name, r)
}

// procPath names something in an open directory for calls that have no *at form.
func procPath(d dirFD, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(d)) + "/" + name
}

// mark sets one of overlayfs's xattrs on a directory.
func (u *unpacker) mark(dir, key, value string) error {
	d, err := u.root.dir(dir)
	if err != nil {
		return err
	}
	defer d.close()
	return pathErr("setxattr "+key, dir, unix.Fsetxattr(int(d), key, []byte(value), 0))
}

func (u *unpacker) finishDirectory(dir string, r *record) error {
	d, err := u.root.dir(dir)
	if err != nil {
		return err
	}
	defer d.close()
	return setMetadata(int(d), dir, r)
}
