package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSystem(t *testing.T) {
	root := newRoot(t, nil)
	const try = `try() { "$@" 2>/dev/null && echo yes || echo no; }; `
	runScripts(t, root, []scriptTest{
		{name: "devices work", script: "echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x >/dev/full || true", want: "3\n3\nsh: write error: No space left on device"},
		{name: "dev is complete", script: "ls /dev", want: "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero"},
		{name: "dev has its mode", script: "stat -c '%a %n' /dev /dev/shm /dev/pts/ptmx", want: "755 /dev\n1777 /dev/shm\n666 /dev/pts/ptmx"},
		{name: "shm has its default size", script: "df -k /dev/shm | tail -1 | awk '{print $2}'", want: "65536"},
		{name: "shm has the size asked for", script: "df -k /dev/shm | tail -1 | awk '{print $2}'", change: func(s *Spec) { s.ShmSize = 1 << 20 }, want: "1024"},
		{name: "kernel settings are read-only", script: try + "try sh -c 'echo 1 >/proc/sys/vm/drop_caches'; try sh -c 'echo x >/proc/sysrq-trigger'", want: "no\nno"},
		{name: "proc is masked", script: "wc -c </proc/timer_list; wc -c </proc/interrupts; ls /proc/acpi | wc -l", want: "0\n0\n0"},
		{name: "sys is not writable", script: try + "try sh -c 'echo 1 >/sys/kernel/uevent_seqnum'; try mkdir /sys/fs/cgroup/x; try touch /sys/x; try test -d /sys/class", want: "no\nno\nno\nyes"},
		{name: "no devices can be made", script: try + "try mknod /tmp/d c 1 3; try mknod /tmp/b b 8 0; try mkfifo /tmp/p", want: "no\nno\nyes"},
		{name: "nothing can be mounted", script: try + "try mount -t tmpfs x /tmp; try umount /proc; try mount -o remount,rw /sys", want: "no\nno\nno"},
		{name: "no namespaces can be made", script: try + "try unshare -U true; try unshare -n true", want: "no\nno"},
		{name: "the rest of the host is not mounted", script: "awk '{print $5}' /proc/self/mountinfo | grep -v -E '^/(proc|sys|dev)(/|$)'", want: "/\n/etc/resolv.conf\n/etc/hosts"},
		{name: "the default capabilities", script: "grep Cap /proc/self/status", want: "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000"},
		{name: "no capabilities for others", script: "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status", change: func(s *Spec) { s.User = "app" },
			want: "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000"},
		{name: "filtered, but free to gain privileges", script: "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status", want: "NoNewPrivs:\t0\nSeccomp:\t2"},
		{name: "insecure", script: try + "grep -E 'CapEff|Seccomp:' /proc/self/status; try mount -t tmpfs x /tmp; try unshare -n true", change: func(s *Spec) { s.Insecure = true },
			want: "CapEff:\t000001ffffffffff\nSeccomp:\t0\nyes\nyes"},
		{name: "without network there is only lo, and it is up", script: "ls /sys/class/net; ip -o addr | awk '{print $2, $4}'; wc -c </etc/resolv.conf", change: func(s *Spec) { s.Network = None }, want: "lo\nlo 127.0.0.1/8\nlo ::1/128\n0"},
		{name: "hosts", script: "cat /etc/hosts", change: func(s *Spec) { s.Hostname = "h"; s.Hosts = []string{"a=10.0.0.1", "b ::2"} },
			want: "127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\ta\n::2\tb"},
		{name: "generated files cannot be changed", script: try + "try sh -c 'echo >>/etc/hosts'; try rm /etc/resolv.conf; try chmod 666 /etc/hosts", want: "no\nno\nno"},
	})
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Skip(err)
	}
	if got, err := output(t, sh(root, "cat /etc/resolv.conf")); err != nil || got != strings.TrimSuffix(string(host), "\n") {
		t.Errorf("resolv.conf: got %q, %v; want the host's %q", got, err, host)
	}
}

