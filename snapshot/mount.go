package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MountError is returned by NewTree when the kernel refuses the overlay mount.
type MountError struct {
	Reason string // what stands in the way, as far as it can be told
	Hint   string // the smallest change that would help
	Err    error  // what the kernel said
}

// Error implements error.
func (e *MountError) Error() string { return fmt.Sprintf("mount overlay: %s (%v)", e.Reason, e.Err) }

// Unwrap gives the errno.
func (e *MountError) Unwrap() error { return e.Err }

// maxLowers is how many lower directories overlayfs takes.
const maxLowers = 500

// overlay is a mount to be made.
type overlay struct {
	lowers              []string // topmost first, at least one
	upper, work, target string
	legacy              bool // use mount(2) only
}

// mount makes the overlay, private to this mount namespace. The new mount API
// takes any number of layers with any names; mount(2) of kernels before 6.8
// has to fit everything on one page, which the detour through /proc/self/fd
// stretches to about two hundred layers.
func (o overlay) mount() error {
	if len(o.lowers) > maxLowers {
		return fmt.Errorf("mount overlay: %d layers, the kernel stacks at most %d; squash some of the base's layers", len(o.lowers), maxLowers)
	}
	names, release, err := shortNames(append([]string{o.upper, o.work}, o.lowers...))
	if err != nil {
		return err
	}
	defer release()
	short := overlay{lowers: names[2:], upper: names[0], work: names[1], target: o.target}
	err = errOldKernel
	if !o.legacy {
		err = short.mountNew()
	}
	if errors.Is(err, errOldKernel) {
		err = short.mountOld()
	}
	if err != nil {
		return o.diagnose(err)
	}
	if err := unix.Mount("", o.target, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s private: %w", o.target, err), unix.Unmount(o.target, unix.MNT_DETACH))
	}
	return nil
}

// errOldKernel means that the new mount API, or what we need of it, is missing.
var errOldKernel = errors.New("no lowerdir+ in this kernel")

// shortNames gives directories names that are short and free of characters
// mount options treat specially, until release is called.
func shortNames(dirs []string) (names []string, release func(), err error) {
	var fds []int
	release = func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			release()
			return nil, nil, pathErr("open", dir, err)
		}
		fds = append(fds, fd)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	if _, err := os.Stat(names[0]); err != nil { // no /proc, or one of another pid namespace
		return dirs, release, nil
	}
	return names, release, nil
}

func (o overlay) mountNew() error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return errOldKernel // or a seccomp filter; mount(2) will tell
	}
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for i, lower := range o.lowers {
		if err := unix.FsconfigSetString(fs, "lowerdir+", lower); err != nil {
			if i == 0 && errors.Is(err, unix.EINVAL) {
				return errOldKernel
			}
			return withKernelLog(fs, err)
		}
	}
	for _, opt := range [][2]string{{"upperdir", o.upper}, {"workdir", o.work}, {"index", "off"}, {"metacopy", "off"}} {
		if err := unix.FsconfigSetString(fs, opt[0], opt[1]); err != nil {
			return withKernelLog(fs, fmt.Errorf("%s: %w", opt[0], err))
		}
	}
	for _, flag := range []string{"userxattr", "volatile"} {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return withKernelLog(fs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return withKernelLog(fs, err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, o.target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// withKernelLog adds what the kernel wrote about a failed mount.
func withKernelLog(fs int, err error) error {
	var lines []string
	buf := make([]byte, 1024)
	for len(lines) < 8 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break
		}
		lines = append(lines, strings.TrimSpace(string(buf[:n])))
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}

func (o overlay) mountOld() error {
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr,volatile,index=off,metacopy=off",
		strings.Join(o.lowers, ":"), o.upper, o.work)
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers need %d bytes of mount options, this kernel takes %d: %w", len(o.lowers), len(data), os.Getpagesize()-1, unix.E2BIG)
	}
	return unix.Mount("overlay", o.target, "overlay", 0, data)
}

// diagnose explains an error of the kernel.
func (o overlay) diagnose(err error) error {
	e := &MountError{Reason: "refused by the kernel", Hint: "run mbuild doctor", Err: err}
	var fs unix.Statfs_t
	switch {
	case errors.Is(err, unix.E2BIG):
		e.Reason, e.Hint = "too many layers for this kernel", "use Linux 6.8 or later, or a base with fewer layers"
	case unix.Statfs(o.upper, &fs) == nil && int64(fs.Type) == unix.OVERLAYFS_SUPER_MAGIC:
		e.Reason = "the state directory is itself on overlayfs, which cannot hold the upper directory of another overlay"
		e.Hint = "put the state directory (--root) on a volume or another file system"
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		e.Reason = "mounts are not allowed here"
		e.Hint = "allow user namespaces and mounts in them (seccomp and AppArmor profiles can forbid both)"
	case errors.Is(err, unix.ENODEV):
		e.Reason, e.Hint = "this kernel has no overlayfs", "load the module overlay"
	case errors.Is(err, unix.EINVAL):
		e.Reason = "the kernel or the file system of the state directory does not support it (Linux 5.11 or later and user xattrs are needed)"
		e.Hint = "put the state directory (--root) on ext4, xfs or btrfs"
	}
	return e
}
