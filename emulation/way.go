package emulation

import (
	"github.com/opencontainers/go-digest"
)

// Kind says in which of the four ways a platform's programs run.
type Kind int

// The zero Kind is Missing, so that a forgotten Way promises nothing.
const (
	Missing Kind = iota
	Native
	QEMU
	HostHandler
)

// String is the word for display.
func (k Kind) String() string {
	switch k {
	case Native:
		return "native"
	case QEMU:
		return "qemu"
	case HostHandler:
		return "host handler"
	default:
		return "missing"
	}
}

// Way is how the programs of one platform run here.
type Way struct {
	Kind Kind
	// Emulator is the absolute path of the QEMU binary; QEMU only.
	Emulator string
	// Version is what the emulator says of itself, such as "7.2.22"; filled in by Set.Identify, QEMU only.
	Version string
	// Digest is the emulator's content; filled in by Set.Identify, QEMU only.
	Digest digest.Digest
	// Reason says why, for Missing; for the others it may hold a remark. One line, lower case.
	Reason string
	// Hint is what would help, for Missing: a command or flag that can be pasted.
	Hint string
}
