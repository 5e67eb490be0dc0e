package namespace

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// needSetuid skips the test where a file's setuid bit counts for nothing.
func needSetuid(t *testing.T) {
	t.Helper()
	if privilegeOf(t.TempDir()).nosuid {
		t.Skip("needs a temporary directory that is not mounted with nosuid")
	}
}

func put(t *testing.T, mode os.FileMode, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSubordinateIDsBecomeOneRangeWithoutGaps(t *testing.T) {
	me := whoami()
	own := user.IDMap{ID: 0, ParentID: 7, Count: 1}
	for _, c := range []struct {
		rule, file string
		want       []user.IDMap
	}{
		{"by name", me + ":100000:65536\n", []user.IDMap{own, {ID: 1, ParentID: 100000, Count: 65536}}},
		{"by number", fmt.Sprintf("%d:100000:65536\n", os.Getuid()), []user.IDMap{own, {ID: 1, ParentID: 100000, Count: 65536}}},
		{
			"several ranges follow each other", me + ":100000:1000\nother:1:1\n" + me + ":500000:2000",
			[]user.IDMap{own, {ID: 1, ParentID: 100000, Count: 1000}, {ID: 1001, ParentID: 500000, Count: 2000}},
		},
		{"other users' do not count", "other:100000:65536\n", []user.IDMap{own}},
		{"nonsense does not count", "\n#\n" + me + "\n" + me + ":x:y\n" + me + ":100000:-1\n" + me + ":0:5\n" + me + ":4294967295:5\n", []user.IDMap{own}},
		{
			"nor does what exceeds the id space", me + ":1:4294967290\n" + me + ":100000:65536\n",
			[]user.IDMap{own, {ID: 1, ParentID: 1, Count: 4294967290}},
		},
	} {
		got, err := subIDs(put(t, 0o644, c.file, t.TempDir(), "subuid"), me, 7)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v, want %v", c.rule, got, err, c.want)
		}
	}
	if got, err := subIDs("/nonexistent", me, 7); err != nil || !slices.Equal(got, []user.IDMap{own}) {
		t.Errorf("a missing file: got %v, %v", got, err)
	}
	if got, err := subIDs(put(t, 0o644, strings.Repeat(me+":100000:1\n", 400), t.TempDir(), "subuid"), me, 7); err != nil || len(got) != maxRanges {
		t.Errorf("too many ranges: got %d, %v, want %d", len(got), err, maxRanges)
	}
}

func TestWhatAMissingRangeOrHelperSays(t *testing.T) {
	me, dir := whoami(), t.TempDir()
	some := put(t, 0o644, me+":100000:65536\n", dir, "some")
	none := put(t, 0o644, "", dir, "none")
	put(t, 0o755, "", dir, "both", "newuidmap")
	put(t, 0o755, "", dir, "both", "newgidmap")
	put(t, 0o755, "", dir, "one", "newuidmap")
	put(t, 0o644, "", dir, "one", "newgidmap") // not executable
	for _, c := range []struct {
		rule         string
		o            Outside
		reason, hint string
	}{
		{
			"neither kind of ids", Outside{SubUID: none, SubGID: none}, fmt.Sprintf("no subordinate ids for user %q in /etc/subuid and /etc/subgid", me),
			"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + me,
		},
		{"no group ids", Outside{SubUID: some, SubGID: none}, "in /etc/subgid", "sudo usermod --add-subgids 100000-165535 " + me},
		{"no user ids", Outside{SubUID: none, SubGID: some}, "in /etc/subuid", "sudo usermod --add-subuids 100000-165535 " + me},
		{"no helpers", Outside{SubUID: some, SubGID: some, Path: dir}, "newuidmap and newgidmap not found in " + dir, "sudo apt-get install uidmap"},
		{"one helper", Outside{SubUID: some, SubGID: some, Path: dir + "/one"}, "newgidmap not found", "sudo apt-get install uidmap"},
		{"all there", Outside{SubUID: some, SubGID: some, Path: dir + "/one:" + dir + "/both"}, "", ""},
	} {
		p, why := c.o.planRange()
		if c.reason == "" {
			if why != nil || p.helpers == nil || count(p.uids) != 65537 {
				t.Errorf("%s: got %+v, %+v", c.rule, p, why)
			}
			continue
		}
		if why == nil || !strings.Contains(why.Reason, c.reason) || !strings.HasPrefix(why.Hint, c.hint) {
			t.Errorf("%s: got %+v", c.rule, why)
		}
	}
}

func TestAHelperWithoutRightsIsExplained(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("needs an unprivileged user: root writes the maps itself")
	}
	needNamespace(t)
	dir := t.TempDir()
	for _, name := range []string{"newuidmap", "newgidmap"} {
		put(t, 0o755, "#!/bin/sh\necho write to "+name+" failed >&2\nexit 1\n", dir, name)
	}
	_, why, err := Outside{Path: dir, SubUID: put(t, 0o644, whoami()+":100000:65536\n", dir, "ids"), SubGID: dir + "/ids"}.Enter(t.Context(), []string{"nothing"})
	want := Unavailable{Reason: dir + "/newuidmap has neither the setuid bit nor the capability cap_setuid", Hint: "sudo chmod u+s " + dir + "/newuidmap"}
	if err != nil || why == nil || *why != want {
		t.Errorf("got %+v, %v, want %+v", why, err, want)
	}
}

