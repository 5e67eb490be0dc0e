package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Main is the re-executed half. main calls it first of all when os.Args[0] is Arg0; it never returns.
func Main() {
	// Everything from here to the execution of the program belongs to this thread: namespaces, capabilities, filter.
	runtime.LockOSThread()
	os.Exit(child())
}

// child makes the sandbox and executes the program in it. It returns an exit status only when that failed, or in the supervisor.
func child() int {
	if err := unix.CloseRange(requestFD, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return abandon(&SetupError{Op: "mark descriptors", Err: err})
	}
	r, err := readRequest()
	if err != nil {
		return abandon(&SetupError{Op: "start sandbox", Err: err})
	}
	if err := prepare(r); err != nil {
		return abandon(err)
	}
	if r.OuterProc {
		return supervise(r)
	}
	return abandon(execute(r))
}

// abandon reports why the program does not run.
func abandon(err error) int {
	report := report{Failed: failureOf(err)}
	var refused *procRefused
	if errors.As(err, &refused) {
		report.Failed, report.Refused = nil, refused.Error()
	}
	if err := report.send(-1); err != nil {
		fmt.Fprintln(os.Stderr, "mbuild: report from sandbox:", err)
	}
	return 1
}

// prepare makes everything around the program that does not depend on who it runs as.
func prepare(r request) error {
	unix.Umask(0)
	if r.Loopback {
		if err := loopbackUp(); err != nil {
			return &SetupError{Op: "bring up lo", Err: err}
		}
	}
	if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
		return &SetupError{Op: "set host name " + r.Hostname, Err: err}
	}
	root, err := enterTree(r)
	if err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return &SetupError{Op: "change root to " + r.Root, Err: err}
	}
	if err := unix.Chdir(r.Dir); err != nil {
		return &SetupError{Op: "change to working directory " + r.Dir, Err: err}
	}
	for _, l := range r.Ulimits {
		limit := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := unix.Prlimit(0, l.Resource, &limit, nil); err != nil {
			return &SetupError{Op: fmt.Sprintf("set limit %s=%d:%d", l.Name, l.Soft, l.Hard), Err: err}
		}
	}
	unix.Umask(0o022)
	return nil
}

// pivot makes the mounted directory root the root directory and lets go of the old one.
func pivot(root int) error {
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// loopbackUp sets the lo interface of a new network namespace up; the kernel gives it its addresses.
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// parentGone tells whether the other end of the conversation is closed.
func parentGone() bool {
	poll := []unix.PollFd{{Fd: reportFD, Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// waitForParent returns when the parent is gone or has hung up.
func waitForParent() {
	for {
		if _, _, err := receiveReport(reportFD); err == io.EOF {
			return
		}
	}
}
