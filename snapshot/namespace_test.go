package snapshot

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Trees need a user namespace with a range of ids and a mount namespace. Tests
// that make trees run themselves again inside: as root with ids mapped to
// themselves, as anybody else with what newuidmap grants.
var namespace = flag.String("namespace", "", `"enter" runs everything in a user namespace (for benchmarks); other values are internal`)

func TestMain(m *testing.M) {
	flag.Parse()
	switch *namespace {
	case "enter":
		os.Exit(enter(m))
	case "wait": // ids are not mapped yet: wait, then exec again to hold the capabilities
		if _, err := io.ReadAll(os.NewFile(3, "pipe")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		args := slices.Clone(os.Args)
		args[slices.Index(args, "-namespace=wait")] = "-namespace=inside"
		fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", args, os.Environ()))
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func enter(*testing.M) int {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.Contains(a, "-namespace") })
	cmd, err := startInside(args, os.Stdout, os.Stderr)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inNamespace reports whether the test is inside. If not, it has run the test
// inside, and the caller returns.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if *namespace == "inside" {
		return true
	}
	var out strings.Builder
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd, err := startInside(args, &out, &out)
	if err != nil {
		t.Skipf("needs a user namespace with an id range: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("inside the namespace: %v\n%s", err, out.String())
	}
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()+" ") {
		t.Skip(out.String())
	}
	return false
}

func startInside(args []string, stdout, stderr io.Writer) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"-namespace=wait"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdout, stderr, []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	if os.Getuid() != 0 {
		if err := mapRange(cmd.Process.Pid); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			w.Close()
			return nil, err
		}
	}
	return cmd, w.Close()
}

// mapRange maps root to this user and 1 to 65535 to the user's subordinate ids.
func mapRange(pid int) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	for tool, file := range map[string]string{"newuidmap": "/etc/subuid", "newgidmap": "/etc/subgid"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		start := ""
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 3 && f[0] == me.Username {
				start = f[1]
			}
		}
		own := me.Uid
		if tool == "newgidmap" {
			own = me.Gid
		}
		out, err := exec.Command(tool, strconv.Itoa(pid), "0", own, "1", "1", start, "65535").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %v: %s", tool, err, out)
		}
	}
	return nil
}
