package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Arg0 is the name (argv[0]) of the re-executed half. A program that calls Run begins its main with
//
//	if os.Args[0] == sandbox.Arg0 {
//		sandbox.Main()
//	}
const Arg0 = "mbuild-sandbox"

// Run runs the process that s describes and waits for its end. stdout and stderr take its output; an *os.File is given to
// it directly. Its standard input is empty.
//
// A nil error means that the program exited with status 0. In any case nothing of it is left when Run returns: no process, no
// mount, no mount point in s.Root. Cancelling ctx kills it, and when that happens before the program has started a mount point
// that was being made may stay. If the calling process dies, the program is killed, and with it all in its pid namespace;
// a program that has itself changed its user ids (su as process 1) escapes that, unless a pid namespace around both ends it.
//
// Errors: *ExitError when the program ended in another way or could not be executed, *SetupError when the sandbox
// could not be made, the cause of ctx (wrapped) when that ended it, anything else when output could not be copied or a
// mount point not be removed.
//
// Run is called in the build namespace, as root there, by a program whose main calls Main. It keeps the calling
// goroutine on one thread.
func Run(ctx context.Context, s Spec, stdout, stderr io.Writer) error {
	maps, err := readIDMaps()
	if err != nil {
		return &SetupError{Op: "read id maps", Err: err}
	}
	r, err := s.request(maps)
	if err != nil {
		return err
	}
	report := func(d Degradation) {
		if s.Degraded != nil {
			s.Degraded(d)
		}
	}
	// The child is killed when the thread that made it ends; so it must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	a := attempt{request: r, maps: maps, stdout: stdout, stderr: stderr, degraded: report}
	err = a.run(ctx)
	var refused *procRefused
	if errors.As(err, &refused) {
		report(Degradation{Feature: PIDNamespace, Reason: refused.err.Error()})
		a.request.OuterProc = true
		err = a.run(ctx)
	}
	return err
}

// attempt is one child, from its start to the removal of its traces.
type attempt struct {
	request        request
	maps           idMaps
	stdout, stderr io.Writer
	degraded       func(Degradation)
}

// outcome is what the child has reported.
type outcome struct {
	made    []madePoint
	started bool
	exited  *uint32
	err     error
}

// madePoint is a mount point together with the directory it is in.
type madePoint struct {
	mountPoint
	dir int
}

func (a attempt) run(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("run %s: %w", a.request.Args[0], context.Cause(ctx))
	}
	socket, childSocket, err := reportPair()
	if err != nil {
		return &SetupError{Op: "start sandbox", Err: err}
	}
	defer socket.Close()
	defer childSocket.Close()
	message, err := requestFile(a.request)
	if err != nil {
		return &SetupError{Op: "start sandbox", Err: err}
	}
	defer message.Close()

	cmd := a.command(ctx, socket, message, childSocket)
	if err := cmd.Start(); err != nil {
		return &SetupError{Op: "start sandbox in new namespaces", Err: err}
	}
	childSocket.Close()
	reported := make(chan outcome)
	go func() { reported <- a.collect(int(socket.Fd())) }()
	waitErr := cmd.Wait()
	o := <-reported
	return errors.Join(a.verdict(ctx, o, cmd.ProcessState, waitErr), removeTraces(o.made))
}

// command is the child. It gets nothing of ours but the two descriptors of the conversation.
func (a attempt) command(ctx context.Context, socket *os.File, message, reports *os.File) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{Arg0}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = a.stdout, a.stderr
	cmd.ExtraFiles = []*os.File{message, reports} // requestFD, reportFD
	flags := syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP
	if a.request.Loopback {
		flags |= syscall.CLONE_NEWNET
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 uintptr(flags),
		UidMappings:                a.maps.uid,
		GidMappings:                a.maps.gid,
		GidMappingsEnableSetgroups: a.maps.setGroups,
		Setsid:                     true,
	}
	if a.request.OuterProc {
		// The supervisor ends the program and everything else when the other end of the socket is closed, by us or by our death.
		cmd.Cancel = func() error { return unix.Shutdown(int(socket.Fd()), unix.SHUT_WR) }
		return cmd
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return cmd
}

// collect receives reports until the child has closed its end: by its death, or by executing the program.
func (a attempt) collect(socket int) (o outcome) {
	for {
		r, fd, err := receiveReport(socket)
		if err == io.EOF {
			return o
		}
		switch {
		case r.Made != nil && fd >= 0:
			o.made = append(o.made, madePoint{*r.Made, fd})
			fd = -1
		case r.Degraded != nil:
			a.degraded(*r.Degraded)
		case r.Started:
			o.started = true
		case r.Exited != nil:
			o.exited = r.Exited
		case r.Refused != "":
			o.err = &procRefused{errors.New(r.Refused)}
		case r.Failed != nil:
			o.err = r.Failed.err()
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		if err != nil {
			o.err = &SetupError{Op: "talk to sandbox", Err: err}
			return o
		}
	}
}

// verdict puts together what was reported and what was seen of the child's end.
func (a attempt) verdict(ctx context.Context, o outcome, state *os.ProcessState, waitErr error) error {
	var exit *exec.ExitError
	ended := errors.As(waitErr, &exit)
	status, ok := state.Sys().(syscall.WaitStatus)
	if o.exited != nil {
		status = syscall.WaitStatus(*o.exited)
	}
	succeeded := ok && o.started && o.err == nil && status.Exited() && status.ExitStatus() == 0
	switch {
	case ctx.Err() != nil && !succeeded:
		return fmt.Errorf("run %s: %w", a.request.Args[0], context.Cause(ctx))
	case o.err != nil:
		return o.err
	case !o.started:
		return &SetupError{Op: "make sandbox", Err: fmt.Errorf("its process ended early: %s", state)}
	case a.request.OuterProc && o.exited == nil:
		return &SetupError{Op: "supervise program", Err: fmt.Errorf("the supervisor ended early: %s", state)}
	case status.Signaled():
		return &ExitError{Code: 128 + int(status.Signal()), Signal: status.Signal()}
	case status.ExitStatus() != 0:
		return &ExitError{Code: status.ExitStatus()}
	case waitErr != nil && !ended && ctx.Err() == nil:
		return fmt.Errorf("copy output: %w", waitErr)
	}
	return nil
}

// removeTraces takes away the mount points that were made, last first, and closes their directories.
func removeTraces(made []madePoint) error {
	var errs []error
	for _, m := range slices.Backward(made) {
		if err := m.remove(m.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove mount point %s: %w", m.Name, err))
		}
		if err := unix.Close(m.dir); err != nil {
			errs = append(errs, fmt.Errorf("close directory of mount point %s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}
