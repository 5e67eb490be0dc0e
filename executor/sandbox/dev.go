package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// devices are bound from outside: nobody can make any in a user namespace.
func devices() []string { return []string{"null", "zero", "full", "random", "urandom", "tty"} }

type link struct{ name, to string }

func devLinks() []link {
	return []link{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"core", "/proc/kcore"},
		{"ptmx", "pts/ptmx"},
	}
}

// dev mounts /dev and what is in it.
func (t *tree) dev() error {
	dev, err := newFilesystem("tmpfs", noSuid|unix.MOUNT_ATTR_STRICTATIME, option{"mode", "755"}, option{"size", "64m"})
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	if err := t.put(dev, "/dev", dirplace); err != nil {
		return err
	}
	for _, name := range devices() {
		if err := bindDevice(dev, name); err != nil {
			return &SetupError{Op: "bind /dev/" + name, Err: err}
		}
	}
	for _, l := range devLinks() {
		if err := unix.Symlinkat(l.to, dev, l.name); err != nil {
			return &SetupError{Op: "link /dev/" + l.name, Err: err}
		}
	}
	return t.devMounts(dev)
}

func bindDevice(dev int, name string) error {
	mount, err := clone(unix.AT_FDCWD, "/dev/"+name)
	if err == unix.ENOENT && name == "tty" {
		return nil // missing in some containers, and of no use without a terminal
	}
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := unix.Mknodat(dev, name, unix.S_IFREG|0o666, 0); err != nil {
		return err
	}
	return unix.MoveMount(mount, "", dev, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// devMounts mounts the filesystems in /dev.
func (t *tree) devMounts(dev int) error {
	pts := []option{{"ptmxmode", "0666"}, {"mode", "0620"}}
	if t.request.PtsGID >= 0 {
		pts = append(pts, option{"gid", fmt.Sprint(t.request.PtsGID)})
	}
	for _, m := range []struct {
		name, kind string
		attributes int
		options    []option
		optional   bool
	}{
		{"pts", "devpts", noSuid | noExec, pts, false},
		{"shm", "tmpfs", noSuid | noDev | noExec, []option{{"mode", "1777"}, {"size", fmt.Sprint(t.request.ShmSize)}}, false},
		{"mqueue", "mqueue", noSuid | noDev | noExec, nil, true},
	} {
		err := mountInDev(dev, m.name, m.kind, m.attributes, m.options)
		if m.optional && errors.Is(err, unix.ENODEV) {
			continue // not built into this kernel
		}
		if err != nil {
			return &SetupError{Op: "mount /dev/" + m.name, Err: err}
		}
	}
	return nil
}

func mountInDev(dev int, name, kind string, attributes int, options []option) error {
	mount, err := newFilesystem(kind, attributes, options...)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := unix.Mkdirat(dev, name, 0o755); err != nil {
		return err
	}
	return unix.MoveMount(mount, "", dev, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
