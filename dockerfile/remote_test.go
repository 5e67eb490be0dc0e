package dockerfile

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// planRemote plans a Dockerfile for amd64.
func planRemote(t *testing.T, src string) *Plan {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(t.Context(), f, Options{Platforms: targets("linux/amd64"), Images: known()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSourcesOfADD(t *testing.T) {
	const sum = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	file := func(url, name string) Source { return Source{HTTP: &HTTP{URL: url, Name: name}} }
	local := func(paths ...string) Source { return Source{Local: &Local{}, Paths: paths} }
	for _, c := range []struct {
		name, add string
		want      []Source
	}{
		{"a URL is named by its path", "http://h/d/f.txt?q=1#x /", []Source{file("http://h/d/f.txt?q=1#x", "f.txt")}},
		{"an escaped name is decoded", "http://h/a%20b /", []Source{file("http://h/a%20b", "a b")}},
		{"a URL without a path has no name", "http://h /", []Source{file("http://h", "__unnamed__")}},
		{"a directory has no name of its own", "http://h/ /", []Source{file("http://h/", "__unnamed__")}},
		{"dots are no name", "http://h/a/.. /", []Source{file("http://h/a/..", "__unnamed__")}},
		{"a .git in the middle is a URL", "http://h/r.git/info /", []Source{file("http://h/r.git/info", "info")}},
		{"a checksum is kept", "--checksum=" + sum + " http://h/f /", []Source{{HTTP: &HTTP{URL: "http://h/f", Name: "f", Checksum: sum}}}},
		{"order counts, paths that follow each other are one source", "a b http://h/f c /", []Source{local("a", "b"), file("http://h/f", "f"), local("c")}},
		{"a repository", "https://h/r.git /", []Source{{Git: &Git{Remote: "https://h/r.git", Submodules: true}}}},
		{"reference and directory", "https://h/r.git#v1:sub/d /", []Source{{Git: &Git{Remote: "https://h/r.git", Ref: "v1", Subdir: "sub/d", Submodules: true}}}},
		{"directory alone", "https://h/r.git#:sub /", []Source{{Git: &Git{Remote: "https://h/r.git", Subdir: "sub", Submodules: true}}}},
		{"query", "git://h/r?branch=b&subdir=s&submodules=false&keep-git-dir /", []Source{{Git: &Git{Remote: "git://h/r", Ref: "refs/heads/b", Subdir: "s", KeepGitDir: true}}}},
		{"tag and commit", "ssh://git@h/r?tag=v1&commit=AB12 /", []Source{{Git: &Git{Remote: "ssh://git@h/r", Ref: "refs/tags/v1", Checksum: "ab12", Submodules: true}}}},
		{"user@host:path", "git@h:o/r.git#main /", []Source{{Git: &Git{Remote: "git@h:o/r.git", Ref: "main", Submodules: true}}}},
		{"flags", "--keep-git-dir --checksum=AB12 http://h/r.git /", []Source{{Git: &Git{Remote: "http://h/r.git", Checksum: "ab12", KeepGitDir: true, Submodules: true}}}},
		{"what may be a directory is one", "github.com/o/r /", []Source{local("github.com/o/r")}},
		{"other schemes are paths", "ftp://h/f /", []Source{local("ftp://h/f")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := planRemote(t, "FROM scratch\nADD "+c.add)
			if got := p.Steps[0].Op.(*Copy).Sources; !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %s, want %s", show(got), show(c.want))
			}
		})
	}
}

func show(sources []Source) string {
	var b strings.Builder
	for _, s := range sources {
		switch {
		case s.HTTP != nil:
			b.WriteString(strings.Join([]string{"{http", s.HTTP.URL, s.HTTP.Name, s.HTTP.Checksum.String() + "}"}, " "))
		case s.Git != nil:
			b.WriteString(strings.Join([]string{"{git", s.Git.Remote, s.Git.Ref, s.Git.Checksum, s.Git.Subdir + "}"}, " "))
		default:
			b.WriteString("{" + strings.Join(s.Paths, " ") + "}")
		}
	}
	return b.String()
}

// Sources that may differ are steps of their own, equal ones are one step.
func TestRemoteSourcesAreToldApart(t *testing.T) {
	const sum = "--checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
	for _, c := range []struct {
		name, a, b string
		steps      int
	}{
		{"the same file", "http://h/f /", "http://h/f /", 1},
		{"another query", "http://h/f?1 /", "http://h/f?2 /", 2},
		{"another host", "http://h/f /", "http://i/f /", 2},
		{"a checksum", "http://h/f /", sum + "http://h/f /", 2},
		{"the same repository", "http://h/r.git /", "http://h/r.git /", 1},
		{"another reference", "http://h/r.git#a /", "http://h/r.git#b /", 2},
		{"another directory", "http://h/r.git#a /", "http://h/r.git#a:s /", 2},
		{"with .git", "http://h/r.git /", "--keep-git-dir http://h/r.git /", 2},
		{"without submodules", "http://h/r.git /", "http://h/r.git?submodules=false /", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := planRemote(t, "FROM scratch AS a\nADD "+c.a+"\nFROM scratch AS b\nADD "+c.b+"\nCOPY --from=a / /a")
			adds := 0
			for _, s := range p.Steps {
				if op, ok := s.Op.(*Copy); ok && op.Add {
					adds++
				}
			}
			if adds != c.steps {
				t.Errorf("got %d steps of ADD, want %d", adds, c.steps)
			}
		})
	}
}

// A password in a URL is used and not shown: not in names of steps, not in the source lines of errors, not in the image.
func TestPasswordsInURLsAreNotShown(t *testing.T) {
	p := planRemote(t, "FROM scratch\nADD https://user:hidden@h/f https://hidden@h/g ssh://git:hidden@h/r /d/\n")
	s := p.Steps[0]
	config, err := p.Results[0].ImageConfig(func(*Step) Made { return Made{DiffIDs: []digest.Digest{digest.FromString("x")}} })
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"name": s.Name, "excerpt": s.Loc.Excerpt(), "config": string(config)} {
		if strings.Contains(text, "hidden") {
			t.Errorf("%s: %s", where, text)
		}
	}
	if !strings.Contains(s.Name, "ssh://git:xxxxx@h/r") || !strings.Contains(s.Name, "https://xxxxx@h/f https://xxxxx@h/g") {
		t.Errorf("name: %s", s.Name)
	}
	if got := s.Op.(*Copy).Sources[0].HTTP.URL; got != "https://user:hidden@h/f" {
		t.Errorf("got URL %s", got)
	}
	if got := redact("RUN echo a@b c://d"); got != "RUN echo a@b c://d" {
		t.Errorf("got %s", got)
	}
}

