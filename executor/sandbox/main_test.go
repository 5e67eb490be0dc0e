package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names under which the test program runs again to get into a build namespace: first it waits for its ids to be mapped,
// then it executes itself once more and so has its capabilities.
const (
	arg0Waiting = "sandbox-test-waiting"
	arg0Inside  = "sandbox-test-inside"
	arg0Builder = "sandbox-test-builder"
)

// needNamespace skips t where the tests do not run in a build namespace.
func needNamespace(t testing.TB) {
	t.Helper()
	if os.Args[0] != arg0Inside {
		t.Skip("needs a user namespace with 65536 ids; see the message at the start for why there is none")
	}
}

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case Arg0:
		Main()
	case arg0Waiting:
		enterNamespace()
	case arg0Builder:
		builderMain()
	case probePath, "p", "q":
		probe(os.Args[1:])
	case arg0Inside:
		os.Exit(m.Run())
	}
	if slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") }) {
		os.Exit(m.Run()) // fuzzing starts the test program by its name, and needs no namespace
	}
	status, err := inNamespace(os.Args[1:])
	if err != nil {
		fmt.Println("no build namespace here:", err)
		status = m.Run()
	}
	os.Exit(status)
}

// inNamespace runs the test program again, in a build namespace.
func inNamespace(args []string) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ready, mapped, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{arg0Waiting}, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ready.Close()
	mapErr := mapIDs(cmd.Process.Pid)
	if mapErr == nil {
		_, mapErr = mapped.Write([]byte("go"))
	}
	mapped.Close()
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() < 0 {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), mapErr
}

func mapIDs(pid int) error {
	if os.Getuid() == 0 {
		for _, name := range []string{"uid_map", "gid_map"} {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), []byte("0 0 65536"), 0); err != nil {
				return err
			}
		}
		return nil
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	for tool, file := range map[string]string{"newuidmap": "/etc/subuid", "newgidmap": "/etc/subgid"} {
		ranges, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		own := map[string]string{"newuidmap": me.Uid, "newgidmap": me.Gid}[tool]
		for line := range strings.Lines(string(ranges)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 || f[0] != me.Username {
				continue
			}
			out, err := exec.Command(tool, strconv.Itoa(pid), "0", own, "1", "1", f[1], "65535").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", tool, err, out)
			}
		}
	}
	return nil
}

func enterNamespace() {
	var answer [2]byte
	if n, _ := os.NewFile(3, "ready").Read(answer[:]); n != len(answer) {
		os.Exit(1)
	}
	// Once more, to leave this process without capabilities behind.
	err := syscall.Exec("/proc/self/exe", append([]string{arg0Inside}, os.Args[1:]...), os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// newRoot gives a root filesystem with busybox, an overlay as a build has it, and its upper directory.
func newRoot(t testing.TB, prepare func(lower string)) (root string) {
	t.Helper()
	needNamespace(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lower := filepath.Join(dir, "lower")
	makeLower(t, lower)
	if prepare != nil {
		prepare(lower)
	}
	setTimes(t, lower)
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root = filepath.Join(dir, "root")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr", lower, dir, dir)
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Skipf("needs overlayfs in a user namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return root
}

// makeLower fills dir with busybox and its links: no /proc, no /dev, and of /etc only the accounts.
func makeLower(t testing.TB, dir string) {
	t.Helper()
	const busybox = "/bin/busybox"
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Skipf("needs a static busybox: %v", err)
	}
	write(t, filepath.Join(dir, "bin/busybox"), string(program), 0o755)
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Skipf("needs a static busybox: %v", err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			symlink(t, "busybox", filepath.Join(dir, "bin", a))
		}
	}
	write(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nmulti:x:1001:100::/home/multi:/bin/sh\nfar:x:70000:70000::/:/bin/sh\n", 0o644)
	write(t, filepath.Join(dir, "etc/group"), "root:x:0:\nwheel:x:10:root,multi\nusers:x:100:\napp:x:1000:\nvideo:x:44:multi\n", 0o644)
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
}

// setTimes gives everything below dir an old time, so that a change is seen whatever the clock's resolution is.
func setTimes(t testing.TB, dir string) {
	t.Helper()
	old := []unix.Timespec{unix.NsecToTimespec(1e18), unix.NsecToTimespec(1e18 + 5)}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, old, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listing describes everything below root, by path.
func listing(t testing.TB, root string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		modified := time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)
		list[rel] = fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, modified)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			list[rel] += fmt.Sprintf(" %d bytes", st.Size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sameListing complains about every difference.
func sameListing(t testing.TB, before, after map[string]string) {
	t.Helper()
	for p, want := range before {
		if got, ok := after[p]; !ok {
			t.Errorf("%s is gone", p)
		} else if got != want {
			t.Errorf("%s changed: got %s, want %s", p, got, want)
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok {
			t.Errorf("%s was left behind: %s", p, after[p])
		}
	}
}

func write(t testing.TB, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, to, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}
