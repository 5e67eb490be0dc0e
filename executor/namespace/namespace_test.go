package namespace

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func containsAny(s string, subs ...string) bool {
	return slices.ContainsFunc(subs, func(sub string) bool { return strings.Contains(s, sub) })
}

func TestTheProcessInsideIsRootWithEverythingElseAsItWas(t *testing.T) {
	want := needNamespace(t)
	// A temporary directory that is the place of a trial mount inside.
	t.Setenv("TMPDIR", t.TempDir())
	input, err := os.Open(put(t, 0o644, "input", t.TempDir(), "input"))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	var out bytes.Buffer
	o := Outside{Stdin: input, Stdout: &out}
	exit, why, err := o.Enter(t.Context(), []string{"report", "--flag", "an argument", ""})
	if exit != 0 || why != nil || err != nil {
		t.Fatal(exit, why, err)
	}
	var got observation
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	dir, _ := os.Getwd()
	for _, c := range []struct {
		rule string
		ok   bool
	}{
		{"uid is 0", got.UID == 0},
		{"arguments are the same", slices.Equal(got.Args, []string{"--flag", "an argument", ""})},
		{"HOME is the same", got.Home == os.Getenv("HOME")},
		{"working directory is the same", got.Dir == dir},
		{"standard input is the same", got.Input == "input"},
		{"it may mount", got.Capable},
		{"no mount is shared with the outside", !got.Shared},
		{"/proc numbers processes as getpid does", got.ProcIsOurs},
		{"it is process 1 exactly in a pid namespace", (got.PID == 1) == got.Info.PIDNamespace},
		{"no descriptor survives an exec", len(got.Descriptors) == 0},
		{"it knows how many ids there are", got.Info.IDs() == want.IDs() && got.Info.IDs() > 1},
	} {
		if !c.ok {
			t.Errorf("not true: %s; got %+v", c.rule, got)
		}
	}
}

func TestTheLastMappedIDCanOwnAFileAndTheNextCannot(t *testing.T) {
	info := needNamespace(t)
	file := filepath.Join(t.TempDir(), "file")
	last := info.UIDs[len(info.UIDs)-1]
	top := last.ID + last.Count - 1
	if !info.MapsUID(top) || info.MapsUID(top+1) || !info.MapsGID(0) {
		t.Errorf("MapsUID and MapsGID disagree with %+v", info)
	}
	if top > 1<<31 {
		top = 1 << 31 // the whole id space: -1 means "leave it" to chown
	}
	chown := func(id int64) int {
		exit, why, err := Enter(t.Context(), []string{"chown", file, strconv.FormatInt(id, 10)}, os.Stderr)
		if why != nil || err != nil {
			t.Fatal(why, err)
		}
		return exit
	}
	if got := chown(top); got != 0 {
		t.Errorf("chown %d: step %d failed", top, got)
	}
	if info.IDs() < 1<<31 {
		if got := chown(top + 1); got != 2 {
			t.Errorf("chown %d: got exit code %d, want 2 (refused)", top+1, got)
		}
	}
}

func TestExitCodesPassThrough(t *testing.T) {
	needNamespace(t)
	for _, want := range []int{0, 1, 3, 255} {
		got, why, err := Enter(t.Context(), []string{"exit", strconv.Itoa(want)}, os.Stderr)
		if got != want || why != nil || err != nil {
			t.Errorf("got %d %v %v, want %d", got, why, err, want)
		}
	}
}

func TestASignalToTheOutsideReachesTheInsideOnce(t *testing.T) {
	needNamespace(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		cmd := whole("await")
		// A session of its own has no terminal, so that nothing can come from a keyboard.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitReady(t, out)
		cmd.Process.Signal(s)
		if got := code(t, cmd.Wait()); got != int(s) {
			t.Errorf("%v: got exit code %d, want %d", s, got, int(s))
		}
	}
}

