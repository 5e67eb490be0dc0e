package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/moby/sys/user"
)

// Outside is the half of mbuild that stays outside of the build namespace. The zero value uses the process's own standard
// descriptors and the system's files.
type Outside struct {
	// Stdin, Stdout and Stderr are the process inside's. Nil: ours. Stdin is a file because a second attempt must find
	// what the first has not asked for.
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// SubUID and SubGID are the files with the subordinate ids. Empty: /etc/subuid and /etc/subgid.
	SubUID, SubGID string
	// Path is a list of directories like $PATH with newuidmap and newgidmap. Empty: $PATH, then /usr/bin.
	Path string

	host host // evidence for explanations; replaced by tests
}

// Enter runs this same program again with the arguments args (without argv[0]) inside a new build namespace, waits for it and returns its exit code,
// or 128 plus the signal's number when one killed it. When it returns, no process of the namespace is left.
//
// If no build namespace can be had here, why says so, nothing has been run, and the caller goes on without one.
// An error means that something failed that has nothing to do with what this place allows.
//
// Until the process inside is gone, SIGINT, SIGQUIT, SIGTERM and SIGHUP are not acted upon here but relayed to it. When ctx is
// cancelled it gets a SIGTERM (unless the cancellation came with one of these signals) and, ten seconds later, a SIGKILL.
// A stopped mbuild (SIGTSTP) does not stop the build.
func (o Outside) Enter(ctx context.Context, args []string) (code int, why *Unavailable, err error) {
	_, code, why, err = o.enter(ctx, msgBuild, args)
	return code, why, err
}

// Probe makes a build namespace as Enter does, in every detail, only that nothing is run in it. For doctor.
func (o Outside) Probe(ctx context.Context) (Info, *Unavailable, error) {
	info, code, why, err := o.enter(ctx, msgLeave, nil)
	if err == nil && why == nil && code != 0 {
		err = fmt.Errorf("trial of a build namespace: exit code %d", code)
	}
	return info, why, err
}

// Enter is Outside.Enter with standard input and output of this process and the given standard error.
func Enter(ctx context.Context, args []string, stderr io.Writer) (code int, why *Unavailable, err error) {
	return Outside{Stderr: stderr}.Enter(ctx, args)
}

func (o Outside) enter(ctx context.Context, order string, args []string) (Info, int, *Unavailable, error) {
	p, why := o.plan()
	if why != nil {
		return Info{}, 0, why, nil
	}
	var info Info
	for _, pids := range []bool{true, false} {
		info = Info{UIDs: p.uids, GIDs: p.gids, PIDNamespace: pids}
		code, refused, err := o.run(ctx, p, message{Name: order, Info: &info}, args)
		if err != nil || refused == nil {
			return info, code, nil, err
		}
		if why = refused; refused.step != stepProc {
			break
		}
	}
	return Info{}, 0, why, nil
}

// run makes one attempt. The order carries what the namespace is to be.
func (o Outside) run(ctx context.Context, p plan, order message, args []string) (code int, refused *Unavailable, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	// The parent-death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	inside, theirs, err := newLine()
	if err != nil {
		return 0, nil, err
	}
	defer inside.Close()
	cmd := o.command(p, order.Info.PIDNamespace, theirs, args)
	relay := newRelay() // before the start, so that no signal falls into the gap
	defer relay.stop()
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, o.host.explainClone(err), nil
	}
	relay.start(ctx, cmd.Process)

	refused, err = o.converse(inside, cmd.Process.Pid, p, order)
	if err != nil || refused != nil {
		cmd.Process.Kill()
	}
	waited := cmd.Wait()
	if errors.Is(err, io.EOF) {
		if relay.heard() || ctx.Err() != nil {
			return exitCode(cmd.ProcessState), nil, nil
		}
		err = fmt.Errorf("build namespace: the process inside ended before it was ready: %v", waited)
	}
	if exit := (*exec.ExitError)(nil); err == nil && waited != nil && !errors.As(waited, &exit) {
		err = fmt.Errorf("waiting for the process in the build namespace: %w", waited)
	}
	if err != nil || refused != nil {
		return 0, refused, err
	}
	return exitCode(cmd.ProcessState), nil, nil
}

// converse is the outside's part of the conversation up to "ready".
func (o Outside) converse(inside line, pid int, p plan, order message) (refused *Unavailable, err error) {
	if p.helpers != nil {
		if why := p.helpers.write(pid, p, o.host); why != nil {
			return why, nil
		}
		if err := inside.send(message{Name: msgMapped}); err != nil {
			return nil, gone(err)
		}
	}
	if err := inside.send(order); err != nil {
		return nil, gone(err)
	}
	m, err := inside.receive()
	switch {
	case err != nil:
		return nil, gone(err)
	case m.Name == msgRefused:
		return o.host.explainRefusal(m), nil
	case m.Name != msgReady:
		return nil, fmt.Errorf("message between mbuild's two halves: unexpected %q", m.Name)
	}
	return nil, nil
}

// gone makes all ways to learn that the other half has ended one.
func gone(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return io.EOF
	}
	return err
}

func (o Outside) command(p plan, pids bool, theirs line, args []string) *exec.Cmd {
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       append([]string{Arg0}, args...),
		Stdin:      o.Stdin,
		Stdout:     o.Stdout,
		Stderr:     o.Stderr,
		ExtraFiles: []*os.File{theirs.File},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			Pdeathsig:  syscall.SIGKILL,
		},
	}
	if o.Stdin == nil {
		cmd.Stdin = os.Stdin
	}
	if o.Stdout == nil {
		cmd.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if pids {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	}
	if p.helpers == nil {
		cmd.SysProcAttr.UidMappings = sysProcMap(p.uids)
		cmd.SysProcAttr.GidMappings = sysProcMap(p.gids)
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	return cmd
}

func sysProcMap(m []user.IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(m))
	for i, r := range m {
		out[i] = syscall.SysProcIDMap{ContainerID: int(r.ID), HostID: int(r.ParentID), Size: int(r.Count)}
	}
	return out
}

func exitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}
