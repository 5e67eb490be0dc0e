package emulation

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideArg0 is argv[0] of the test binary when it is run again in a user namespace of its own, to do what its first argument names.
const insideArg0 = "emulation-inside"

func TestMain(m *testing.M) {
	if os.Args[0] == insideArg0 {
		unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
		if err := inside[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runInside runs inside[name] in a new user and mount namespace and returns what it wrote. It skips the test where there is none.
func runInside(t *testing.T, name string, args ...string) (stdout string, err error) {
	t.Helper()
	cmd, stderr := insideCommand(name, args...)
	out, err := cmd.Output()
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skipf("needs a user namespace: %v", err)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

func insideCommand(name string, args ...string) (*exec.Cmd, *strings.Builder) {
	stderr := &strings.Builder{}
	n := 1 // an unprivileged user may map itself, which is enough to mount and register
	if os.Getuid() == 0 {
		n = 65536
	}
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{insideArg0, name}, args...), Stderr: stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: n}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: n}},
		},
	}, stderr
}

// hiddenByHost skips a test that needs an architecture that nobody runs here.
func hiddenByHost(t *testing.T, a *arch) {
	t.Helper()
	if err := a.prove(); err == nil {
		t.Skipf("needs a machine that does not run %s programs already", a.name)
	}
}