func TestCancellingTheContextEndsTheInsideWithSIGTERM(t *testing.T) {
	needNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		bufio.NewReader(r).ReadString('\n')
		cancel()
	}()
	got, why, err := Outside{Stdout: w}.Enter(ctx, []string{"await"})
	if got != int(syscall.SIGTERM) || why != nil || err != nil {
		t.Errorf("got %d %v %v, want %d", got, why, err, int(syscall.SIGTERM))
	}
	if _, _, err := Enter(ctx, []string{"nothing"}, os.Stderr); err != context.Canceled {
		t.Errorf("already cancelled: got %v", err)
	}
}

func TestKillingTheOutsideLeavesNothing(t *testing.T) {
	info := needNamespace(t)
	if !info.PIDNamespace {
		t.Skip("needs a pid namespace with its own /proc: only then a daemonised grandchild dies too")
	}
	cmd := whole("brood")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	awaitReady(t, r)
	cmd.Process.Kill()
	cmd.Wait()
	awaitEnd(t, r)
}

func TestNothingOutlivesTheBuild(t *testing.T) {
	info := needNamespace(t)
	if !info.PIDNamespace {
		t.Skip("needs a pid namespace with its own /proc")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if exit, why, err := (Outside{Stdout: w}).Enter(t.Context(), []string{"leave"}); exit != 0 || why != nil || err != nil {
		t.Fatal(exit, why, err)
	}
	w.Close()
	awaitEnd(t, r)
}

func TestWithAMaskedProcThereIsNoPIDNamespaceAndTheInsideStillDiesWithTheOutside(t *testing.T) {
	needNamespace(t)
	var out bytes.Buffer
	exit, why, err := Outside{Stdout: &out}.Enter(t.Context(), []string{"masked", "report"})
	if exit != 0 || why != nil || err != nil {
		t.Fatal(exit, why, err)
	}
	var got observation
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if got.Info.PIDNamespace || !got.ProcIsOurs || got.UID != 0 {
		t.Errorf("got %+v, want no pid namespace and a /proc that agrees with getpid", got)
	}

	exit, why, err = Enter(t.Context(), []string{"masked", "suicide"}, os.Stderr)
	if exit != 128+9 || why != nil || err != nil {
		t.Errorf("got %d %v %v, want %d", exit, why, err, 128+9)
	}
}

func TestControlCReachesTheInsideOnce(t *testing.T) {
	needNamespace(t)
	terminal, tty := openTerminal(t)
	cmd := whole("count")
	cmd.Stdin, cmd.Stdout = tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	screen := bufio.NewReader(terminal)
	await := func(want string) {
		for {
			line, err := screen.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			if strings.Contains(line, want) {
				return
			}
		}
	}
	await("ready")
	if _, err := terminal.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	await("int")
	cmd.Process.Signal(syscall.SIGTERM)
	if got := code(t, cmd.Wait()); got != 1 {
		t.Errorf("got %d SIGINTs, want 1", got)
	}
}

// openTerminal makes a pseudo-terminal and returns both of its ends.
func openTerminal(t *testing.T) (terminal, tty *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	if err := unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	return terminal, tty
}

func TestAStrayArg0IsRefused(t *testing.T) {
	cmd := whole("nothing")
	cmd.Args[0] = Arg0
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if got := code(t, cmd.Run()); got != 99 || !strings.Contains(stderr.String(), "not by mbuild") {
		t.Errorf("got exit code %d and %q", got, stderr.String())
	}
}

func BenchmarkEnter(b *testing.B) {
	needNamespace(b)
	for b.Loop() {
		if exit, why, err := Enter(b.Context(), []string{"nothing"}, os.Stderr); exit != 0 || why != nil || err != nil {
			b.Fatal(exit, why, err)
		}
	}
}

func awaitReady(t *testing.T, r io.Reader) {
	t.Helper()
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(r, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("waiting for the process inside: %q, %v", line, err)
	}
}

// awaitEnd waits until nobody holds the other end of the pipe any more.
func awaitEnd(t *testing.T, r *os.File) {
	t.Helper()
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("processes are left: %v", err)
	}
}
