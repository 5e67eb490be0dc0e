package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sh is a Spec for a shell script.
func sh(root, script string) Spec {
	return Spec{Root: root, Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}}
}

// output runs s and gives what it wrote on both streams, without the last newline.
func output(t testing.TB, s Spec) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Run(t.Context(), s, &out, &out)
	return strings.TrimSuffix(out.String(), "\n"), err
}

type scriptTest struct {
	name   string
	script string
	change func(*Spec)
	want   string
}

func runScripts(t *testing.T, root string, tests []scriptTest) {
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			s := sh(root, c.script)
			if c.change != nil {
				c.change(&s)
			}
			got, err := output(t, s)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestUser(t *testing.T) {
	root := newRoot(t, nil)
	var tests []scriptTest
	for _, u := range []struct{ rule, user, want string }{
		{"root by default, with root's groups", "", "0 0 0,10"},
		{"a name gives its uid, gid and no groups of others", "app", "1000 1000 1000"},
		{"a name's supplementary groups come from the group file", "multi", "1001 100 100,10,44"},
		{"an explicit group leaves no supplementary groups", "multi:app", "1001 1000 1000"},
		{"an explicit numeric group", "multi:7", "1001 7 7"},
		{"a known uid is like its name", "1001", "1001 100 100,10,44"},
		{"an unknown uid has group 0", "4242", "4242 0 0"},
		{"uid and gid need no entries", "4242:4343", "4242 4343 4343"},
		{"uid and group name", "4242:users", "4242 100 100"},
	} {
		tests = append(tests, scriptTest{
			name:   u.rule,
			script: `echo $(id -u) $(id -g) $(id -G | tr ' ' ,)`,
			change: func(s *Spec) { s.User = u.user },
			want:   u.want,
		})
	}
	runScripts(t, root, tests)
}

func TestUserThatDoesNotExist(t *testing.T) {
	root := newRoot(t, nil)
	for _, c := range []struct{ user, want string }{
		{"nosuch", `look up user "nosuch": unable to find user nosuch`},
		{"app:nosuch", `look up user "app:nosuch": unable to find group nosuch`},
		{"far", `uid 70000 is not mapped into the build's user namespace (it has 0-`},
		{"0:70001", `gid 70001 is not mapped`},
	} {
		s := sh(root, "true")
		s.User = c.user
		_, err := output(t, s)
		var setup *SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("user %s: got %v, want a SetupError with %q", c.user, err, c.want)
		}
	}
}

func TestAccountFilesStayInsideTheRootAndAreRegular(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	write(t, outside, "app:x:5:5::/:/bin/sh\n", 0o644)
	for _, c := range []struct {
		name    string
		prepare func(etc string)
		wantErr string
	}{
		{"absolute link inside", func(etc string) {
			write(t, etc+"/../usr/lib/passwd", "app:x:5:5::/:/bin/sh\n", 0o644)
			symlink(t, "/usr/lib/passwd", etc+"/passwd")
		}, ""},
		{"link that climbs out", func(etc string) { symlink(t, strings.Repeat("../", 30)+outside, etc+"/passwd") }, "unable to find user app"},
		{"pipe", func(etc string) { mkfifo(t, etc+"/passwd") }, "/etc/passwd is not a regular file"},
		{"too large", func(etc string) { write(t, etc+"/passwd", strings.Repeat("#\n", maxAccounts/2+1), 0o644) }, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRoot(t, func(lower string) {
				if err := os.Remove(lower + "/etc/passwd"); err != nil {
					t.Fatal(err)
				}
				c.prepare(lower + "/etc")
			})
			s := sh(root, "true")
			s.User = "app"
			_, err := output(t, s)
			if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got %v, want %q", err, c.wantErr)
			}
		})
	}
}

