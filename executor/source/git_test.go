package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mbuild/dockerfile"
)

// forge is a web server with repositories.
type forge struct {
	*httptest.Server
	dir  string // holds NAME.git
	work string
	t    *testing.T

	mu    sync.Mutex
	auth  map[string]bool // Authorization headers seen
	deny  bool            // without one
	asked int
}

func newForge(t *testing.T) *forge {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("needs git: ", err)
	}
	core, err := exec.Command(program, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(core)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("needs git http-backend: ", err)
	}
	f := &forge{dir: t.TempDir(), work: t.TempDir(), t: t, auth: map[string]bool{}}
	handler := &cgi.Handler{Path: backend, Env: []string{
		"GIT_PROJECT_ROOT=" + f.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + f.dir,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked++
		given := r.Header.Get("Authorization")
		f.auth[given] = true
		deny := f.deny && given == ""
		f.mu.Unlock()
		if deny {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if p := r.Header.Get("Git-Protocol"); p != "" {
			h := *handler
			h.Env = append(h.Env[:len(h.Env):len(h.Env)], "GIT_PROTOCOL="+p)
			h.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// git runs git for the test itself.
func (f *forge) git(dir string, args ...string) string {
	f.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+f.work, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2020-01-01T00:00:00Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes NAME.git with two commits: the first has a light tag v1 and an annotated tag v2, the second is main,
// a branch "side" is one further, and pull/7/head another.
func (f *forge) repository(name string) (first, second string) {
	f.t.Helper()
	src := filepath.Join(f.work, name)
	f.git(f.work, "init", "-q", src)
	write(f.t, filepath.Join(src, "f"), "one", 0o644)
	write(f.t, filepath.Join(src, "sub/tool"), "#!", 0o755)
	if err := os.Symlink("f", filepath.Join(src, "link")); err != nil {
		f.t.Fatal(err)
	}
	f.git(src, "add", "-A")
	f.git(src, "commit", "-qm", "one")
	f.git(src, "tag", "v1")
	f.git(src, "tag", "-am", "two", "v2")
	write(f.t, filepath.Join(src, "f"), "two", 0o644)
	f.git(src, "commit", "-qam", "two")
	f.git(src, "branch", "side")
	f.git(src, "update-ref", "refs/pull/7/head", "HEAD")
	f.publish(name)
	return f.git(src, "rev-parse", "HEAD~"), f.git(src, "rev-parse", "HEAD")
}

func (f *forge) publish(name string) {
	f.t.Helper()
	bare := filepath.Join(f.dir, name+".git")
	if err := os.RemoveAll(bare); err != nil {
		f.t.Fatal(err)
	}
	f.git(f.dir, "clone", "-q", "--mirror", filepath.Join(f.work, name), bare)
}

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// address parses what the Dockerfile would say.
func (f *forge) address(rest string) *dockerfile.Git {
	f.t.Helper()
	g, ok, err := dockerfile.ParseGit(f.URL + "/" + rest)
	if err != nil || !ok {
		f.t.Fatalf("%s: %v", rest, err)
	}
	return g
}

// checkout gets the files of an address as path=content lines, without what is in .git.
func checkout(t *testing.T, g *Git, r *dockerfile.Git) (string, error) {
	t.Helper()
	commit, err := g.Resolve(t.Context(), r)
	if err != nil {
		return "", err
	}
	c, err := g.Checkout(t.Context(), r, commit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out []string
	err = filepath.WalkDir(c.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && d.IsDir() {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(c.Dir, name)
		switch {
		case d.Type().IsRegular() && d.Name() != ".git":
			data, err := os.ReadFile(name)
			out = append(out, rel+"="+string(data))
			return err
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			out = append(out, rel+"->"+to)
			return err
		}
		return nil
	})
	return strings.Join(out, " "), err
}

func TestReferences(t *testing.T) {
	f := newForge(t)
	first, second := f.repository("r")
	tag := f.git(filepath.Join(f.work, "r"), "rev-parse", "v2")
	g := NewGit(vault{}, t.TempDir())
	one, two := "f=one link->f sub/tool=#!", "f=two link->f sub/tool=#!"
	for _, c := range []struct{ name, address, want, err string }{
		{"the default branch", "r.git", two, ""},
		{"a branch", "r.git#main", two, ""},
		{"a branch by its query", "r.git?branch=side", two, ""},
		{"a full name", "r.git#refs/heads/side", two, ""},
		{"a tag", "r.git#v1", one, ""},
		{"an annotated tag", "r.git#v2", one, ""},
		{"a tag by its query", "r.git?tag=v2", one, ""},
		{"a pull request", "r.git#pull/7/head", two, ""},
		{"a commit", "r.git#" + first, one, ""},
		{"the checksum of a tag's commit", "r.git?tag=v1&checksum=" + first[:12], one, ""},
		{"the checksum of an annotated tag", "r.git?tag=v2&checksum=" + tag[:12], one, ""},
		{"the checksum of an annotated tag's commit", "r.git?tag=v2&checksum=" + first, one, ""},
		{"a commit and its checksum", "r.git?ref=" + second + "&checksum=" + second[:7], two, ""},
		{"a wrong checksum", "r.git?tag=v1&checksum=" + second, "", "checksum mismatch: got commit " + first + ", want " + second},
		{"a wrong checksum of a commit", "r.git?ref=" + first + "&checksum=" + second, "", "checksum mismatch"},
		{"a branch that is not there", "r.git#nosuch", "", `has no branch or tag "nosuch"`},
		{"a tag is no branch", "r.git?branch=v1", "", "has no branch or tag"},
		{"a pattern is no name", "r.git#ma*n", "", "has no branch or tag"},
		{"a commit that is not there", "r.git#" + strings.Repeat("a", 40), "", ""},
		{"a repository that is not there", "nosuch.git", "", "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := checkout(t, g, f.address(c.address))
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %q and %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %q %v, want %q", got, err, c.want)
			}
		})
	}
	if left, err := os.ReadDir(g.temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Servers that answer for branches and tags only, and for whole histories only, work too.
func TestOldServers(t *testing.T) {
	f := newForge(t)
	first, _ := f.repository("r")
	bare := filepath.Join(f.dir, "r.git")
	f.git(bare, "update-server-info")
	dumb := httptest.NewServer(http.FileServer(http.Dir(f.dir)))
	defer dumb.Close()
	for _, ref := range []string{"v1", "v2", first} {
		g, _, err := dockerfile.ParseGit(dumb.URL + "/r.git#" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := checkout(t, NewGit(vault{}, t.TempDir()), g); err != nil || !strings.HasPrefix(got, "f=one ") {
			t.Errorf("%s: got %q %v", ref, got, err)
		}
	}
}

func TestSubmodules(t *testing.T) {
	f := newForge(t)
	f.repository("inner")
	f.repository("outer")
	outer := filepath.Join(f.work, "outer")
	f.git(outer, "submodule", "--quiet", "add", "--name", "in", filepath.Join(f.dir, "inner.git"), "in")
	f.git(outer, "config", "-f", ".gitmodules", "submodule.in.url", "../inner.git")
	f.git(outer, "commit", "-qam", "submodule")
	f.publish("outer")
	g := NewGit(vault{}, t.TempDir())
	got, err := checkout(t, g, f.address("outer.git"))
	if want := " in/f=two in/link->f in/sub/tool=#! "; err != nil || !strings.Contains(got, want) {
		t.Errorf("got %q %v, want %q in it", got, err, want)
	}
	if got, err := checkout(t, g, f.address("outer.git?submodules=false")); err != nil || strings.Contains(got, "in/f") {
		t.Errorf("without submodules: got %q %v", got, err)
	}
}

// A repository names its submodules itself, and must not make git read this machine or run a program.
func TestHostileSubmodules(t *testing.T) {
	f := newForge(t)
	f.repository("inner")
	for _, url := range []string{
		"ext::sh -c touch% " + filepath.Join(f.work, "proof"),
		"file://" + filepath.Join(f.dir, "inner.git"),
		filepath.Join(f.dir, "inner.git"),
		"ssh://-oProxyCommand=touch%20proof/x",
		"--upload-pack=touch proof",
	} {
		f.repository("outer")
		outer := filepath.Join(f.work, "outer")
		f.git(outer, "submodule", "--quiet", "add", "--name", "in", filepath.Join(f.dir, "inner.git"), "in")
		f.git(outer, "config", "-f", ".gitmodules", "submodule.in.url", url)
		f.git(outer, "commit", "-qam", "submodule")
		f.publish("outer")
		if got, err := checkout(t, NewGit(vault{}, t.TempDir()), f.address("outer.git")); err == nil {
			t.Errorf("%s: got %q, want an error", url, got)
		}
		if err := os.RemoveAll(outer); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(f.work, "proof")); err == nil {
		t.Error("a submodule's address ran a program")
	}
}

// Trees that git itself would not make: .git as a file of the tree, names that climb out.
func TestHostileTrees(t *testing.T) {
	f := newForge(t)
	for _, entry := range []string{".git", ".."} {
		src := filepath.Join(f.work, "bad")
		f.git(f.work, "init", "-q", src)
		blob := f.object(src, "blob", []byte("/etc"))
		tree := f.object(src, "tree", append([]byte("120000 "+entry+"\x00"), unhex(t, blob)...))
		f.git(src, "update-ref", "refs/heads/main", f.git(src, "commit-tree", "-m", "x", tree))
		f.publish("bad")
		if got, err := checkout(t, NewGit(vault{}, t.TempDir()), f.address("bad.git")); err == nil {
			t.Errorf("%s: got %q, want an error", entry, got)
		}
		if err := os.RemoveAll(src); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *forge) object(dir, kind string, data []byte) string {
	f.t.Helper()
	name := filepath.Join(f.t.TempDir(), "object")
	write(f.t, name, string(data), 0o600)
	return f.git(dir, "hash-object", "-t", kind, "--literally", "-w", name)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var out []byte
	if _, err := fmt.Sscanf(s, "%x", &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Hooks, templates, helpers and settings of this machine and of whoever calls are without effect.
func TestConfigurationOfTheMachineIsIgnored(t *testing.T) {
	f := newForge(t)
	f.repository("r")
	home := t.TempDir()
	proof := filepath.Join(home, "proof")
	write(t, filepath.Join(home, "hooks/post-checkout"), "#!/bin/sh\ntouch "+proof, 0o755)
	write(t, filepath.Join(home, ".gitconfig"), fmt.Sprintf("[core]\n\thooksPath = %s/hooks\n\tautocrlf = true\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = %s\n", home, f.URL), 0o644)
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nowhere")
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
	t.Setenv("GIT_CONFIG_VALUE_0", home+"/hooks")
	if got, err := checkout(t, NewGit(vault{}, t.TempDir()), f.address("r.git")); err != nil || !strings.HasPrefix(got, "f=two ") {
		t.Errorf("got %q %v", got, err)
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("a hook ran")
	}
}

func TestGitCredentials(t *testing.T) {
	f := newForge(t)
	f.repository("r")
	f.deny = true
	host := strings.TrimPrefix(f.URL, "http://")
	const token = "basic eC1hY2Nlc3MtdG9rZW46dA==" // x-access-token:t
	for _, c := range []struct {
		name    string
		secrets vault
		user    string
		want    string // empty: denied
	}{
		{"none", vault{}, "", ""},
		{"token", vault{"GIT_AUTH_TOKEN": "t\n"}, "", token},
		{"token of the host", vault{"GIT_AUTH_TOKEN." + host: "t"}, "", token},
		{"the host's before the general", vault{"GIT_AUTH_TOKEN." + host: "t", "GIT_AUTH_HEADER": "no"}, "", token},
		{"header", vault{"GIT_AUTH_HEADER": "Bearer h"}, "", "Bearer h"},
		{"token of another host", vault{"GIT_AUTH_TOKEN.example.com": "t"}, "", ""},
		{"user in the address", vault{}, "u:p@", "basic dTpw"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.auth = map[string]bool{}
			g, _, err := dockerfile.ParseGit("http://" + c.user + host + "/r.git")
			if err != nil {
				t.Fatal(err)
			}
			_, err = checkout(t, NewGit(c.secrets, t.TempDir()), g)
			if c.want == "" {
				var remote *RemoteError
				if !errors.As(err, &remote) || !strings.Contains(remote.Hint(), "GIT_AUTH_TOKEN") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			delete(f.auth, "")
			if !f.auth[c.want] || len(f.auth) != 1 {
				t.Errorf("got %v, want %q", f.auth, c.want)
			}
		})
	}
}

// What a repository redirects to, and a submodule elsewhere, get no credentials.
func TestGitCredentialsStayOnTheirHost(t *testing.T) {
	f := newForge(t)
	f.repository("r")
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(f.URL, "127.0.0.1", "localhost", 1)+r.URL.RequestURI(), http.StatusFound)
	}))
	defer away.Close()
	g, _, err := dockerfile.ParseGit(away.URL + "/r.git")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkout(t, NewGit(vault{}, t.TempDir()), g); err != nil {
		t.Errorf("a redirection without credentials: %v", err)
	}
	f.auth = map[string]bool{}
	if _, err := checkout(t, NewGit(vault{"GIT_AUTH_TOKEN": "t"}, t.TempDir()), g); err == nil {
		t.Error("a redirection was followed with credentials")
	}
	for given := range f.auth {
		if given != "" {
			t.Errorf("the other host got %q", given)
		}
	}
}

// Everybody on the machine can read the arguments of a process; files outlive it.
func TestGitCredentialsAreNoArguments(t *testing.T) {
	f := newForge(t)
	f.repository("r")
	program, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	write(t, filepath.Join(bin, "git"), fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\nexec %s \"$@\"\n", log, program), 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	g, _, err := dockerfile.ParseGit(strings.Replace(f.URL, "http://", "http://user:hidden@", 1) + "/r.git?keep-git-dir=1")
	if err != nil {
		t.Fatal(err)
	}
	source := NewGit(vault{}, t.TempDir())
	commit, err := source.Resolve(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.Checkout(t.Context(), g, commit)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said, err := os.ReadFile(log)
	if err != nil || len(said) == 0 {
		t.Fatal("the program was not called: ", err)
	}
	secret := regexp.MustCompile(`hidden|dXNlcjpoaWRkZW4`)
	if secret.Match(said) {
		t.Errorf("arguments: %s", said)
	}
	err = filepath.WalkDir(filepath.Dir(c.Dir), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if secret.Match(data) {
			t.Errorf("%s: %s", name, data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.git(c.Dir, "diff", "--exit-code", "HEAD")
	if got, want := f.git(c.Dir, "config", "remote.origin.url"), f.URL+"/r.git"; got != want {
		t.Errorf("kept .git: got remote %q, want %q", got, want)
	}
}

func TestMissingAndOldGit(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	g := NewGit(vault{"GIT_AUTH_TOKEN": "t"}, t.TempDir())
	r := &dockerfile.Git{Remote: "http://127.0.0.1:1/r.git"}
	var missing *MissingGitError
	if _, err := g.Resolve(t.Context(), r); !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "apt-get install git") {
		t.Errorf("got %v", err)
	}
	for version, want := range map[string]string{"2.29.9": "git 2.30 or later, found 2.29.9", "2.30.2": "credentials"} {
		write(t, filepath.Join(bin, "git"), "#!/bin/sh\necho git version "+version+"\n", 0o755)
		if _, err := g.Resolve(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", version, err, want)
		}
	}
}

func TestUnreachableRepository(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	s := httptest.NewServer(nil)
	s.Close()
	_, err := NewGit(vault{}, t.TempDir()).Resolve(t.Context(), &dockerfile.Git{Remote: s.URL + "/r.git"})
	var remote *RemoteError
	if !errors.As(err, &remote) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("got %v", err)
	}
}

func TestSSHWantsAnAgent(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	for _, remote := range []string{"git@example.invalid:r.git", "ssh://git@example.invalid/r.git"} {
		_, err := NewGit(vault{}, t.TempDir()).Resolve(t.Context(), &dockerfile.Git{Remote: remote})
		var failed *RemoteError
		if !errors.As(err, &failed) || !strings.Contains(failed.Hint(), "--ssh default") {
			t.Errorf("%s: got %v", remote, err)
		}
	}
}

// A build that is given up does not wait for a server, and git is gone when the call returns.
func TestCancelEndsGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: ", err)
	}
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	temp := t.TempDir()
	start := time.Now()
	_, err := NewGit(vault{}, temp).Resolve(ctx, &dockerfile.Git{Remote: s.URL + "/r.git"})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 4*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
