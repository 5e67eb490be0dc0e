package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Mount attributes that the standard mounts combine.
const (
	noSuid = unix.MOUNT_ATTR_NOSUID
	noDev  = unix.MOUNT_ATTR_NODEV
	noExec = unix.MOUNT_ATTR_NOEXEC
)

// option is a parameter of a filesystem; one without a value is a flag.
type option struct{ key, value string }

// newFilesystem makes a filesystem that is not attached anywhere, and returns a descriptor of its root.
func newFilesystem(kind string, attributes int, options ...option) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s=%s: %w", o.key, o.value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
}

// clone makes a copy of the mount tree at name (relative to dir; "" is dir itself) that is not attached anywhere.
func clone(dir int, name string) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.OpenTree(dir, name, flags)
}

// protect adds attributes to a tree of mounts and to all below it. Attributes the outer namespace insists on stay.
func protect(tree, attributes int) error {
	set := &unix.MountAttr{Attr_set: uint64(attributes)}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, set)
}

// attach puts an unattached tree on a place (both descriptors). The tree's descriptor stays valid.
func attach(tree, place int) error {
	return unix.MoveMount(tree, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// timeAttributes gives the access time policy of the filesystem at name: the kernel wants a second instance of /proc or /sys to
// have the policy of the first.
func timeAttributes(name string) int {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return 0
	}
	switch {
	case st.Flags&unix.ST_NOATIME != 0:
		return unix.MOUNT_ATTR_NOATIME
	case st.Flags&unix.ST_RELATIME == 0:
		return unix.MOUNT_ATTR_STRICTATIME
	}
	return 0 // relatime
}
