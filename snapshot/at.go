package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirFD is a directory held open. Its methods take paths relative to it and
// never leave it: ".." that would, and symlinks anywhere on the way, are
// errors of the kernel (openat2). Errors are *fs.PathError with that path.
type dirFD int

// openDir opens a directory of the store itself by name.
func openDir(name string) (dirFD, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	return dirFD(fd), pathErr("open", name, err)
}

func (d dirFD) close() { _ = unix.Close(int(d)) }

func (d dirFD) open(name string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(int(d), name, &how) })
	return fd, pathErr("open", name, err)
}

// dir opens a directory below d for reading.
func (d dirFD) dir(name string) (dirFD, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return dirFD(fd), err
}

// The methods below take a single name, of something directly in d.

func (d dirFD) mkdir(name string, mode uint32) error {
	return pathErr("mkdir", name, unix.Mkdirat(int(d), name, mode))
}

func (d dirFD) symlink(target, name string) error {
	return pathErr("symlink", name, unix.Symlinkat(target, int(d), name))
}

func (d dirFD) link(name string, to dirFD, toName string) error {
	return pathErr("link", toName, unix.Linkat(int(d), name, int(to), toName, 0))
}

func (d dirFD) mknod(name string, mode uint32, dev uint64) error {
	return pathErr("mknod", name, unix.Mknodat(int(d), name, mode, int(dev)))
}

func (d dirFD) chown(name string, uid, gid int) error {
	return pathErr("chown", name, unix.Fchownat(int(d), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
}

// chmod must not be used on a symlink: the kernel would follow it.
func (d dirFD) chmod(name string, mode uint32) error {
	return pathErr("chmod", name, unix.Fchmodat(int(d), name, mode, 0))
}

func (d dirFD) utimes(name string, r *record) error {
	t, err := unix.TimeToTimespec(r.modTime())
	if err != nil {
		return pathErr("utimes", name, err)
	}
	times := []unix.Timespec{t, t}
	return pathErr("utimes", name, unix.UtimesNanoAt(int(d), name, times, unix.AT_SYMLINK_NOFOLLOW))
}

func (d dirFD) lstat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(d), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, pathErr("lstat", name, err)
}

func (d dirFD) readlink(name string) (string, error) {
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(int(d), name, buf)
	return string(buf[:max(n, 0)]), pathErr("readlink", name, err)
}

func (d dirFD) unlink(name string, flags int) error {
	return pathErr("unlink", name, unix.Unlinkat(int(d), name, flags))
}

// futimes sets both times of an open file.
func futimes(fd int, t unix.Timespec) error {
	times := [2]unix.Timespec{t, t}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		fd, err := f()
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func pathErr(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// splitPath divides a clean relative path into directory and name.
func splitPath(p string) (dir, name string) { return path.Dir(p), lastName(p) }

// openFile is a regular file held open for reading. It is what os.File is, but
// for the runtime's poller, which costs two system calls per file.
type openFile int

// openFile opens a regular file below d. It fails on anything else rather than
// to wait for the other end of a fifo.
func (d dirFD) openFile(name string) (openFile, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	return openFile(fd), nil
}

// Read implements io.Reader.
func (f openFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := retry(func() (int, error) { return unix.Read(int(f), p) })
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (f openFile) Close() error { return unix.Close(int(f)) }

// opaque reports whether overlayfs hides what is below this directory.
func (d dirFD) opaque() (bool, error) {
	var v [1]byte
	n, err := unix.Fgetxattr(int(d), overlayOpaque, v[:])
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ERANGE) {
		return false, nil
	}
	return n == 1 && v[0] == 'y', pathErr("getxattr", overlayOpaque, err)
}

// names lists a directory, sorted by the bytes of the names.
func (d dirFD) names() ([]string, error) {
	fd, err := unix.FcntlInt(uintptr(d), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// drop takes something out of a directory that stays as it was otherwise.
func (d dirFD) drop(name string, flags int) error {
	return d.keepTime(func() error { return d.unlink(name, flags) })
}

// keepTime runs f without letting it change the directory's time.
func (d dirFD) keepTime(f func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d), &st); err != nil {
		return pathErr("stat", ".", err)
	}
	if err := f(); err != nil {
		return err
	}
	return pathErr("utimes", ".", futimes(int(d), st.Mtim))
}
