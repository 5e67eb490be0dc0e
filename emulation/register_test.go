package emulation

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// inside are the parts of tests that run in a user namespace of their own.
var inside = map[string]func(args []string) error{
	"register": registerInside,
	"prove": func(args []string) error {
		return archByName(args[0]).prove()
	},
	// twice registers while there is a table already: it cannot be fresh.
	"twice": func(args []string) error {
		first, err := Find(Options{}).Register(args[0], parse(args[1:]))
		if err != nil {
			return err
		}
		defer first.Close()
		_, err = newTable(args[0], "6.18", func(*table) error { return nil })
		if !errors.Is(err, ErrNoOwnBinfmt) || !strings.Contains(err.Error(), "mbuild-") {
			return fmt.Errorf("second table: got %v, want ErrNoOwnBinfmt with the entry's name", err)
		}
		return nil
	},
	"handler": hostHandlerInside,
	// broken gives an emulator that runs but emulates nothing: the tiny program of our own architecture, which ends with the first byte of its own path.
	"broken": func(args []string) error {
		_, err := Find(Options{Emulators: map[string]string{"arm64": args[1]}}).Register(args[0], parse(args[2:]))
		var e *MissingError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), args[1]+" is registered, but programs lose their argv[0]") {
			return fmt.Errorf("got %v, want a MissingError", err)
		}
		if err := archByName("arm64").prove(); err == nil {
			return errors.New("the table is still there after the error")
		}
		return nil
	},
}

func registerInside(args []string) error {
	dir, names := args[0], args[1:]
	s := Find(Options{})
	start := time.Now()
	c, err := s.Register(dir, parse(names))
	if err != nil {
		return err
	}
	took := time.Since(start)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		return fmt.Errorf("left in the directory: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), dir) {
		return fmt.Errorf("the table is mounted:\n%s", mounts)
	}
	for _, p := range parse(names) {
		a := archByName(p.Architecture)
		if w := s.Way(p); w.Kind != QEMU && w.Kind != Native {
			return fmt.Errorf("%s: got %+v", a.name, w)
		}
		nested, stderr := insideCommand("prove", a.name)
		nested.SysProcAttr.UidMappings[0] = syscall.SysProcIDMap{Size: 1}
		nested.SysProcAttr.GidMappings[0] = syscall.SysProcIDMap{Size: 1}
		if err := nested.Run(); err != nil {
			return fmt.Errorf("%s in a namespace below: %w: %s", a.name, err, stderr)
		}
	}
	fmt.Println("registered in", took)
	io.Copy(io.Discard, os.Stdin)
	if err := errors.Join(c.Close(), archByName("arm64").proveGone()); err != nil {
		return err
	}
	again, err := s.Register(dir, parse(names))
	if err != nil {
		return fmt.Errorf("a second time: %w", err)
	}
	return again.Close()
}

