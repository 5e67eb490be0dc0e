package seccomp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// instructionSize is the size of the kernel's struct sock_filter: code uint16, jt uint8, jf uint8, k uint32.
const instructionSize = 8

func encode(raw []bpf.RawInstruction) Filter {
	f := make(Filter, 0, len(raw)*instructionSize)
	for _, r := range raw {
		f = binary.NativeEndian.AppendUint16(f, r.Op)
		f = append(f, r.Jt, r.Jf)
		f = binary.NativeEndian.AppendUint32(f, r.K)
	}
	return f
}

// Load puts the filter on the calling thread, for good; the caller has locked the thread. It does not set
// no_new_privs, so the thread needs CAP_SYS_ADMIN in its user namespace, unless no_new_privs is set already.
func (f Filter) Load() error {
	n := len(f) / instructionSize
	if n == 0 || n > maxInstructions || len(f)%instructionSize != 0 {
		return fmt.Errorf("load seccomp filter: %d bytes are not a program", len(f))
	}
	// Copied for its alignment: the kernel reads it as it is, Go wants a *SockFilter to be aligned.
	program := make([]unix.SockFilter, n)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&program[0])), len(f)), f)
	fprog := unix.SockFprog{Len: uint16(n), Filter: &program[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	if e != 0 {
		return fmt.Errorf("load seccomp filter: %w", e)
	}
	return nil
}
