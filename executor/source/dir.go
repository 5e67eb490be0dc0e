package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mbuild/snapshot"
)

// Ignore decides what of a directory takes part in the build.
type Ignore interface {
	// Excluded reports whether path (relative to the context) stays out, whether
	// nothing below it can come back in, and which rule said so.
	Excluded(path string, isDir bool) (excluded, prune bool, rule string)
}

// ExcludedError says that a file is there but an ignore rule keeps it out of the
// build. It matches fs.ErrNotExist.
type ExcludedError struct {
	Path string // relative to the context
	Rule string // such as `.dockerignore:3 ("dist/")`
}

func (e *ExcludedError) Error() string {
	return fmt.Sprintf("%s is excluded by %s", e.Path, e.Rule)
}

// Is makes an excluded file one that does not exist.
func (e *ExcludedError) Is(target error) bool { return target == fs.ErrNotExist }

// Dir is a local directory as a build context. Everything in it belongs to 0:0,
// as a file of a context does for every builder. Safe for concurrent use.
type Dir struct {
	root   *os.Root
	ignore Ignore
}

// OpenDir opens the directory. ignore may be nil: everything takes part. The caller
// closes the Dir.
func OpenDir(name string, ignore Ignore) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, ignore: ignore}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Lookup describes one path without following a link. The error is an
// *ExcludedError for a path that an ignore rule hides and matches fs.ErrNotExist
// whenever there is nothing to see.
func (d *Dir) Lookup(name string) (snapshot.Entry, error) {
	dir, err := d.open(path.Dir(name))
	if err != nil {
		return snapshot.Entry{}, err
	}
	defer dir.Close()
	e, err := entryAt(dir, name)
	if err != nil {
		return snapshot.Entry{}, err
	}
	if name == "." {
		return e, nil
	}
	visible, rule, err := d.visible(e)
	if err != nil {
		return snapshot.Entry{}, err
	}
	if !visible {
		return snapshot.Entry{}, &ExcludedError{Path: name, Rule: rule}
	}
	return e, nil
}

// ReadDir lists what takes part in the build of the directory name, sorted.
func (d *Dir) ReadDir(name string) ([]snapshot.Entry, error) {
	dir, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.Unwrap(err)}
	}
	slices.Sort(names)
	entries := make([]snapshot.Entry, 0, len(names))
	for _, n := range names {
		e, err := entryAt(dir, path.Join(name, n))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSocket) {
			continue // removed since, or nothing that an image can hold
		}
		if err != nil {
			return nil, err
		}
		visible, _, err := d.visible(e)
		if err != nil {
			return nil, err
		}
		if visible {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Open reads a regular file. Its last component is not followed when it has become a
// link, and a fifo does not block.
func (d *Dir) Open(_ context.Context, name string) (io.ReadCloser, error) {
	dir, err := d.open(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), path.Base(name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file any more")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *Dir) open(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// visible applies the ignore rules. An excluded directory is still there when a
// later rule takes something below it back in.
func (d *Dir) visible(e snapshot.Entry) (visible bool, rule string, err error) {
	if d.ignore == nil {
		return true, "", nil
	}
	isDir := e.Type == snapshot.Directory
	excluded, prune, rule := d.ignore.Excluded(e.Path, isDir)
	if !excluded {
		return true, "", nil
	}
	if !isDir || prune {
		return false, rule, nil
	}
	below, err := d.ReadDir(e.Path)
	return len(below) > 0, rule, err
}

var errSocket = errors.New("a socket cannot be part of an image")

// entryAt describes the file name, whose parent directory is open as dir.
func entryAt(dir *os.File, name string) (snapshot.Entry, error) {
	base := path.Base(name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return snapshot.Entry{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	e := snapshot.Entry{
		Path:    name,
		Mode:    st.Mode & 0o7777,
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = snapshot.Regular, st.Size
		if st.Nlink > 1 {
			e.Link = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
		}
	case unix.S_IFDIR:
		e.Type = snapshot.Directory
	case unix.S_IFLNK:
		e.Type = snapshot.Symlink
		target, err := readlinkAt(dir, base)
		if err != nil {
			return snapshot.Entry{}, &fs.PathError{Op: "readlink", Path: name, Err: err}
		}
		e.Link = target
	case unix.S_IFIFO:
		e.Type = snapshot.Fifo
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Type = snapshot.Char
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = snapshot.Block
		}
		e.DevMajor, e.DevMinor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	default:
		return snapshot.Entry{}, &fs.PathError{Op: "stat", Path: name, Err: errSocket}
	}
	var err error
	if e.Xattrs, err = xattrsAt(dir, base); err != nil {
		return snapshot.Entry{}, &fs.PathError{Op: "getxattr", Path: name, Err: err}
	}
	return e, nil
}

func readlinkAt(dir *os.File, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// xattrsAt reads the attributes that belong to a file's content: the user's own and
// file capabilities. Labels and access lists describe this machine, not the image.
func xattrsAt(dir *os.File, base string) (map[string]string, error) {
	// The descriptor's path names the very directory that was opened.
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), base)
	list := make([]byte, 1024)
	n, err := unix.Llistxattr(name, list)
	for errors.Is(err, syscall.ERANGE) {
		list = make([]byte, len(list)*4)
		n, err = unix.Llistxattr(name, list)
	}
	if err != nil || n == 0 {
		return nil, ignorable(err)
	}
	var attrs map[string]string
	for _, key := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(key, "user.") && key != "security.capability" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			return nil, ignorable(err)
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[key] = string(value[:n])
	}
	return attrs, nil
}

// ignorable drops the errors of file systems that have no extended attributes, of
// files that vanished, and of places without /proc.
func ignorable(err error) error {
	for _, ok := range []error{unix.ENOTSUP, unix.ENODATA, unix.ENOENT, unix.EACCES, unix.EPERM} {
		if errors.Is(err, ok) {
			return nil
		}
	}
	return err
}