func TestAddressesOfContexts(t *testing.T) {
	g, ok, err := ParseGit("github.com/o/r#main:sub")
	if err != nil || !ok || g.Remote != "https://github.com/o/r" || g.Ref != "main" || g.Subdir != "sub" {
		t.Errorf("got %+v %v %v", g, ok, err)
	}
	for _, address := range []string{"http://h/x.tar.gz", "dir", "./git@h:x", "/a/b.git"} {
		if g, ok, err := ParseGit(address); ok || err != nil {
			t.Errorf("%s: got %+v %v", address, g, err)
		}
	}
}

// Whatever an address holds, what becomes of it is nothing that git could take for an option or a second line.
func FuzzRemoteAddresses(f *testing.F) {
	for _, s := range []string{"https://h/r.git#a:b", "git@h:r?ref=x", "ssh://-o@h/r", "http://h/%00", "github.com/a/b?tag=t", "git://h/r?branch=\n", "http://h/%2e%2e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if g, ok, err := ParseGit(address); ok && err == nil {
			for _, s := range []string{g.Remote, g.Ref, g.Subdir} {
				if strings.HasPrefix(s, "-") || strings.ContainsAny(s, "\n\x00") {
					t.Errorf("%q gives %+v", address, g)
				}
			}
		}
		if h, err := NewHTTP(address); err == nil {
			if h.Name == "" || h.Name == "." || h.Name == ".." || strings.ContainsAny(h.Name, "/\x00") {
				t.Errorf("%q gives the name %q", address, h.Name)
			}
		}
		file, err := Parse("Dockerfile", []byte("FROM scratch\nADD "+address+" /x/"))
		if err != nil {
			return
		}
		_, _ = NewPlan(context.Background(), file, Options{Platforms: targets("linux/amd64"), Images: known()})
	})
}
