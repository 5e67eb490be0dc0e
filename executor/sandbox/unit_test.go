package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFailuresKeepTheirTypeAndCause(t *testing.T) {
	for _, err := range []error{
		&SetupError{Op: "mount /proc", Err: unix.EPERM},
		&SetupError{Op: "mount /x", Err: &fs.PathError{Op: "open", Path: "/x", Err: unix.ENOENT}},
		&SetupError{Op: "start", Err: errors.New("no errno")},
		&ExitError{Code: 126, Err: cannotExecute("x", "/no/such", unix.ENOEXEC)},
		&ExitError{Code: 127, Err: errors.New("not found")},
	} {
		got := failureOf(err).err()
		var wantExit, exit *ExitError
		var wantErrno, errno unix.Errno
		if errors.As(err, &wantExit) != errors.As(got, &exit) || wantExit != nil && wantExit.Code != exit.Code {
			t.Errorf("got %#v, want %#v", got, err)
		}
		if errors.As(err, &wantErrno) != errors.As(got, &errno) || errno != wantErrno || got.Error() != err.Error() {
			t.Errorf("got %v (errno %d), want %v (errno %d)", got, errno, err, wantErrno)
		}
	}
}

func TestDefaultsDoNotOverride(t *testing.T) {
	given := []string{"PATH=", "A=1"}
	if got := withDefault(given, "PATH", "x"); len(got) != 2 || got[0] != "PATH=" {
		t.Errorf("got %q: an empty value is a value", got)
	}
	if got := withDefault(given, "HOME", "/h"); len(got) != 3 || got[2] != "HOME=/h" {
		t.Errorf("got %q", got)
	}
	if got := withDefault([]string{"PATHS=1"}, "PATH", "x"); len(got) != 2 {
		t.Errorf("got %q: another name's beginning is not the name", got)
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct{ name, path, want string }{
		{"a", "/x:/y/", "/x/a /y/a"},
		{"a", "/x::rel", "/x/a a rel/a"},
		{"./a", "/x", "./a"},
		{"/b/a", "/x", "/b/a"},
	} {
		if got := strings.Join(candidates(c.name, []string{"PATH=" + c.path}), " "); got != c.want {
			t.Errorf("%s in %s: got %s, want %s", c.name, c.path, got, c.want)
		}
	}
}

func TestHeadOfThisProgram(t *testing.T) {
	data, err := readHead("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if got := parseHead(data).String(); !strings.HasPrefix(got, "is an ELF program for EM_") {
		t.Errorf("got %s", got)
	}
}

func FuzzParseHead(f *testing.F) {
	if self, err := readHead("/proc/self/exe"); err == nil {
		f.Add(self)
	}
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Add([]byte("#!"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := parseHead(data)
		if h.String() == "" || !strings.Contains(string(data), h.interpreter) {
			t.Errorf("%q: got %+v", data, h)
		}
	})
}

func FuzzHostsFile(f *testing.F) {
	f.Add("a=1.2.3.4")
	f.Add("a ::1")
	f.Fuzz(func(t *testing.T, entry string) {
		data, err := hostsFile("h", []string{entry})
		if err == nil && strings.Count(string(data), "\n") != 3 {
			t.Errorf("%q makes more than one line: %q", entry, data)
		}
	})
}

// FuzzPlaces opens any target below any root with a link in it, and checks that the rest of the world stays as it is.
func FuzzPlaces(f *testing.F) {
	f.Add("/a/b", "../../../x", true)
	f.Add("/l/../../b/l/c", "/../l2/./..", false)
	f.Add("..//l", "/l", true)
	f.Fuzz(func(t *testing.T, target, link string, dir bool) {
		outer := t.TempDir()
		if err := os.MkdirAll(outer+"/1/2/root/a", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, outer+"/1/2/root/l"); err != nil {
			t.Skip(err)
		}
		before := listing(t, outer)
		root, err := unix.Open(outer+"/1/2/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(root)
		var made []madePoint
		p := places{root: root, made: func(dir int, m mountPoint) error {
			dir, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
			made = append(made, madePoint{m, dir})
			return err
		}}
		if fd, err := p.open(target, placeKind(dir)); err == nil {
			unix.Close(fd)
		}
		for name := range listing(t, outer) {
			if _, ok := before[name]; !ok && !strings.HasPrefix(name, "1/2/root/") {
				t.Errorf("target %q with link %q made %s", target, link, name)
			}
		}
		if err := removeTraces(made); err != nil {
			t.Error(err)
		}
		sameListing(t, before, listing(t, outer))
	})
}