func TestProcess(t *testing.T) {
	root := newRoot(t, func(lower string) { write(t, lower+"/srv/hello", "#!/bin/sh\necho hello from $PWD\n", 0o755) })
	runScripts(t, root, []scriptTest{
		{name: "is process 1", script: "echo $$", want: "1"},
		{name: "sees only its own processes", script: "sleep 100 & set -- /proc/[0-9]*; echo $#", want: "2"},
		{name: "starts in / by default", script: "pwd", want: "/"},
		{name: "starts in Dir", script: "pwd", change: func(s *Spec) { s.Dir = "/etc/../tmp" }, want: "/tmp"},
		{name: "has umask 022", script: "umask", want: "0022"},
		{name: "has standard input at its end", script: "cat; echo $?", want: "0"},
		{name: "has the environment it was given and HOME", change: func(s *Spec) { s.Args = []string{"env"}; s.Env = []string{"A=b c", "PATH=/bin", "EMPTY="} },
			want: "A=b c\nPATH=/bin\nEMPTY=\nHOME=/root"},
		{name: "has HOME from the account", script: "echo $HOME", change: func(s *Spec) { s.User = "app" }, want: "/home/app"},
		{name: "has / for HOME without an account", script: "echo $HOME", change: func(s *Spec) { s.User = "4242" }, want: "/"},
		{name: "keeps HOME", script: "echo $HOME", change: func(s *Spec) { s.Env = append(s.Env, "HOME=/x"); s.User = "app" }, want: "/x"},
		{name: "has the customary PATH when there is none", change: func(s *Spec) { s.Args = []string{"env"}; s.Env = nil },
			want: "PATH=" + defaultPath + "\nHOME=/root"},
		{name: "is looked up in PATH", change: func(s *Spec) { s.Args = []string{"hello"}; s.Env = []string{"PATH=/nosuch:/etc/passwd:/srv:/bin"} }, want: "hello from /"},
		{name: "is looked up in Dir with a slash", change: func(s *Spec) { s.Args = []string{"./hello"}; s.Dir = "/srv" }, want: "hello from /srv"},
		{name: "has no other descriptors", change: func(s *Spec) { s.Args = []string{"ls", "/proc/self/fd"} }, want: "0\n1\n2\n3"},
		{name: "can reopen its output as another user", script: "echo a >/dev/stdout; echo b >/dev/stderr", change: func(s *Spec) { s.User = "app" }, want: "a\nb"},
		{name: "is alone in its session", script: "cut -d' ' -f6 /proc/self/stat", want: "1"},
		{name: "has its host name", script: "hostname", change: func(s *Spec) { s.Hostname = "builder-1" }, want: "builder-1"},
		{name: "has a host name", script: "hostname", want: DefaultHostname},
		{name: "has limits", script: "ulimit -n; ulimit -Hn; ulimit -c", change: func(s *Spec) {
			s.Ulimits = []Ulimit{{"nofile", 100, 200}, {"core", 0, 0}}
		}, want: "100\n200\n0"},
		{name: "may have a large environment", script: "echo ${#BIG}", change: func(s *Spec) { s.Env = append(s.Env, "BIG="+strings.Repeat("x", 100000)) }, want: "100000"},
		{name: "sees the ids of the build namespace", script: "cd /tmp; touch f; chown 65535:65534 f; stat -c %u:%g f; rm f", want: "65535:65534"},
	})
}