func TestOuterProcIsReportedWhenAskedFor(t *testing.T) {
	root := newRoot(t, nil)
	s := sh(root, "test $$ -gt 1 && test -d /proc/$$ && cat /proc/self/comm; echo x >/proc/sys/vm/drop_caches")
	s.Proc = ProcOuter
	got, err := output(t, s)
	if err == nil || !strings.HasPrefix(got, "cat\n/bin/sh: ") {
		t.Errorf("got %q, %v; want /proc of the outer pid namespace, protected", got, err)
	}
}

// In a container parts of /proc are covered; then the kernel refuses a new one.
func TestMaskedOuterProcMeansOuterProc(t *testing.T) {
	root := newRoot(t, nil)
	if err := unix.Mount("/dev/null", "/proc/timer_list", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount("/proc/timer_list", 0); err != nil {
			t.Error(err)
		}
	}()
	s := sh(root, "echo once; test -d /proc/$$ && echo $?")
	var told []Degradation
	s.Degraded = func(d Degradation) { told = append(told, d) }
	got, err := output(t, s)
	if err != nil || got != "once\n0" {
		t.Errorf("got %q, %v", got, err)
	}
	if len(told) != 1 || told[0].Feature != PIDNamespace || !strings.Contains(told[0].Reason, "operation not permitted") {
		t.Errorf("got degradations %v, want one of the pid namespace", told)
	}
}

