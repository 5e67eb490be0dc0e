package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// probePath is where the test program is shown in a sandbox, to make system calls that busybox has no command for.
const probePath = "/probe"

// probe is the test program in a sandbox: "/probe WHAT [FILE]".
func probe(args []string) {
	switch args[0] {
	case "setcap":
		// struct vfs_cap_data, version 2, effective: CAP_NET_RAW and CAP_NET_BIND_SERVICE permitted.
		data := []byte{1, 0, 0, 2, 0, 0x24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		fmt.Println(unix.Setxattr(args[1], "security.capability", data, 0))
	case "ids":
		all, err := permitted()
		fmt.Printf("uid %d euid %d permitted %#x %v\n", os.Getuid(), os.Geteuid(), uint64(all), err)
	case "calls":
		probeCalls()
	}
	os.Exit(0)
}

// probeCalls makes system calls that the filter decides about, with arguments that do nothing where they are allowed.
func probeCalls() {
	none := ^uintptr(0)
	for _, c := range []struct {
		name    string
		number  uintptr
		a, b, c uintptr
	}{
		{"mount", unix.SYS_MOUNT, 0, 0, 0},
		{"unshare", unix.SYS_UNSHARE, 0, 0, 0},
		{"keyctl", unix.SYS_KEYCTL, none, 0, 0},
		{"bpf", unix.SYS_BPF, none, 0, 0},
		{"clone3", unix.SYS_CLONE3, 0, 0, 0},
		{"clone into a user namespace", unix.SYS_CLONE, unix.CLONE_NEWUSER | unix.CLONE_FS, 0, 0},
		{"ptrace", unix.SYS_PTRACE, none, 0, 0},
		{"personality query", unix.SYS_PERSONALITY, 0xffffffff, 0, 0},
		{"personality unusual", unix.SYS_PERSONALITY, 0x77, 0, 0},
		{"from the future", 1000, 0, 0, 0},
		{"getpid", unix.SYS_GETPID, 0, 0, 0},
	} {
		_, _, e := unix.RawSyscall(c.number, c.a, c.b, c.c)
		fmt.Printf("%s: %d\n", c.name, int(e))
	}
}

// withProbe shows the test program in the sandbox.
func withProbe(t testing.TB, s Spec) Spec {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if parseHead(program[:headSize]).interpreter != "" {
		t.Skip("needs a static test program: CGO_ENABLED=0")
	}
	s.Mounts = append(s.Mounts, Bind{Source: self, Target: probePath, ReadOnly: true})
	return s
}

func TestPrivilegeOnTheOverlay(t *testing.T) {
	root := newRoot(t, nil)
	run := func(user, script string) string {
		t.Helper()
		s := withProbe(t, sh(root, script))
		s.User = user
		got, err := output(t, s)
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, got)
		}
		return got
	}
	// In one step, kept by the tree, used in another: as RUN does.
	if got := run("", "cp /probe /bin/p && cp /probe /bin/q && /probe setcap /bin/p && chown 1000:1000 /bin/q && chown 0:0 /bin/q && chmod 4755 /bin/q"); got != "<nil>" {
		t.Fatalf("setcap: %s", got)
	}
	for _, c := range []struct{ rule, user, script, want string }{
		{"file capabilities count for a user", "app", "p ids", "uid 1000 euid 1000 permitted 0x2400 <nil>"},
		{"setuid programs change the user", "app", "q ids", "uid 1000 euid 0 permitted 0xa80425fb <nil>"},
	} {
		if got := run(c.user, c.script); got != c.want {
			t.Errorf("%s: got %q, want %q", c.rule, got, c.want)
		}
	}
	// What a layer is made of.
	value := make([]byte, 64)
	n, err := unix.Getxattr(root+"/bin/p", "security.capability", value)
	if err != nil || n != 20 {
		t.Errorf("security.capability as the build namespace sees it: %d bytes (%x), %v; want version 2, 20 bytes", n, value[:max(n, 0)], err)
	}
}

func TestFilterIsInEffect(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("needs the numbers of amd64 or arm64")
	}
	root := newRoot(t, nil)
	s := withProbe(t, Spec{Root: root, Args: []string{probePath, "calls"}})
	got, err := output(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"mount: 1", "unshare: 1", "keyctl: 1", "bpf: 1", "clone3: 38", "clone into a user namespace: 1",
		"ptrace: 3", // allowed: there is no such process
		"personality query: 0", "personality unusual: 1", "from the future: 38", "getpid: 0",
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// Emulation depends on it: handlers that the build namespace registers are found from the namespace below it.
func TestHandlersOfTheBuildNamespaceAreFound(t *testing.T) {
	root := newRoot(t, func(lower string) { write(t, lower+"/srv/echo", "MBTEST", 0o755) })
	misc := t.TempDir()
	if err := unix.Mount("binfmt_misc", misc, "binfmt_misc", 0, ""); err != nil {
		t.Skipf("needs binfmt_misc in a user namespace (Linux 6.7): %v", err)
	}
	defer func() {
		if err := unix.Unmount(misc, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	// busybox gets the file's path as its first argument and takes its last component for the command.
	if err := os.WriteFile(misc+"/register", []byte(":mbtest:M::MBTEST::/bin/busybox:F"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := output(t, Spec{Root: root, Args: []string{"/srv/echo", "handled"}})
	if err != nil || got != "handled" {
		t.Errorf("got %q, %v; want handled", got, err)
	}
}
