package namespace

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// protocol names the conversation and its version. Both halves are the same binary, so a mismatch means that the binary
// was replaced between the two execs, or that somebody else speaks.
const protocol = "mbuild-namespace/1"

// The messages, by name. See the package comment for their order.
const (
	msgMapped  = "mapped"  // outside: the ids are mapped, exec yourself again
	msgBuild   = "build"   // outside: settle in, say ready, carry on; Info is set
	msgLeave   = "leave"   // outside: settle in, say ready, exit with status 0; Info is set
	msgReady   = "ready"   // inside: all is done
	msgRefused = "refused" // inside: Step was refused with Errno; exits
)

// Steps that can be refused inside.
const (
	stepPrivate = "making mounts private"
	stepProc    = "mounting /proc"
)

type message struct {
	Protocol string        `json:"protocol"`
	Name     string        `json:"name"`
	Info     *Info         `json:"info,omitempty"`
	Step     string        `json:"step,omitempty"`
	Errno    syscall.Errno `json:"errno,omitempty"`
}

// line is one end of the socket between the halves.
type line struct{ *os.File }

// maxMessage holds the two id maps of Info at the kernel's limit of 340 ranges each.
const maxMessage = 128 << 10

// lineFD is the inside's end: the first of exec.Cmd.ExtraFiles.
const lineFD = 3

// newLine makes both ends, close-on-exec.
func newLine() (ours, theirs line, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return line{}, line{}, os.NewSyscallError("socketpair", err)
	}
	return line{os.NewFile(uintptr(fds[0]), "build namespace (inside)")}, line{os.NewFile(uintptr(fds[1]), "build namespace (outside)")}, nil
}

// inheritedLine is the inside's end, on the descriptor that the outside put it on.
func inheritedLine() (line, error) {
	kind, err := unix.GetsockoptInt(lineFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return line{}, fmt.Errorf("started as %s, but not by mbuild: descriptor %d is not its socket", Arg0, lineFD)
	}
	return line{os.NewFile(lineFD, "build namespace (outside)")}, nil
}

// send sends m. It fails with EPIPE when the other half is gone.
func (l line) send(m message) error {
	m.Protocol = protocol
	packet, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("message %q: %w", m.Name, err)
	}
	_, err = l.Write(packet)
	return err
}

// receive waits for the next message. It returns io.EOF when the other half is gone.
func (l line) receive() (message, error) {
	packet := make([]byte, maxMessage)
	n, err := l.Read(packet)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return message{}, err
	}
	var m message
	if err := json.Unmarshal(packet[:n], &m); err != nil {
		return message{}, fmt.Errorf("message between mbuild's two halves: %v", err)
	}
	if m.Protocol != protocol {
		return message{}, fmt.Errorf("message between mbuild's two halves: got protocol %q, want %q", m.Protocol, protocol)
	}
	return m, nil
}
