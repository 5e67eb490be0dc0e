package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// marked gives an argument for sleep by which a process can be recognised. It is as unlikely to be used by others as it is long.
func marked(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("9%09d.5", rand.IntN(1e9))
}

// whoHas lists the processes with mark among their arguments.
func whoHas(t testing.TB, mark string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && bytes.Contains(line, []byte(mark)) {
			found = append(found, fmt.Sprintf("%s: %q", f, line))
		}
	}
	return found
}

func nobodyHas(t testing.TB, mark string) {
	t.Helper()
	if found := whoHas(t, mark); len(found) > 0 {
		t.Errorf("processes are left: %v", found)
	}
}

// builderMain is a builder that is about to be killed: the test program run as "arg0Builder ROOT PROC SCRIPT".
func builderMain() {
	s := sh(os.Args[1], os.Args[3])
	if os.Args[2] == "outer" {
		s.Proc = ProcOuter
	}
	if err := Run(context.Background(), s, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

func TestManyAtOnce(t *testing.T) {
	needNamespace(t)
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			root := newRoot(t, nil)
			before := listing(t, root)
			s := sh(root, "echo $$; cat /secret")
			s.Files = []File{{Path: "/secret", Data: fmt.Append(nil, i), Mode: 0o400}}
			got, err := output(t, s)
			if want := fmt.Sprintf("1\n%d", i); err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
			sameListing(t, before, listing(t, root))
		})
	}
}

// Descriptors that Run forgets would be in the next program's way.
func TestNoDescriptorsStay(t *testing.T) {
	root := newRoot(t, nil)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func() {
		s := sh(root, "exit 1")
		s.Mounts = []Mount{Tmpfs{Target: "/a/b/c"}}
		if _, err := output(t, s); err == nil {
			t.Fatal("exit 1 is no error")
		}
	}
	run() // whatever is opened once and for all
	before := count()
	for range 5 {
		run()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors became %d", before, after)
	}
}

func TestNothingSurvivesTheBuilder(t *testing.T) {
	both(t, func(t *testing.T, proc Proc) {
		root := newRoot(t, nil)
		mark := marked(t)
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{arg0Builder, root, "auto", fmt.Sprintf("setsid sleep %s & echo running; sleep %s", mark, mark)}
		if proc == ProcOuter {
			cmd.Args[2] = "outer"
		}
		// All processes of the sandbox hold this pipe: its end comes when the last of them is gone.
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "running" {
			t.Errorf("got %q, %v; want running", lines.Text(), lines.Err())
		}
		if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			t.Errorf("unexpected output %q", lines.Text())
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the builder was not killed")
		}
		nobodyHas(t, mark)
	})
}
