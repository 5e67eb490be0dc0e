package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// tree is the mount tree under construction: the root filesystem, bound onto itself in our own mount namespace.
type tree struct {
	places
	request request
	stash   int // a filesystem in memory that holds the files we make; only binds of single files are seen
	files   int // how many it holds
}

// procRefused tells that the kernel does not allow a new /proc here.
type procRefused struct{ err error }

func (p *procRefused) Error() string { return fmt.Sprintf("mount a new /proc: %v", p.err) }

func (p *procRefused) Unwrap() error { return p.err }

// enterTree makes all mounts and returns a descriptor of the new root, which is a mount of its own.
func enterTree(r request) (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, &SetupError{Op: "make mounts private", Err: err}
	}
	root, err := clone(unix.AT_FDCWD, r.Root)
	if err == nil {
		err = unix.MoveMount(root, "", unix.AT_FDCWD, r.Root, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return -1, &SetupError{Op: "bind root " + r.Root, Err: err}
	}
	t := &tree{places: places{root: root, made: reportMade}, request: r}
	if err := t.makeStash(); err != nil {
		return -1, &SetupError{Op: "mount memory for files", Err: err}
	}
	if err := t.standard(); err != nil {
		return -1, err
	}
	for _, m := range r.Mounts {
		if err := t.mount(m); err != nil {
			return -1, &SetupError{Op: "mount " + m.Target, Err: err}
		}
	}
	if err := t.dropStash(); err != nil {
		return -1, &SetupError{Op: "unmount memory for files", Err: err}
	}
	return root, nil
}

func reportMade(dir int, m mountPoint) error { return report{Made: &m}.send(dir) }

// makeStash mounts the stash on top of the old root, where no path leads. It has to be mounted somewhere: older kernels do
// not bind from an unattached mount.
func (t *tree) makeStash() (err error) {
	t.stash, err = newFilesystem("tmpfs", noSuid|noDev, option{"mode", "700"})
	if err != nil {
		return err
	}
	return unix.MoveMount(t.stash, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// dropStash unmounts the stash; the files that were bound stay. It must not stay on the old root: it would be what
// is unmounted instead of the old root when that has been replaced.
func (t *tree) dropStash() error {
	unix.Close(t.stash)
	return unix.Unmount("/", unix.MNT_DETACH)
}

// standard mounts what every process finds.
func (t *tree) standard() error {
	for _, m := range []struct {
		target string
		mount  func() error
	}{
		{"/proc", t.proc},
		{"/sys", t.sys},
		{"/dev", t.dev},
	} {
		err := m.mount()
		var refused *procRefused
		var setup *SetupError
		switch {
		case errors.As(err, &refused) || errors.As(err, &setup):
			return err
		case err != nil:
			return &SetupError{Op: "mount " + m.target, Err: err}
		}
	}
	return nil
}

// put attaches an unattached tree at target.
func (t *tree) put(mount int, target string, kind placeKind) error {
	place, err := t.open(target, kind)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	return attach(mount, place)
}

// mount makes one of the request's mounts.
func (t *tree) mount(m wireMount) error {
	mount, kind, err := t.source(m)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if m.ReadOnly {
		if err := protect(mount, unix.MOUNT_ATTR_RDONLY); err != nil {
			return fmt.Errorf("make read-only: %w", err)
		}
	}
	return t.put(mount, m.Target, kind)
}

// source gives what is to be mounted, unattached.
func (t *tree) source(m wireMount) (int, placeKind, error) {
	switch m.Kind {
	case tmpfsKind:
		options := []option{{"mode", fmt.Sprintf("%o", m.Mode)}}
		if m.Size > 0 {
			options = append(options, option{"size", fmt.Sprint(m.Size)})
		}
		mount, err := newFilesystem("tmpfs", noSuid|noDev, options...)
		return mount, dirplace, err
	case fileKind:
		mount, err := t.file(m)
		return mount, fileplace, err
	case bindKind:
		return bindSource(m)
	}
	return -1, dirplace, fmt.Errorf("unknown kind %q", m.Kind)
}

// bindSource opens the source of a bind. With Within its links cannot lead out of that directory.
func bindSource(m wireMount) (int, placeKind, error) {
	mount, err := cloneSource(m)
	if err != nil {
		return -1, dirplace, fmt.Errorf("source %s: %w", m.Source, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		unix.Close(mount)
		return -1, dirplace, fmt.Errorf("source %s: %w", m.Source, err)
	}
	return mount, placeKind(st.Mode&unix.S_IFMT == unix.S_IFDIR), nil
}

func cloneSource(m wireMount) (int, error) {
	if m.Within == "" {
		return clone(unix.AT_FDCWD, m.Source)
	}
	dir, err := unix.Open(m.Within, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	source, err := openInRoot(dir, m.Source)
	if err != nil {
		return -1, err
	}
	defer unix.Close(source)
	return clone(source, "")
}

// file puts a file into the stash and gives a read-only mount of it.
func (t *tree) file(m wireMount) (int, error) {
	name := fmt.Sprint(t.files)
	t.files++
	if err := t.write(name, m); err != nil {
		return -1, err
	}
	mount, err := clone(t.stash, name)
	if err != nil {
		return -1, err
	}
	if err := protect(mount, unix.MOUNT_ATTR_RDONLY); err != nil {
		unix.Close(mount)
		return -1, err
	}
	return mount, nil
}

func (t *tree) write(name string, m wireMount) error {
	fd, err := unix.Openat(t.stash, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for rest := m.Data; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := unix.Fchown(fd, m.UID, m.GID); err != nil {
		return err
	}
	return unix.Fchmod(fd, m.Mode)
}
