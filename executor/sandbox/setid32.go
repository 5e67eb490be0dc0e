//go:build 386 || arm

package sandbox

import "golang.org/x/sys/unix"

// The system calls that take 32-bit ids: on these architectures the plain names are older ones that take 16 bits.
const (
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetresuid = unix.SYS_SETRESUID32
	sysSetresgid = unix.SYS_SETRESGID32
)
