package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The conversation. The parent writes one request into a memory file, which the child finds on descriptor requestFD. The child
// answers on a sequenced-packet socket, descriptor reportFD, one report per packet; the socket's end tells it that the
// parent is gone or wants it to end. Both descriptors are closed by the execution of the program.
//
//	parent                          child
//	request  ─────────────────────▶ mounts, names, limits
//	         ◀───────────────────── made (with a descriptor), degraded: any number
//	         ◀───────────────────── refused: new /proc not allowed, nothing was executed; the parent asks again without
//	         ◀───────────────────── started: the program is about to be executed
//	         ◀───────────────────── failed: setup failed, or the program could not be executed
//	         ◀───────────────────── exited: only from the supervisor (ProcOuter)
const protocolVersion = 1

const (
	requestFD = 3
	reportFD  = 4
)

// maxReport bounds a packet of the child, which is trusted no more than necessary.
const maxReport = 64 << 10

// request is all the child needs to know. It has no choices left in it.
type request struct {
	Version   int
	Root      string
	Args, Env []string
	Dir       string
	Hostname  string
	Identity  identity
	Loopback  bool // there is a network namespace of our own
	OuterProc bool
	Insecure  bool
	Mounts    []wireMount
	ShmSize   int64
	PtsGID    int // group of terminals, -1: not mapped
	Ulimits   []wireLimit
	Filter    []byte `json:",omitempty"`
}

// identity is who the program runs as, in numbers.
type identity struct {
	UID, GID  int
	Groups    []int
	SetGroups bool // setgroups(2) is allowed here
}

type wireKind string

const (
	bindKind  wireKind = "bind"
	tmpfsKind wireKind = "tmpfs"
	fileKind  wireKind = "file"
)

// wireMount is a Mount or a File.
type wireMount struct {
	Kind     wireKind
	Target   string
	Source   string `json:",omitempty"`
	Within   string `json:",omitempty"`
	ReadOnly bool   `json:",omitempty"`
	Size     int64  `json:",omitempty"`
	Mode     uint32 `json:",omitempty"`
	UID, GID int
	Data     []byte `json:",omitempty"`
}

type wireLimit struct {
	Name       string
	Resource   int
	Soft, Hard uint64
}

// report is one packet of the child: exactly one field beside Version is set.
type report struct {
	Version  int
	Made     *mountPoint  `json:",omitempty"`
	Degraded *Degradation `json:",omitempty"`
	Refused  string       `json:",omitempty"`
	Started  bool         `json:",omitempty"`
	Failed   *failure     `json:",omitempty"`
	Exited   *uint32      `json:",omitempty"` // wait status
}

// failure carries an error from the child. Code is 0 for a SetupError, else the ExitError's.
type failure struct {
	Code  int
	Op    string
	Errno syscall.Errno
	Text  string
}

func failureOf(err error) *failure {
	f := &failure{Text: err.Error()}
	errors.As(err, &f.Errno)
	var exit *ExitError
	var setup *SetupError
	switch {
	case errors.As(err, &exit):
		f.Code = exit.Code
	case errors.As(err, &setup):
		f.Op, f.Text = setup.Op, setup.Err.Error()
	}
	return f
}

// err is the opposite of failureOf.
func (f *failure) err() error {
	var cause error = f.Errno
	if f.Errno == 0 || f.Text != f.Errno.Error() {
		cause = &described{text: f.Text, errno: f.Errno}
	}
	if f.Code != 0 {
		return &ExitError{Code: f.Code, Err: cause}
	}
	return &SetupError{Op: f.Op, Err: cause}
}

// described is an error with its own words that still is the system's error.
type described struct {
	text  string
	errno syscall.Errno
}

func (d *described) Error() string { return d.text }

func (d *described) Unwrap() error {
	if d.errno == 0 {
		return nil
	}
	return d.errno
}

// requestFile puts the request into a memory file, to be read from its start.
func requestFile(r request) (*os.File, error) {
	fd, err := unix.MemfdCreate("mbuild-request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "request")
	if err := json.NewEncoder(f).Encode(r); err != nil {
		f.Close()
		return nil, fmt.Errorf("write request: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("write request: %w", err)
	}
	return f, nil
}

// readRequest takes the request from the memory file and closes it.
func readRequest() (request, error) {
	f := os.NewFile(requestFD, "request")
	defer f.Close()
	var r request
	if err := json.NewDecoder(f).Decode(&r); err != nil {
		return r, fmt.Errorf("read request: %w", err)
	}
	if r.Version != protocolVersion {
		return r, fmt.Errorf("request has version %d, want %d", r.Version, protocolVersion)
	}
	return r, nil
}

// reportPair makes the socket the reports go through.
func reportPair() (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "reports"), os.NewFile(uintptr(fds[1]), "reports"), nil
}

// send gives the parent a report, and a descriptor unless fd is -1.
func (r report) send(fd int) error {
	r.Version = protocolVersion
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	return unix.Sendmsg(reportFD, data, rights, nil, unix.MSG_NOSIGNAL)
}

// receiveReport waits for the next report; fd is -1 or a descriptor that came with it. It returns io.EOF when the child
// has closed its end.
func receiveReport(socket int) (r report, fd int, err error) {
	data, rights := make([]byte, maxReport), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := unix.Recvmsg(socket, data, rights, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, rn, _, _, err = unix.Recvmsg(socket, data, rights, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return r, -1, fmt.Errorf("receive report: %w", err)
	}
	if n == 0 {
		return r, -1, io.EOF
	}
	fd = -1
	if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	if err := json.Unmarshal(data[:n], &r); err != nil {
		return r, fd, fmt.Errorf("read report: %w", err)
	}
	if r.Version != protocolVersion {
		return r, fd, fmt.Errorf("report has version %d, want %d", r.Version, protocolVersion)
	}
	return r, fd, nil
}
