package namespace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary plays mbuild: started as Arg0 it is the half inside, and its first argument says what the "build" does.
// Started as outsideArg0 it is a whole mbuild that enters its build namespace, so that tests can signal it.
const outsideArg0 = "mbuild-outside"

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case Arg0:
		info, err := Finish()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(builds[os.Args[1]](info, os.Args[2:]))
	case outsideArg0:
		code, why, err := Enter(context.Background(), os.Args[1:], os.Stderr)
		if why != nil || err != nil {
			fmt.Fprintln(os.Stderr, "outside:", why, err)
			os.Exit(98)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// builds are what the process inside does instead of a build; each returns its exit code.
var builds = map[string]func(info *Info, args []string) int{
	"report": func(info *Info, args []string) int {
		err := json.NewEncoder(os.Stdout).Encode(observe(info, args))
		if err != nil {
			return 1
		}
		return 0
	},
	"exit": func(_ *Info, args []string) int {
		n, _ := strconv.Atoi(args[0])
		return n
	},
	"chown": func(_ *Info, args []string) int {
		id, _ := strconv.Atoi(args[1])
		if err := os.WriteFile(args[0], nil, 0o600); err != nil {
			return 1
		}
		if err := os.Chown(args[0], id, id); err != nil {
			return 2
		}
		os.Remove(args[0])
		return 0
	},
	// await says "ready" and ends with the number of the first of these signals that comes.
	"await": func(*Info, []string) int {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
		fmt.Println("ready")
		return int((<-c).(syscall.Signal))
	},
	// brood leaves a child in a session of its own and says "ready"; both hold standard output open for ever.
	"brood": func(*Info, []string) int {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		select {}
	},
	// leave is brood without waiting: the build ends, its child would not.
	"leave": func(*Info, []string) int {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 1
		}
		return 0
	},
	// count says "ready", then "int" at every SIGINT, and ends at SIGTERM with how many there were.
	"count": func(*Info, []string) int {
		c := make(chan os.Signal, 8)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("ready")
		n := 0
		for s := range c {
			if s == syscall.SIGTERM {
				break
			}
			n++
			fmt.Println("int")
		}
		return n
	},
	// masked enters a namespace below this one, of which /proc is partly hidden as in a container.
	"masked": func(_ *Info, args []string) int {
		if err := unix.Mount("/dev/null", "/proc/version", "", unix.MS_BIND, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 97
		}
		cmd := whole(args...)
		r, w, err := os.Pipe()
		if err != nil {
			return 96
		}
		cmd.Stdout = w
		cmd.Run()
		w.Close()
		// The inside holds the pipe too: its end comes when it is gone.
		r.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(os.Stdout, r); err != nil {
			fmt.Fprintln(os.Stderr, "the inside is left:", err)
			return 95
		}
		return exitCode(cmd.ProcessState)
	},
	// suicide kills the half outside; without a pid namespace it can see it.
	"suicide": func(*Info, []string) int {
		unix.Kill(os.Getppid(), unix.SIGKILL)
		select {}
	},
	"nothing": func(*Info, []string) int { return 0 },
}

// observation is what the process inside sees.
type observation struct {
	Info        *Info
	Args        []string
	UID, PID    int
	Home, Dir   string
	Capable     bool
	ProcIsOurs  bool
	Shared      bool
	Descriptors []string
	Input       string
}

func observe(info *Info, args []string) observation {
	o := observation{Info: info, Args: args, UID: os.Getuid(), PID: os.Getpid(), Home: os.Getenv("HOME")}
	o.Dir, _ = os.Getwd()
	o.Capable = unix.Mount("none", os.TempDir(), "tmpfs", 0, "") == nil
	self, _ := os.Readlink("/proc/self")
	o.ProcIsOurs = self == strconv.Itoa(o.PID)
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	o.Shared = containsAny(string(mounts), " shared:", " master:")
	for fd := 3; fd < 64; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			o.Descriptors = append(o.Descriptors, strconv.Itoa(fd))
		}
	}
	input, _ := io.ReadAll(os.Stdin)
	o.Input = string(input)
	return o
}

// needNamespace skips the test where this machine gives no build namespace.
func needNamespace(t testing.TB) Info {
	t.Helper()
	info, why, err := Outside{}.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if why != nil {
		t.Skipf("needs a user namespace with a range of ids: %s (hint: %s)", why.Reason, why.Hint)
	}
	return info
}

// whole starts the test binary as an mbuild of its own.
func whole(args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{outsideArg0}, args...), Stderr: os.Stderr}
}

func code(t *testing.T, err error) int {
	t.Helper()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exitCode(exit.ProcessState)
}