func TestExit(t *testing.T) {
	root := newRoot(t, func(lower string) {
		write(t, lower+"/bin/plain", "true\n", 0o644)
		write(t, lower+"/bin/nointerp", "#!/no/such/interpreter -x\n", 0o755)
		write(t, lower+"/bin/garbage", "echo hello\n", 0o755)
		write(t, lower+"/bin/empty", "", 0o755)
		write(t, lower+"/bin/foreign", "\x7fELF\x02\x02\x01"+strings.Repeat("\x00", 9)+"\x00\x02\x00\x16"+strings.Repeat("\x00", 100), 0o755)
	})
	for _, c := range []struct {
		name string
		args []string
		want ExitError
		text string
	}{
		{"a status", []string{"sh", "-c", "exit 3"}, ExitError{Code: 3}, "exit status 3"},
		{"process 1 is not killed by its own signals", []string{"sh", "-c", "kill -9 $$; exit 4"}, ExitError{Code: 4}, "exit status 4"},
		{"a child is killed by a signal", []string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, ExitError{Code: 137}, "exit status 137"},
		{"not in PATH", []string{"nosuch", "a"}, ExitError{Code: 127}, `exec: "nosuch": executable file not found in $PATH`},
		{"no such file", []string{"/bin/nosuch"}, ExitError{Code: 127}, `exec: "/bin/nosuch": no such file or directory`},
		{"not executable", []string{"plain"}, ExitError{Code: 126}, `exec: "plain": permission denied`},
		{"a directory", []string{"/etc"}, ExitError{Code: 126}, `exec: "/etc": permission denied`},
		{"interpreter missing", []string{"nointerp"}, ExitError{Code: 127}, `exec: "nointerp": its interpreter /no/such/interpreter is not in the root filesystem`},
		{"neither program nor script", []string{"garbage"}, ExitError{Code: 126}, `is neither an ELF program nor a script`},
		{"empty", []string{"empty"}, ExitError{Code: 126}, `is empty`},
		{"another architecture", []string{"foreign"}, ExitError{Code: 126}, `is an ELF program for EM_S390; this machine is linux/`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := output(t, Spec{Root: root, Args: c.args, Env: []string{"PATH=/bin"}})
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Code != c.want.Code || exit.Signal != c.want.Signal || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %#v (%v), want code %d and %q", err, err, c.want.Code, c.text)
			}
		})
	}
}

// A shell as process 1 ends itself by no signal, so something outside has to: the child of the supervisor is an ordinary process.
func TestSignalIsToldFromStatus(t *testing.T) {
	root := newRoot(t, nil)
	s := sh(root, "kill -9 $$")
	s.Proc = ProcOuter
	_, err := output(t, s)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 137 || exit.Signal != syscall.SIGKILL {
		t.Errorf("got %v, want signal 9 and code 137", err)
	}
}

func TestSetupErrors(t *testing.T) {
	root := newRoot(t, nil)
	for _, c := range []struct {
		name   string
		change func(*Spec)
		want   string
		errno  error
	}{
		{"missing working directory", func(s *Spec) { s.Dir = "/no/such" }, "change to working directory /no/such: no such file or directory", unix.ENOENT},
		{"working directory is a file", func(s *Spec) { s.Dir = "/etc/passwd" }, "change to working directory /etc/passwd: not a directory", unix.ENOTDIR},
		{"missing bind source", func(s *Spec) { s.Mounts = []Mount{Bind{Source: "/no/such", Target: "/x"}} }, "mount /x: source /no/such: no such file or directory", unix.ENOENT},
		{"file over directory", func(s *Spec) { s.Files = []File{{Path: "/etc"}} }, "mount /etc: is a directory", unix.EISDIR},
		{"directory over file", func(s *Spec) { s.Mounts = []Mount{Tmpfs{Target: "/etc/passwd"}} }, "mount /etc/passwd: not a directory", unix.ENOTDIR},
		{"target over the root", func(s *Spec) { s.Mounts = []Mount{Tmpfs{Target: "/x/.."}} }, "mount /x/..: the root itself cannot be mounted over", nil},
		{"relative target", func(s *Spec) { s.Mounts = []Mount{Tmpfs{Target: "x"}} }, "target is not an absolute path", nil},
		{"no root", func(s *Spec) { s.Root = "/no/such" }, "no such file or directory", unix.ENOENT},
		{"no program", func(s *Spec) { s.Args = nil }, "no program to run", nil},
		{"unknown limit", func(s *Spec) { s.Ulimits = []Ulimit{{Name: "files"}} }, `set limit "files": there is no such limit`, nil},
		{"unmapped owner of a file", func(s *Spec) { s.Files = []File{{Path: "/x", UID: 70000}} }, "uid 70000 is not mapped", nil},
		{"bad host", func(s *Spec) { s.Hosts = []string{"a=b"} }, "make /etc/hosts", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sh(root, "echo ran")
			c.change(&s)
			got, err := output(t, s)
			var setup *SetupError
			if !errors.As(err, &setup) || !strings.Contains(err.Error(), c.want) || got != "" {
				t.Errorf("got %v and output %q, want a SetupError with %q", err, got, c.want)
			}
			if c.errno != nil && !errors.Is(err, c.errno) {
				t.Errorf("%v is not %v", err, c.errno)
			}
		})
	}
}

