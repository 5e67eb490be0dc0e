package executor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/dockerfile"
	"mbuild/executor/source"
	"mbuild/snapshot"
)

// noSecrets is Secrets of a build that was given none.
type noSecrets struct{}

func (noSecrets) Secret(string) ([]byte, bool, error) { return nil, false, nil }
func (noSecrets) SSH(string) (string, bool, error)    { return "", false, nil }

func (w *workplace) remotes(t *testing.T) *Remotes {
	t.Helper()
	r, err := NewRemotes(w.store, w.records, noSecrets{}, w.state)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// add builds "FROM scratch" and the lines of text; it returns the files of the image and what happened.
func (w *workplace) add(t *testing.T, text string) (map[string]snapshot.Entry, *journal, error) {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte("FROM scratch\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := dockerfile.NewPlan(t.Context(), f, dockerfile.Options{Platforms: []ocispec.Platform{amd64}, BuildPlatform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{}
	b, err := New(Options{
		Store: w.store, Records: w.records, Sandbox: noSandbox{}, Progress: j, Remotes: w.remotes(t), State: w.state, Jobs: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	images, err := b.Build(t.Context(), plan)
	if err != nil {
		return nil, j, err
	}
	view, err := w.store.View(t.Context(), images[0].Layers)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]snapshot.Entry{}
	var walk func(string)
	walk = func(dir string) {
		entries, err := view.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files[e.Path] = e
			if e.Type == snapshot.Directory {
				walk(e.Path)
			}
		}
	}
	walk(".")
	return files, j, nil
}

// page is a web server with one file.
type page struct {
	*httptest.Server
	content  atomic.Value
	etag     bool
	modified string
	sent     atomic.Int32 // how often the content was
	asked    atomic.Int32
}

func newPage(t *testing.T, content []byte) *page {
	t.Helper()
	p := &page{}
	p.content.Store(content)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		data := p.content.Load().([]byte)
		if p.etag {
			tag := `"` + digest.FromBytes(data).Encoded() + `"`
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		if p.modified != "" {
			w.Header().Set("Last-Modified", p.modified)
		}
		p.sent.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(p.Close)
	return p
}

func TestAddOfAURL(t *testing.T) {
	archive := pack(t, tar.Header{Name: "in", Mode: 0o640, Uid: 5}, "packed")
	p := newPage(t, archive)
	p.modified = "Tue, 05 May 2015 00:00:00 GMT"
	w := newWorkplace(t)
	files, _, err := w.add(t, fmt.Sprintf(`ADD %[1]s/a.tar.gz /named
ADD %[1]s/a.tar.gz?x=1 /dir/
ADD %[1]s /
ADD --chmod=0644 --chown=4:5 %[1]s/a /owned
ADD --unpack=true %[1]s/a.tar.gz /unpacked/
ADD --unpack=false %[1]s/a.tar.gz /packed/`, p.URL))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"named": "file 0600 0:0", "dir": "directory 0755 0:0", "dir/a.tar.gz": "file 0600 0:0", "__unnamed__": "file 0600 0:0",
		"owned": "file 0644 4:5", "unpacked": "directory 0755 0:0", "unpacked/in": "file 0640 5:0", "packed": "directory 0755 0:0", "packed/a.tar.gz": "file 0600 0:0",
	}
	for name, e := range files {
		if got := fmt.Sprintf("%s %04o %d:%d", e.Type, e.Mode, e.UID, e.GID); got != want[name] {
			t.Errorf("%s: got %q, want %q", name, got, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if e := files["named"]; e.Digest != digest.FromBytes(archive) || !e.ModTime.Equal(time.Date(2015, 5, 5, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("named: got %+v", e)
	}
}

// With a validator an unchanged file is not sent again; a changed one is noticed, with or without.
func TestDownloadsAreKept(t *testing.T) {
	for _, etag := range []bool{true, false} {
		p := newPage(t, []byte("one"))
		p.etag, p.modified = etag, "Tue, 05 May 2015 00:00:00 GMT"
		w := newWorkplace(t)
		text := "ADD " + p.URL + "/f /f"
		if _, _, err := w.add(t, text); err != nil {
			t.Fatal(err)
		}
		_, j, err := w.add(t, text)
		if err != nil || j.count("cached") != 1 {
			t.Errorf("etag %v: unchanged: %v %v", etag, j.events, err)
		}
		if got := p.sent.Load(); etag && got != 1 {
			t.Errorf("sent %d times", got)
		}
		p.content.Store([]byte("two"))
		files, j, err := w.add(t, text)
		if err != nil || j.count("started") != 1 || files["f"].Digest != digest.FromString("two") {
			t.Errorf("etag %v: changed: %v %v %v", etag, files["f"].Digest, j.events, err)
		}
	}
}

// One build sees one answer for one address.
func TestOneBuildAsksOnce(t *testing.T) {
	p := newPage(t, []byte("one"))
	if _, _, err := newWorkplace(t).add(t, fmt.Sprintf("ADD %[1]s/f /a\nADD %[1]s/f /b\nADD %[1]s/f /c", p.URL)); err != nil {
		t.Fatal(err)
	}
	if got := p.asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestChecksumOfAURL(t *testing.T) {
	p := newPage(t, []byte("one"))
	w := newWorkplace(t)
	for _, sum := range []digest.Digest{digest.FromString("one"), digest.SHA512.FromString("one")} {
		if _, _, err := w.add(t, fmt.Sprintf("ADD --checksum=%s %s/f /f", sum, p.URL)); err != nil {
			t.Error(err)
		}
	}
	wrong := digest.FromString("two")
	_, _, err := w.add(t, fmt.Sprintf("ADD --checksum=%s %s/f?token=hidden /f", wrong, p.URL))
	if !errors.Is(err, source.ErrChecksum) || !strings.Contains(err.Error(), "got "+digest.FromString("one").String()+", want "+wrong.String()) {
		t.Errorf("got %v", err)
	}
	p.Close()
	if _, _, err := w.add(t, fmt.Sprintf("ADD --checksum=%s %s/f /f", digest.FromString("one"), p.URL)); err != nil {
		t.Errorf("what is known by its checksum needs no network: %v", err)
	}
	var remote *source.RemoteError
	if _, _, err := w.add(t, "ADD "+p.URL+"/f /f"); !errors.As(err, &remote) {
		t.Errorf("without a checksum: got %v", err)
	}
}

// gitServer serves a repository with a file, a tool and a link at URL/r.git, branch main.
func gitServer(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("needs git: ", err)
	}
	backend := filepath.Join(strings.TrimSpace(string(core)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("needs git http-backend: ", err)
	}
	dir := t.TempDir()
	script := `set -e
git init -q src; cd src
echo f > "odd
name"; mkdir sub; printf x > sub/tool; chmod 755 sub/tool; ln -s /etc link; ln -s sub into; ln -s .git/objects inner
git add -A; git commit -qm x; cd ..; git clone -q --bare src r.git; git -C r.git rev-parse HEAD`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a", "GIT_AUTHOR_DATE=2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2020-01-01T00:00:00Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := httptest.NewServer(&cgi.Handler{Path: backend, InheritEnv: []string{"GIT_PROTOCOL"}, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + dir}})
	t.Cleanup(s.Close)
	return s, strings.TrimSpace(string(out))
}

func TestAddOfARepository(t *testing.T) {
	s, commit := gitServer(t)
	w := newWorkplace(t)
	files, _, err := w.add(t, fmt.Sprintf(`ADD %[1]s/r.git /all
ADD --chown=1:2 %[1]s/r.git#main:sub /sub/
ADD %[1]s/r.git#:into /into
ADD --exclude=sub %[1]s/r.git /some
ADD --keep-git-dir %[1]s/r.git /kept`, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"all": "directory 0755 0:0 ", "all/odd\nname": "file 0644 0:0 ", "all/sub/tool": "file 0755 0:0 ", "all/link": "symlink 0777 0:0 /etc",
		"sub/tool": "file 0755 1:2 ", "into/tool": "file 0755 0:0 ", "some/link": "symlink 0777 0:0 /etc", "kept/.git/HEAD": "file 0644 0:0 ",
	}
	for name, text := range want {
		e := files[name]
		if got := fmt.Sprintf("%s %04o %d:%d %s", e.Type, e.Mode, e.UID, e.GID, e.Link); got != text {
			t.Errorf("%s: got %q, want %q", name, got, text)
		}
	}
	for _, name := range []string{"all/.git", "some/sub"} {
		if _, ok := files[name]; ok {
			t.Errorf("/%s is there", name)
		}
	}
	if got := files["all/link"].ModTime; !got.Equal(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got time %v, want that of the commit", got)
	}
	for _, bad := range []string{"nosuch", "inner", ".git", "../..", "link"} {
		_, _, err := w.add(t, fmt.Sprintf("ADD %s/r.git#main:%s /x", s.URL, bad))
		if bad == "../.." { // is the whole tree: it does not lead out
			if err != nil {
				t.Error(err)
			}
		} else if err == nil || !strings.Contains(err.Error(), "the repository has no directory") {
			t.Errorf("directory %s: got %v", bad, err)
		}
	}
	if _, _, err := w.add(t, "ADD "+s.URL+"/r.git#"+commit+" /x"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, _, err := w.add(t, "ADD "+s.URL+"/r.git#"+commit+" /elsewhere"); err != nil {
		t.Errorf("a commit that was fetched before needs no network: %v", err)
	}
}

// pack makes a gzipped tar of one file.
func pack(t *testing.T, h tar.Header, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpackedContext(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9},
		{Name: "./d/f", Typeflag: tar.TypeReg, Mode: 0o4640, Uid: 9, Gid: 9, Size: 1},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "../../out", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/d"},
		{Name: "abs/../../through", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o600, Size: 1},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	place := newWorkplace(t)
	u, err := place.remotes(t).Unpack(t.Context(), &buf)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	var walk func(string)
	walk = func(dir string) {
		entries, err := u.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			seen = append(seen, fmt.Sprintf("%s %s %04o %d:%d", e.Path, e.Type, e.Mode, e.UID, e.GID))
			if e.Type == snapshot.Directory {
				walk(e.Path)
			}
		}
	}
	walk(".")
	want := "abs symlink 0777 0:0\nd directory 0755 0:0\nd/f file 0600 0:0\nd/hard file 4640 0:0\nout file 0644 0:0\nthrough file 0644 0:0"
	if got := strings.Join(seen, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if data, err := ReadFile(t.Context(), u, "abs/f", 10); err != nil || string(data) != "x" {
		t.Errorf("through a link: got %q %v", data, err)
	}
	if _, err := ReadFile(t.Context(), u, "out", 0); err == nil {
		t.Error("a file over the limit was read")
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(place.state, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestIsArchive(t *testing.T) {
	archive := pack(t, tar.Header{Name: "f", Mode: 0o644}, "x")
	var plain bytes.Buffer
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&plain, z); err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string][]byte{"gzip": archive, "plain": plain.Bytes(), "xz": []byte("\xfd7zXZ\x00"), "zstd": []byte("\x28\xb5\x2f\xfd"), "bzip2": []byte("BZh9")} {
		if !IsArchive(head) {
			t.Errorf("%s is not recognised", name)
		}
	}
	for _, text := range []string{"", "FROM scratch\n", strings.Repeat("#\n", 1000)} {
		if IsArchive([]byte(text)) {
			t.Errorf("%.20q is taken for an archive", text)
		}
	}
}

// FuzzUnpack unpacks whatever is given: no file is outside of the tree, and all that are listed can be looked up.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("no archive"))
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	_ = w.WriteHeader(&tar.Header{Name: "a/../../b", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644})
	_, _ = w.Write([]byte("x"))
	_ = w.WriteHeader(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."})
	_ = w.Close()
	f.Add(buf.Bytes())
	temp := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := (&Remotes{temp: temp}).Unpack(context.Background(), bytes.NewReader(data))
		if err != nil {
			return
		}
		defer u.Close()
		for dir, entries := range u.dirs {
			for _, e := range entries {
				if strings.HasPrefix(e.Path, "/") || strings.HasPrefix(e.Path, "..") {
					t.Errorf("%q is outside", e.Path)
				}
				if got, err := u.Lookup(e.Path); err != nil || got.Type != e.Type {
					t.Errorf("%q in %q: %+v %v", e.Path, dir, got, err)
				}
			}
		}
	})
}