func TestWhoWritesTheMaps(t *testing.T) {
	const caps = "CapEff:\t00000000800000c0\n" // SETUID, SETGID, SETFCAP
	whole := "         0          0 4294967295\n"
	for _, c := range []struct {
		rule, status, ids string
		direct            bool
		reason            string
	}{
		{"root with the capabilities writes them itself", caps, whole, true, ""},
		{"also in a pod with ids of its own", caps, "0 200000 65536\n", true, ""},
		{"root without one of them says which", "CapEff:\t00000000000000c0\n", whole, false, "root has no CAP_SETFCAP here to map its own ids, and no subordinate ids"},
		{"one id is no range", caps, "0 1000 1\n", false, "single id"},
		{"without /proc nothing can be said", caps, "", false, "uid_map"},
	} {
		root := t.TempDir()
		put(t, 0o644, c.status, root, "proc/self/status")
		if c.ids != "" {
			put(t, 0o644, c.ids, root, "proc/self/uid_map")
			put(t, 0o644, c.ids, root, "proc/self/gid_map")
		}
		if strings.HasPrefix(c.rule, "root") && os.Getuid() != 0 {
			continue
		}
		p, why := Outside{host: host{root}, SubUID: "/nonexistent", SubGID: "/nonexistent"}.plan()
		switch {
		case c.reason != "":
			if why == nil || !strings.Contains(why.Reason, c.reason) {
				t.Errorf("%s: got %+v", c.rule, why)
			}
		case os.Getuid() == 0:
			if why != nil || (p.helpers == nil) != c.direct || p.uids[0].ID != 0 || p.uids[0].ParentID != 0 {
				t.Errorf("%s: got %+v, %+v", c.rule, p, why)
			}
		}
	}
}

func TestTheKernelsRefusalIsExplainedByWhatIsThere(t *testing.T) {
	needSetuid(t)
	for _, c := range []struct {
		rule         string
		files        map[string]string // below /proc
		explain      func(host) *Unavailable
		reason, hint string
	}{
		{"sysctl 0", map[string]string{"sys/kernel/unprivileged_userns_clone": "0\n"}, clone(unix.EPERM), "unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"limit 0", map[string]string{"sys/user/max_user_namespaces": "0\n"}, clone(unix.ENOSPC), "max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=65536"},
		{"limit reached", map[string]string{"sys/user/max_user_namespaces": "9\n"}, clone(unix.ENOSPC), "too many", "sudo sysctl"},
		{"seccomp", map[string]string{"self/status": "Name:\tx\nSeccomp:\t2\n"}, clone(unix.EPERM), "seccomp profile", "docker run --security-opt seccomp=unconfined"},
		{"AppArmor in a container", map[string]string{"self/attr/apparmor/current": "docker-default (enforce)\n"}, clone(unix.EACCES), `AppArmor profile "docker-default"`, "docker run --security-opt apparmor=unconfined"},
		{"no support", nil, clone(unix.EINVAL), "CONFIG_USER_NS", ""},
		{"no evidence", nil, clone(unix.EPERM), "operation not permitted", ""},
		{"AppArmor lets mounts fail", map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "self/attr/apparmor/current": "unconfined\n"},
			func(h host) *Unavailable {
				return h.explainRefusal(message{Step: stepPrivate, Errno: syscall.EACCES})
			}, "refused making mounts private: sysctl kernel.apparmor_restrict_unprivileged_userns is 1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"mounts fail for no known reason", nil, func(h host) *Unavailable {
			return h.explainRefusal(message{Step: stepProc, Errno: syscall.EPERM})
		}, "refused mounting /proc: operation not permitted", ""},
		{"no_new_privs", map[string]string{"self/status": "NoNewPrivs:\t1\n"}, helper(0o755), "no_new_privs is set", "in Kubernetes securityContext.allowPrivilegeEscalation: true"},
		{"no right", map[string]string{"self/status": "NoNewPrivs:\t0\n"}, helper(0o755), "neither the setuid bit", "sudo chmod u+s "},
		{"setuid in a container", map[string]string{"self/status": "CapBnd:\t00000000a80425fb\n"}, helper(0o755 | os.ModeSetuid), "not enough in a container without CAP_SYS_ADMIN: not allowed", "sudo chmod u-s "},
		{"what the helper says", map[string]string{"self/status": "CapBnd:\t000001ffffffffff\n"}, helper(0o755 | os.ModeSetuid), "not allowed", ""},
	} {
		root := t.TempDir()
		for name, content := range c.files {
			put(t, 0o644, content, root, "proc", name)
		}
		got := c.explain(host{root})
		if !strings.Contains(got.Reason, c.reason) || !strings.HasPrefix(got.Hint, c.hint) || (got.Hint == "") != (c.hint == "") {
			t.Errorf("%s: got %+v", c.rule, got)
		}
		if strings.Contains(got.Reason, "\n") {
			t.Errorf("%s: more than one line: %q", c.rule, got.Reason)
		}
	}
}

func clone(errno syscall.Errno) func(host) *Unavailable {
	return func(h host) *Unavailable {
		return h.explainClone(&os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: errno})
	}
}

// helper explains the failure of a newuidmap with this mode.
func helper(mode os.FileMode) func(host) *Unavailable {
	return func(h host) *Unavailable {
		path := filepath.Join(h.root, "newuidmap")
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			return &Unavailable{Reason: err.Error()}
		}
		if err := os.Chmod(path, mode); err != nil {
			return &Unavailable{Reason: err.Error()}
		}
		cmd := &exec.Cmd{Path: path, Stderr: bytes.NewBufferString("usage:\n not allowed\n")}
		return h.explainHelper(cmd, &exec.ExitError{})
	}
}