func TestOutput(t *testing.T) {
	root := newRoot(t, nil)
	t.Run("long lines and both streams come whole", func(t *testing.T) {
		var out, errs bytes.Buffer
		s := sh(root, `for i in 1 2 3; do head -c 1000000 /dev/zero | tr '\0' x; echo; done; echo err >&2`)
		if err := Run(t.Context(), s, &out, &errs); err != nil {
			t.Fatal(err)
		}
		line := strings.Repeat("x", 1000000) + "\n"
		if out.String() != strings.Repeat(line, 3) || errs.String() != "err\n" {
			t.Errorf("got %d bytes and %q", out.Len(), errs.String())
		}
	})
	t.Run("a file is given as it is", func(t *testing.T) {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Run(t.Context(), sh(root, "echo x; stat -L -c %F /proc/self/fd/1"), f, f); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || string(got) != "x\nregular file\n" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("a failing writer is reported", func(t *testing.T) {
		err := Run(t.Context(), sh(root, "echo x"), failingWriter{}, io.Discard)
		if !errors.Is(err, errWriter) {
			t.Errorf("got %v, want %v", err, errWriter)
		}
	})
}

var errWriter = errors.New("writer is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errWriter }

// both runs a test with a pid namespace and with a supervisor instead.
func both(t *testing.T, test func(t *testing.T, proc Proc)) {
	t.Run("pid namespace", func(t *testing.T) { test(t, ProcAuto) })
	t.Run("supervisor", func(t *testing.T) { test(t, ProcOuter) })
}

func TestBackgroundProcessesEndWithTheProgram(t *testing.T) {
	both(t, func(t *testing.T, proc Proc) {
		root := newRoot(t, nil)
		mark := marked(t)
		s := sh(root, fmt.Sprintf("(setsid sh -c 'sleep %s & sleep %s') & sleep %s & echo started", mark, mark, mark))
		s.Proc = proc
		got, err := output(t, s)
		if err != nil || got != "started" {
			t.Errorf("got %q, %v", got, err)
		}
		nobodyHas(t, mark)
	})
}

func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, proc Proc) {
		root := newRoot(t, nil)
		before := listing(t, root)
		mark := marked(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		s := sh(root, fmt.Sprintf("trap '' TERM INT; setsid sleep %s & echo running; while :; do sleep %s; done", mark, mark))
		s.Proc = proc
		out := writerFunc(func(p []byte) (int, error) {
			cancel(cause)
			return len(p), nil
		})
		if err := Run(ctx, s, out, out); !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
		nobodyHas(t, mark)
		sameListing(t, before, listing(t, root))
	})
	t.Run("before the start", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Run(ctx, sh(newRoot(t, nil), "true"), io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func BenchmarkRunTrue(b *testing.B) {
	complete := newRoot(b, func(lower string) {
		for _, name := range []string{"proc/x", "sys/x", "dev/x", "etc/hosts", "etc/resolv.conf"} {
			write(b, filepath.Join(lower, name), "", 0o644)
		}
	})
	for _, c := range []struct {
		name string
		spec Spec
	}{
		{"as it is", Spec{Root: complete}},
		{"without network", Spec{Root: complete, Network: None}},
		{"with a supervisor", Spec{Root: complete, Proc: ProcOuter}},
		{"with mount points to make", Spec{Root: newRoot(b, nil)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.spec.Args = []string{"/bin/true"}
			for b.Loop() {
				if err := Run(b.Context(), c.spec, io.Discard, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
