package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Names below /proc and /sys that tell about, or change, the machine and not the sandbox: the lists of OCI runtimes.
func maskedProc() []string {
	return []string{"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"}
}
func readOnlyProc() []string { return []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} }
func maskedSys() []string    { return []string{"firmware", "devices/virtual/powercap"} }

// proc mounts /proc: a new one for our pid namespace, or the outer one.
func (t *tree) proc() error {
	var proc int
	var err error
	if t.request.OuterProc {
		proc, err = clone(unix.AT_FDCWD, "/proc")
	} else {
		proc, err = newFilesystem("proc", noSuid|noDev|noExec|timeAttributes("/proc"))
		if errors.Is(err, unix.EPERM) {
			return &procRefused{err}
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(proc)
	if err := t.put(proc, "/proc", dirplace); err != nil {
		return err
	}
	if t.request.Insecure {
		return nil
	}
	if err := maskBelow(proc, "/proc", maskedProc()); err != nil {
		return err
	}
	return readOnlyBelow(proc, "/proc", readOnlyProc())
}

// sys mounts /sys, read-only. A sysfs of our own needs a network namespace of our own: it shows the network's devices.
func (t *tree) sys() error {
	sys, err := t.sysfs()
	if err != nil {
		return err
	}
	defer unix.Close(sys)
	if err := t.put(sys, "/sys", dirplace); err != nil {
		return err
	}
	if err := t.cgroup(); err != nil {
		return &SetupError{Op: "mount /sys/fs/cgroup", Err: err}
	}
	if t.request.Insecure {
		return nil
	}
	return maskBelow(sys, "/sys", maskedSys())
}

func (t *tree) sysfs() (int, error) {
	var attributes int
	if !t.request.Insecure {
		attributes = unix.MOUNT_ATTR_RDONLY
	}
	if t.request.Loopback {
		sys, err := newFilesystem("sysfs", noSuid|noDev|noExec|attributes|timeAttributes("/sys"))
		if err == nil {
			return sys, nil
		}
		if err := degraded(NewSysfs, fmt.Sprintf("mount a new /sys: %v", err)); err != nil {
			return -1, err
		}
	}
	sys, err := clone(unix.AT_FDCWD, "/sys")
	if err != nil {
		return -1, err
	}
	if err := protect(sys, noSuid|noDev|noExec|attributes); err != nil {
		unix.Close(sys)
		return -1, err
	}
	return sys, nil
}

// cgroup mounts /sys/fs/cgroup as our cgroup namespace sees it, where there is one unified hierarchy; else the outer one is shown.
func (t *tree) cgroup() error {
	const target = "/sys/fs/cgroup"
	attributes := noSuid | noDev | noExec
	if !t.request.Insecure {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	mount, err := cgroupFS(target, attributes)
	if err != nil {
		return nil // there is none outside either; programs take that for a kernel without cgroups
	}
	defer unix.Close(mount)
	place, err := openInRoot(t.root, target)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(place)
	return attach(mount, place)
}

func cgroupFS(outer string, attributes int) (int, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(outer, &st); err != nil {
		return -1, err
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		if mount, err := newFilesystem("cgroup2", attributes); err == nil {
			return mount, nil
		}
	}
	mount, err := clone(unix.AT_FDCWD, outer)
	if err != nil {
		return -1, err
	}
	if err := protect(mount, attributes); err != nil {
		unix.Close(mount)
		return -1, err
	}
	return mount, nil
}

// maskBelow hides the named paths of a mounted filesystem: files behind /dev/null, directories behind an empty one. Names that
// the kernel does not have are left out.
func maskBelow(dir int, base string, names []string) error {
	return eachBelow(dir, base, names, func(_ int, isDir bool) (int, error) {
		if isDir {
			return newFilesystem("tmpfs", unix.MOUNT_ATTR_RDONLY|noSuid|noDev|noExec)
		}
		return clone(unix.AT_FDCWD, "/dev/null")
	})
}

// readOnlyBelow makes the named paths of a mounted filesystem read-only.
func readOnlyBelow(dir int, base string, names []string) error {
	return eachBelow(dir, base, names, func(place int, _ bool) (int, error) {
		mount, err := clone(place, "")
		if err != nil {
			return -1, err
		}
		if err := protect(mount, unix.MOUNT_ATTR_RDONLY|noSuid|noDev|noExec); err != nil {
			unix.Close(mount)
			return -1, err
		}
		return mount, nil
	})
}

// eachBelow mounts what cover makes over the named paths that exist. Links among them are not followed.
func eachBelow(dir int, base string, names []string, cover func(place int, isDir bool) (int, error)) error {
	for _, name := range names {
		err := coverOne(dir, name, cover)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &SetupError{Op: "protect " + base + "/" + name, Err: err}
		}
	}
	return nil
}

func coverOne(dir int, name string, cover func(place int, isDir bool) (int, error)) error {
	place, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	var st unix.Stat_t
	if err := unix.Fstat(place, &st); err != nil {
		return err
	}
	mount, err := cover(place, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return attach(mount, place)
}

// degraded tells the parent what is weaker than it should be.
func degraded(f Feature, reason string) error {
	return report{Degraded: &Degradation{Feature: f, Reason: reason}}.send(-1)
}