func TestNoTraces(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(lower string)
		change  func(*Spec)
		script  string
		leaves  []string // new paths that are the program's own; their directories may change too
	}{
		{name: "no mount point exists"},
		{name: "all mount points exist", prepare: func(lower string) {
			for _, d := range []string{"proc", "sys", "dev/pts"} {
				if err := os.MkdirAll(filepath.Join(lower, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, lower+"/dev/null", "not a device", 0o600)
			write(t, lower+"/etc/hosts", "mine", 0o600)
			write(t, lower+"/etc/resolv.conf", "mine", 0o600)
		}},
		{name: "resolv.conf is a dangling link", prepare: func(lower string) {
			symlink(t, "../run/systemd/resolve/stub-resolv.conf", lower+"/etc/resolv.conf")
		}, script: "test -f /run/systemd/resolve/stub-resolv.conf"},
		{name: "hosts is an absolute dangling link", prepare: func(lower string) { symlink(t, "/a/../b/hosts", lower+"/etc/hosts") }, script: "test -f /b/hosts"},
		{name: "no etc at all", prepare: func(lower string) {
			if err := os.RemoveAll(lower + "/etc"); err != nil {
				t.Fatal(err)
			}
		}, script: "test -f /etc/hosts"},
		{name: "etc was missing and the program fills it", prepare: func(lower string) {
			if err := os.RemoveAll(lower + "/etc"); err != nil {
				t.Fatal(err)
			}
		}, script: "echo x >/etc/foo", leaves: []string{"etc", "etc/foo"}},
		{name: "deep targets", change: func(s *Spec) {
			s.Mounts = []Mount{Tmpfs{Target: "/a/b/c"}, Bind{Source: "/dev", Target: "/a/d/../e/f"}, Tmpfs{Target: "/tmp/x/y"}}
			s.Files = []File{{Path: "/run/secrets/one", Data: []byte("s"), Mode: 0o400}, {Path: "/a/b/c/two"}, {Path: "/dev/pipes/EOF"}}
		}, script: "echo x >/a/b/c/file; touch /tmp/x/y/z"},
		{name: "a mount inside a writable bind", change: func(s *Spec) {
			s.Mounts = []Mount{Bind{Source: s.Root + "/tmp", Target: "/m"}, Tmpfs{Target: "/m/n/o"}}
		}, script: "test -d /m/n/o"},
		{name: "the program fails", script: "exit 3"},
		{name: "the program renames the directories", change: func(s *Spec) { s.Mounts = []Mount{Tmpfs{Target: "/a/b"}} },
			script: "mv /a /z; mkdir /a", leaves: []string{"a", "z"}},
		{name: "the sandbox cannot be made", change: func(s *Spec) { s.Dir = "/no/such"; s.Mounts = []Mount{Tmpfs{Target: "/a/b"}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRoot(t, c.prepare)
			before := listing(t, root)
			s := sh(root, firstOf(c.script, "true"))
			if c.change != nil {
				c.change(&s)
			}
			_, err := output(t, s)
			if wantErr := strings.HasPrefix(c.name, "the program fails") || s.Dir != ""; (err != nil) != wantErr {
				t.Error(err)
			}
			after := listing(t, root)
			for _, p := range c.leaves {
				if _, ok := after[p]; !ok {
					t.Errorf("%s of the program is gone", p)
				}
				delete(after, p)
				after[filepath.Dir(p)] = before[filepath.Dir(p)]
			}
			delete(after, "")
			if _, ok := before["etc"]; !ok {
				delete(after, "etc")
			}
			sameListing(t, before, after)
		})
	}
}

func TestAChangeOfTheProgramShows(t *testing.T) {
	root := newRoot(t, nil)
	before := listing(t, root)
	if _, err := output(t, sh(root, "touch -d @77 /etc")); err != nil {
		t.Fatal(err)
	}
	after := listing(t, root)
	if !strings.Contains(after["etc"], "1970-01-01T00:01:17Z") {
		t.Errorf("the time that the program gave /etc is gone: %s", after["etc"])
	}
	after["etc"] = before["etc"]
	sameListing(t, before, after)
}

// A root filesystem full of links that try to have mounts made outside.
func TestHostileLinksStayInside(t *testing.T) {
	outside := t.TempDir()
	up := strings.Repeat("../", 30)
	for _, c := range []struct {
		name    string
		prepare func(lower string)
		mounts  []Mount
	}{
		{"system directories are absolute links", func(lower string) {
			for _, d := range []string{"proc", "sys", "dev"} {
				symlink(t, outside+"/"+d, filepath.Join(lower, d))
			}
		}, nil},
		{"system directories climb out", func(lower string) {
			for _, d := range []string{"proc", "sys", "dev"} {
				symlink(t, up+outside+"/"+d, filepath.Join(lower, d))
			}
		}, nil},
		{"etc is elsewhere", func(lower string) {
			if err := os.RemoveAll(lower + "/etc"); err != nil {
				t.Fatal(err)
			}
			symlink(t, up+outside, lower+"/etc")
		}, nil},
		{"targets go up", nil, []Mount{Tmpfs{Target: "/" + up + outside + "/t"}}},
		{"a link on the way", func(lower string) { symlink(t, up, lower+"/a") }, []Mount{Tmpfs{Target: "/a/" + outside + "/t"}}},
		{"a magic link on the way", nil, []Mount{Tmpfs{Target: "/proc/self/cwd" + outside + "/t"}, Tmpfs{Target: "/dev/fd/" + outside}}},
		{"a loop", func(lower string) { symlink(t, "loop", lower+"/loop") }, []Mount{Tmpfs{Target: "/loop/t"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := newRoot(t, c.prepare)
			before, outsideBefore := listing(t, root), listing(t, outside)
			mounted := mounts(t)
			s := sh(root, "true")
			s.Mounts = c.mounts
			_, err := output(t, s)
			t.Log(err) // fine either way
			sameListing(t, before, listing(t, root))
			sameListing(t, outsideBefore, listing(t, outside))
			if now := mounts(t); now != mounted {
				t.Errorf("mounts changed from\n%s\nto\n%s", mounted, now)
			}
		})
	}
}

func mounts(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMounts(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/dir/file", "content", 0o644)
	symlink(t, "/dir", source+"/link")
	symlink(t, "../../../../../../../../../etc", source+"/out")
	if err := os.Mkdir(source+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	root := newRoot(t, nil)
	if err := unix.Mount("tmpfs", source+"/sub", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(source+"/sub", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	mount := func(m ...Mount) func(*Spec) { return func(s *Spec) { s.Mounts = m } }
	const try = `try() { "$@" 2>/dev/null && echo yes || echo no; }; `
	runScripts(t, root, []scriptTest{
		{name: "bind of a directory", script: "cat /m/dir/file; echo x >/m/new; rm /m/new", change: mount(Bind{Source: source, Target: "/m"}), want: "content"},
		{name: "bind of a file", script: "cat /m/f", change: mount(Bind{Source: source + "/dir/file", Target: "/m/f"}), want: "content"},
		{name: "read-only reaches mounts below", script: try + "try touch /m/x; try touch /m/sub/x", change: mount(Bind{Source: source, Target: "/m", ReadOnly: true}), want: "no\nno"},
		{name: "writable reaches mounts below", script: try + "try touch /m/sub/x; rm /m/sub/x", change: mount(Bind{Source: source, Target: "/m"}), want: "yes"},
		{name: "a source within a directory cannot leave it", script: "cat /m/file", change: mount(Bind{Within: source, Source: "/link", Target: "/m"}), want: "content"},
		{name: "tmpfs", script: "stat -c %a /m; df -k /m | tail -1 | awk '{print $2}'", change: mount(Tmpfs{Target: "/m", Size: 1 << 20, Mode: 0o700}), want: "700\n1024"},
		{name: "tmpfs is open to all by default", script: "stat -c %a /m; touch /m/x", change: func(s *Spec) { s.Mounts = []Mount{Tmpfs{Target: "/m"}}; s.User = "app" }, want: "1777"},
		{name: "later mounts are on earlier ones", script: "cat /m/n/file; ls /m", change: mount(Tmpfs{Target: "/m"}, Bind{Source: source + "/dir", Target: "/m/n"}), want: "contentn"},
		{name: "a mount covers resolv.conf", script: "cat /etc/resolv.conf", change: mount(Bind{Source: source + "/dir/file", Target: "/etc/resolv.conf"}), want: "content"},
	})
	s := sh(root, "true")
	s.Mounts = []Mount{Bind{Within: source, Source: "/out/passwd", Target: "/m"}}
	if _, err := output(t, s); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a source led out of its directory: %v", err)
	}
}

func TestFiles(t *testing.T) {
	root := newRoot(t, nil)
	secret := func(s *Spec) {
		s.Files = []File{{Path: "/run/secrets/s", Data: []byte("hidden\n"), Mode: 0o440, UID: 1000, GID: 100}}
	}
	runScripts(t, root, []scriptTest{
		{name: "content, mode and owner", script: "cat /run/secrets/s; stat -c '%a %u:%g %s' /run/secrets/s", change: secret, want: "hidden\n440 1000:100 7"},
		{name: "on memory", script: "stat -f -c %T /run/secrets/s", change: secret, want: "tmpfs"},
		{name: "read-only even for root", script: "echo x >/run/secrets/s || echo refused; rm /run/secrets/s || echo refused", change: secret,
			want: "/bin/sh: can't create /run/secrets/s: Read-only file system\nrefused\nrm: can't remove '/run/secrets/s': Device or resource busy\nrefused"},
		{name: "a script", change: func(s *Spec) {
			s.Args = []string{"/dev/pipes/EOF"}
			s.Files = []File{{Path: "/dev/pipes/EOF", Data: []byte("#!/bin/sh\necho script $0\n"), Mode: 0o755}}
		}, want: "script /dev/pipes/EOF"},
		{name: "large", script: "wc -c </big", change: func(s *Spec) { s.Files = []File{{Path: "/big", Data: make([]byte, 3<<20), Mode: 0o600}} }, want: "3145728"},
		{name: "the others are not seen", script: "cat /a /b; ls / | wc -l", change: func(s *Spec) {
			s.Files = []File{{Path: "/a", Data: []byte("1\n"), Mode: 0o600}, {Path: "/b", Data: []byte("2\n"), Mode: 0o600}}
		}, want: "1\n2\n8"},
	})
	upper := filepath.Join(filepath.Dir(root), "upper")
	for p := range listing(t, upper) {
		if strings.Contains(p, "secrets") {
			t.Errorf("%s is on the disk", p)
		}
	}
}

func mkfifo(t testing.TB, name string) {
	t.Helper()
	if err := unix.Mkfifo(name, 0o644); err != nil {
		t.Fatal(err)
	}
}
