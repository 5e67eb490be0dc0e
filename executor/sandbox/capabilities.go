package sandbox

import (
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// defaultCapabilities are what root has in a container.
func defaultCapabilities() []capability.Cap {
	return []capability.Cap{
		capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_FSETID, capability.CAP_FOWNER,
		capability.CAP_MKNOD, capability.CAP_NET_RAW, capability.CAP_SETGID, capability.CAP_SETUID,
		capability.CAP_SETFCAP, capability.CAP_SETPCAP, capability.CAP_NET_BIND_SERVICE,
		capability.CAP_SYS_CHROOT, capability.CAP_KILL, capability.CAP_AUDIT_WRITE,
	}
}

// capabilityNames are the default capabilities as system call profiles name them.
func capabilityNames() []string {
	var names []string
	for _, c := range defaultCapabilities() {
		names = append(names, "CAP_"+strings.ToUpper(c.String()))
	}
	return names
}

// capabilitySet is a set of capabilities as bits.
type capabilitySet uint64

func (s capabilitySet) has(n int) bool { return s&(1<<n) != 0 }

func setOf(caps []capability.Cap) capabilitySet {
	var s capabilitySet
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// dropBounding takes everything but keep from the bounding set of this thread.
func dropBounding(keep capabilitySet) error {
	for n := range 64 {
		if keep.has(n) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		if err == unix.EINVAL {
			return nil // the kernel has no more
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setCapabilities makes s the permitted and effective set of this thread, and the inheritable and ambient sets empty.
func setCapabilities(s capabilitySet) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(s), Permitted: uint32(s)},
		{Effective: uint32(s >> 32), Permitted: uint32(s >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

// permitted gives the permitted set of this thread.
func permitted() (capabilitySet, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return capabilitySet(data[0].Permitted) | capabilitySet(data[1].Permitted)<<32, nil
}