// hostHandlerInside plays a host with a handler for arm64: with flags, in a table that a later one cannot be had beside.
func hostHandlerInside(args []string) error {
	dir, flags := args[0], args[1]
	arm64, both := archByName("arm64"), parse([]string{"linux/arm64", "linux/s390x"})
	t, err := newTable(dir, "6.18", func(t *table) error {
		line, err := arm64.entry(Find(Options{}).Way(both[0]).Emulator)
		if err != nil {
			return err
		}
		return t.write(strings.TrimSuffix(line, "POCF") + flags)
	})
	if err != nil {
		return err
	}
	defer t.Close()
	for _, release := range []string{"6.6.0", "6.7.0"} { // no table of our own: known beforehand, found out
		s := Find(Options{})
		s.release = release
		c, err := s.Register(dir, both[:1])
		if flags == "POC" {
			if !errors.As(err, new(*MissingError)) || !strings.Contains(err.Error(), "lacks the flag F") {
				return fmt.Errorf("arm64, Linux %s: got %v, want a MissingError about the flag F", release, err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("arm64, Linux %s: %w", release, err)
		}
		if err := c.Close(); err != nil {
			return err
		}
		w := s.Way(both[0])
		if w.Kind != HostHandler || (w.Reason == "") != (flags == "POCF") {
			return fmt.Errorf("arm64, Linux %s: got %+v", release, w)
		}
		var e *MissingError
		if _, err := s.Register(dir, both); !errors.As(err, &e) || e.Platform != "linux/s390x" {
			return fmt.Errorf("s390x, Linux %s: got %v, want a MissingError", release, err)
		}
	}
	return nil
}

func (a *arch) proveGone() error {
	if a.prove() == nil {
		return fmt.Errorf("%s programs still run after Close", a.name)
	}
	return nil
}

func parse(names []string) (ps []ocispec.Platform) {
	for _, n := range names {
		ps = append(ps, platforms.MustParse(n))
	}
	return ps
}

// emulated are the known platforms that have a QEMU here, at least arm64.
func emulated(t *testing.T) (names []string) {
	t.Helper()
	s := Find(Options{})
	if w := s.Way(platforms.MustParse("linux/arm64")); w.Kind != QEMU {
		t.Skipf("needs QEMU for arm64: got %v: %s", w.Kind, w.Reason)
	}
	for _, n := range known() {
		if w := s.Way(platforms.MustParse(n)); w.Kind != Missing {
			names = append(names, n)
		}
	}
	return names
}

func TestRegisteredProgramsRunInsideAndNowhereElse(t *testing.T) {
	arm64 := archByName("arm64")
	hiddenByHost(t, arm64)
	names := emulated(t)
	cmd, stderr := insideCommand("register", append([]string{t.TempDir()}, names...)...)
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Skipf("needs a user namespace: %v", err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if strings.HasPrefix(line, "registered in ") {
		if err := arm64.prove(); !errors.Is(err, syscall.ENOEXEC) {
			t.Errorf("arm64 program outside: got %v, want %v", err, syscall.ENOEXEC)
		}
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
	t.Logf("%s: %s", strings.TrimSpace(line), strings.Join(names, " "))
}

func TestATableThatIsNotFreshIsLeftAlone(t *testing.T) {
	hiddenByHost(t, archByName("arm64"))
	emulated(t)
	if _, err := runInside(t, "twice", t.TempDir(), "linux/arm64"); err != nil {
		t.Error(err)
	}
}

func TestAHandlerOfTheHostIsUsedWhenThereIsNoTableOfOurOwn(t *testing.T) {
	hiddenByHost(t, archByName("arm64"))
	emulated(t)
	for _, flags := range []string{"POCF", "OCF", "POC"} { // without P a program loses its argv[0], and Way says so; without F it is of no use
		if _, err := runInside(t, "handler", t.TempDir(), flags); err != nil {
			t.Errorf("%s: %v", flags, err)
		}
	}
}

func TestAnEmulatorThatDoesNotEmulateIsFoundOut(t *testing.T) {
	hiddenByHost(t, archByName("arm64"))
	emulated(t)
	fake := filepath.Join(t.TempDir(), "fake")
	for _, a := range architectures() {
		if a.isHost() {
			if err := os.WriteFile(fake, a.tiny(), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := runInside(t, "broken", t.TempDir(), fake, "linux/arm64"); err != nil {
		t.Error(err)
	}
}

func TestWithoutForeignPlatformsNothingIsRegistered(t *testing.T) {
	c, err := Find(Options{}).Register("/nonexistent", []ocispec.Platform{platforms.DefaultSpec()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestOutsideOfAUserNamespaceRegisterSaysSo(t *testing.T) {
	hiddenByHost(t, archByName("arm64"))
	emulated(t)
	_, err := Find(Options{}).Register(t.TempDir(), parse([]string{"linux/arm64"}))
	var e *MissingError
	if !errors.Is(err, ErrNoOwnBinfmt) || !errors.As(err, &e) || e.Platform != "linux/arm64" {
		t.Errorf("got %v, want a MissingError for linux/arm64 that is ErrNoOwnBinfmt", err)
	}
}
