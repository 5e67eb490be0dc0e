package namespace

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// exitAbandoned is the status of a process inside whose other half is gone. Nobody is left to read it.
const exitAbandoned = 137

// Finish is the second half of Enter. main calls it first thing when os.Args[0] is Arg0, and carries on with os.Args[1:] when it returns:
// the process then is root in the build namespace, its mounts are private, /proc shows its own pid namespace (if Info says so),
// and it dies with the process that called Enter. Environment, working directory and standard descriptors are those of that process.
//
// Finish does not return when there is no build to carry on with: in a trial (Probe), after a refusal by the kernel, which the other
// half then reports, and when the other half is gone. An error means that the process was not started by Enter.
func Finish() (*Info, error) {
	outside, err := inheritedLine()
	if err != nil {
		return nil, err
	}
	m, err := outside.receive()
	if errors.Is(err, io.EOF) {
		os.Exit(exitAbandoned)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case m.Name == msgMapped:
		err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
		return nil, fmt.Errorf("exec in the build namespace: %w", err)
	case (m.Name == msgBuild || m.Name == msgLeave) && m.Info != nil:
		keepDescriptors()
		settle(outside, *m.Info)
		if m.Name == msgLeave {
			os.Exit(0)
		}
		return m.Info, nil
	default:
		return nil, fmt.Errorf("message between mbuild's two halves: unexpected %q", m.Name)
	}
}

// keepDescriptors makes every descriptor but the standard ones, also those that we inherited from whoever started mbuild, end with this
// process: no tool and no RUN gets them. (Before Linux 5.11 this holds for our own only.)
func keepDescriptors() {
	unix.CloseOnExec(lineFD)
	unix.CloseRange(lineFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}

// settle makes the namespace ready and says so, or says what was refused and exits.
func settle(outside line, i Info) {
	m := message{Name: msgReady}
	if step, err := arrange(outside, i); err != nil {
		m = message{Name: msgRefused, Step: step}
		errors.As(err, &m.Errno)
	}
	// A failing send means that the outside died before it was asked to take us along.
	if err := outside.send(m); err != nil || m.Name == msgRefused {
		os.Exit(exitAbandoned)
	}
}

func arrange(outside line, i Info) (step string, err error) {
	if err := dieWith(outside); err != nil {
		return "asking for the parent-death signal", err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return stepPrivate, err
	}
	if !i.PIDNamespace {
		return "", nil
	}
	return stepProc, unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// dieWith ends this process when the other half ends. The kernel's parent-death signal belongs to the thread that asked
// for it, so a thread is set aside to live as long as the process. It also watches the socket, which tells of a parent that died before it asked.
func dieWith(outside line) error {
	armed := make(chan error)
	go func() {
		runtime.LockOSThread()
		armed <- unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		for {
			if _, err := outside.receive(); err != nil {
				os.Exit(exitAbandoned)
			}
		}
	}()
	return <-armed
}
