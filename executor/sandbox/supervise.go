package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// supervise runs the program as a child and, when it ends or the parent hangs up, ends everything the program has started. It does
// what a pid namespace would do where there is none. The status is for the process, the outcome is in a report.
func supervise(r request) int {
	// Who loses its parent becomes our child, so that nothing escapes by forking twice.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return abandon(&SetupError{Op: "become subreaper", Err: err})
	}
	if err := (report{Started: true}).send(-1); err != nil {
		return abandon(&SetupError{Op: "report", Err: err})
	}
	pid, err := spawn(r)
	if err != nil {
		return abandon(err)
	}
	go func() {
		waitForParent()
		// The error would say that it has ended by itself.
		_ = unix.Kill(pid, unix.SIGKILL)
	}()
	status := waitFor(pid)
	endDescendants()
	code := uint32(status)
	if err := (report{Exited: &code}).send(-1); err != nil {
		return 1
	}
	return 0
}

// spawn starts the program from a thread that has become it in everything but the file. That thread stays: its end would
// be taken for the parent's.
func spawn(r request) (int, error) {
	type result struct {
		pid int
		err error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread()
		var s result
		if s.err = become(r); s.err == nil {
			s.err = tryPrograms(r, func(name string) (err error) {
				s.pid, err = syscall.ForkExec(name, r.Args, &syscall.ProcAttr{
					Env:   r.Env,
					Files: []uintptr{0, 1, 2},
					Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
				})
				return err
			})
		}
		started <- s
		select {}
	}()
	s := <-started
	return s.pid, s.err
}

// waitFor reaps children until pid has ended.
func waitFor(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.ECHILD || ended == pid {
			return status
		}
	}
}

// endDescendants kills children until there are none; theirs become ours when they die.
func endDescendants() {
	for {
		for _, pid := range children(os.Getpid()) {
			// The error would say that it has ended by itself.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		}
	}
}

// children lists the processes whose parent is pid. /proc is the outer one here, as seen through the mount we made.
func children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil {
			continue
		}
		// pid (name) state ppid …: the name can contain anything.
		after := stat[bytes.LastIndexByte(stat, ')')+1:]
		if fields := bytes.Fields(after); len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			pids = append(pids, child)
		}
	}
	return pids
}
