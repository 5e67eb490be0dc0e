package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mbuild/executor/sandbox/seccomp"
)

// execute becomes the program. It returns only when that failed.
func execute(r request) error {
	if err := become(r); err != nil {
		return err
	}
	// Changing the ids has disarmed the signal that ends us with the parent.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return &SetupError{Op: "tie to parent", Err: err}
	}
	if parentGone() {
		return &SetupError{Op: "tie to parent", Err: errors.New("it is gone")}
	}
	if err := (report{Started: true}).send(-1); err != nil {
		return &SetupError{Op: "report", Err: err}
	}
	return tryPrograms(r, func(name string) error { return syscall.Exec(name, r.Args, r.Env) })
}

// become gives this thread the identity, the capabilities and the filter of the program. Only this thread: the system calls
// are made directly, not through the runtime, which would change all threads.
func become(r request) error {
	id := r.Identity
	if err := ownPipes(id); err != nil {
		return &SetupError{Op: "hand over output", Err: err}
	}
	keep := setOf(defaultCapabilities())
	all, err := permitted()
	if err != nil {
		return &SetupError{Op: "read capabilities", Err: err}
	}
	if r.Insecure {
		keep = all
	}
	if err := dropBounding(keep); err != nil {
		return &SetupError{Op: "limit capabilities", Err: err}
	}
	// Capabilities are kept across the change of ids: loading the filter takes CAP_SYS_ADMIN, since we do not want
	// no_new_privs, which would make sudo and ping useless. And it comes after that change because the filter is to be the last.
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return &SetupError{Op: "keep capabilities", Err: err}
	}
	if err := setIDs(id); err != nil {
		return &SetupError{Op: fmt.Sprintf("change to uid %d, gid %d, groups %v", id.UID, id.GID, id.Groups), Err: err}
	}
	if err := setCapabilities(all); err != nil {
		return &SetupError{Op: "regain capabilities", Err: err}
	}
	if len(r.Filter) > 0 {
		if err := seccomp.Filter(r.Filter).Load(); err != nil {
			return &SetupError{Op: "protect system calls", Err: err}
		}
	}
	if id.UID != 0 {
		keep = 0
	}
	if err := setCapabilities(keep & all); err != nil {
		return &SetupError{Op: "drop capabilities", Err: err}
	}
	return nil
}

// ownPipes gives the output pipes to the program's user, who may open them again as /dev/stdout. Files and terminals belong to
// somebody and are left alone.
func ownPipes(id identity) error {
	for fd := 1; fd <= 2; fd++ {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		if err := unix.Fchown(fd, id.UID, id.GID); err != nil {
			return err
		}
	}
	return nil
}

func setIDs(id identity) error {
	if id.SetGroups {
		groups := make([]uint32, len(id.Groups)+1) // one more, for an address
		for i, g := range id.Groups {
			groups[i] = uint32(g)
		}
		_, _, e := unix.RawSyscall(sysSetgroups, uintptr(len(id.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
		if e != 0 {
			return e
		}
	}
	if _, _, e := unix.RawSyscall(sysSetresgid, uintptr(id.GID), uintptr(id.GID), uintptr(id.GID)); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(sysSetresuid, uintptr(id.UID), uintptr(id.UID), uintptr(id.UID)); e != 0 {
		return e
	}
	return nil
}

// tryPrograms hands the candidates for the program's file to start, in order, until one is it. The error is an ExitError with
// the statuses of a shell: 127 not found, 126 cannot be executed.
func tryPrograms(r request, start func(name string) error) error {
	name := r.Args[0]
	candidates, found := candidates(name, r.Env), false
	for _, c := range candidates {
		switch err := start(c); {
		case err == nil:
			return nil
		case errors.Is(err, unix.EACCES):
			found = true // but maybe the next one can be executed
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
			if _, err := os.Stat(c); err == nil {
				return cannotExecute(name, c, unix.ENOENT)
			}
		default:
			return cannotExecute(name, c, err)
		}
	}
	switch {
	case found:
		return &ExitError{Code: 126, Err: fmt.Errorf("exec: %q: %w", name, unix.EACCES)}
	case strings.Contains(name, "/"):
		return &ExitError{Code: 127, Err: fmt.Errorf("exec: %q: %w", name, unix.ENOENT)}
	}
	return &ExitError{Code: 127, Err: fmt.Errorf("exec: %q: executable file not found in $PATH", name)}
}

// candidates are the files that name can mean. An empty element of PATH is the working directory.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var search string
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			search = value
		}
	}
	var files []string
	for dir := range strings.SplitSeq(search, ":") {
		files = append(files, path.Join(firstOf(dir, "."), name))
	}
	return files
}
