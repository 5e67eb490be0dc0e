package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links that are followed for one path.
const maxLinks = 40

// placeKind is what a mount point has to be.
type placeKind bool

const (
	fileplace placeKind = false
	dirplace  placeKind = true
)

// mountPoint is a directory entry that was made to be mounted on. The parent of the conversation gets a descriptor of the
// directory it is in, together with this, and removes it after the run.
type mountPoint struct {
	Name     string
	Dir      bool
	Dev, Ino uint64
}

// places finds mount points below a root that is not to be trusted, and makes those that are missing. It walks by
// descriptors, one component at a time, and interprets symbolic links and ".." itself: no path leaves the root, whatever is
// in it and whatever happens to it meanwhile.
type places struct {
	root int // O_PATH descriptor of the directory that is "/"
	made func(dir int, m mountPoint) error
}

// walk is the state of one path resolution.
type walk struct {
	places
	dirs []int    // from below the root to where we are; owned
	rest []string // components still to go
	left int      // links that may still be followed
}

// open gives an O_PATH descriptor of target, to be closed by the caller. What is missing of it is made: directories, and at
// the end what kind says. What exists has to be of that kind; a file is everything but a directory.
func (p places) open(target string, kind placeKind) (int, error) {
	w := &walk{places: p, rest: components(target), left: maxLinks}
	defer w.close()
	for len(w.rest) > 0 {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if name == ".." {
			w.up()
			continue
		}
		fd, err := w.step(name, kind)
		if err != nil {
			return -1, err
		}
		if fd >= 0 {
			return fd, nil
		}
	}
	if kind == fileplace {
		return -1, unix.EISDIR
	}
	return unix.FcntlInt(uintptr(w.here()), unix.F_DUPFD_CLOEXEC, 0)
}

// step handles one component. It returns a descriptor when that was the last one and no directory.
func (w *walk) step(name string, kind placeKind) (int, error) {
	fd, err := unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		if err := w.make(name, kind == dirplace || len(w.rest) > 0); err != nil {
			return -1, err
		}
		fd, err = unix.Openat(w.here(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.dirs = append(w.dirs, fd)
		return -1, nil
	case unix.S_IFLNK:
		defer unix.Close(fd)
		return -1, w.follow(fd)
	}
	if len(w.rest) > 0 || kind == dirplace {
		unix.Close(fd)
		return -1, unix.ENOTDIR
	}
	return fd, nil
}

// follow puts the components of a link in front of the rest.
func (w *walk) follow(link int) error {
	if w.left--; w.left < 0 {
		return unix.ELOOP
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", buffer)
	if err != nil {
		return err
	}
	to := string(buffer[:n])
	if path.IsAbs(to) {
		w.close()
	}
	w.rest = append(components(to), w.rest...)
	return nil
}

// make adds an entry to the directory where we are, without changing the directory's times.
func (w *walk) make(name string, dir bool) error {
	var parent, made unix.Stat_t
	if err := unix.Fstat(w.here(), &parent); err != nil {
		return err
	}
	var err error
	if dir {
		err = unix.Mkdirat(w.here(), name, 0o755)
	} else {
		err = unix.Mknodat(w.here(), name, unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return fmt.Errorf("make mount point %s: %w", name, err)
	}
	if err := unix.Fstatat(w.here(), name, &made, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := w.made(w.here(), mountPoint{Name: name, Dir: dir, Dev: uint64(made.Dev), Ino: made.Ino}); err != nil {
		return fmt.Errorf("report mount point %s: %w", name, err)
	}
	return setModTime(w.here(), parent.Mtim)
}

func (w *walk) here() int {
	if len(w.dirs) == 0 {
		return w.root
	}
	return w.dirs[len(w.dirs)-1]
}

// up goes to the directory we came from; the root is its own parent.
func (w *walk) up() {
	if n := len(w.dirs); n > 0 {
		unix.Close(w.dirs[n-1])
		w.dirs = w.dirs[:n-1]
	}
}

// close goes back to the root.
func (w *walk) close() {
	for len(w.dirs) > 0 {
		w.up()
	}
}

// remove takes the mount point away again, if it is still what was made and nothing is in it. The directory it is
// in keeps the time of its last change.
func (m mountPoint) remove(dir int) error {
	var parent, now unix.Stat_t
	err := unix.Fstatat(dir, m.Name, &now, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if uint64(now.Dev) != m.Dev || now.Ino != m.Ino || (!m.Dir && now.Size != 0) {
		return nil
	}
	if err := unix.Fstat(dir, &parent); err != nil {
		return err
	}
	flags := 0
	if m.Dir {
		flags = unix.AT_REMOVEDIR
	}
	switch err := unix.Unlinkat(dir, m.Name, flags); {
	case errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST):
		return nil
	case err != nil:
		return err
	}
	return setModTime(dir, parent.Mtim)
}

// setModTime sets the modification time of a directory given by an O_PATH descriptor.
func setModTime(dir int, t unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}
	return unix.UtimesNanoAt(dir, ".", times, 0)
}

// components splits a path; empty components and "." are nothing.
func components(p string) []string {
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}
