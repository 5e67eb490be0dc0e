package executor

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/dockerfile"
	"mbuild/executor/sandbox"
	"mbuild/snapshot"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
)

// journal is a Progress that remembers what happened to which step.
type journal struct {
	mu     sync.Mutex
	events []string
}

func (j *journal) note(what string, s *dockerfile.Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, what+" "+s.Name)
}

func (j *journal) Started(s *dockerfile.Step) {
	if !isImage(s) {
		j.note("started", s)
	}
}
func (j *journal) Cached(s *dockerfile.Step) { j.note("cached", s) }
func (j *journal) Done(s *dockerfile.Step, err error) {
	if err != nil {
		j.note("failed", s)
	}
}
func (j *journal) Output(*dockerfile.Step) (io.Writer, io.Writer)  { return io.Discard, io.Discard }
func (j *journal) Transfer(*dockerfile.Step, string, int64, int64) {}
func (j *journal) has(event string) bool                           { return slices.Contains(j.events, event) }
func (j *journal) count(prefix string) (n int) {
	for _, e := range j.events {
		if strings.HasPrefix(e, prefix) {
			n++
		}
	}
	return n
}

// noSandbox fails every RUN: these tests are about the steps that need no isolation.
type noSandbox struct{}

func (noSandbox) Run(context.Context, sandbox.Spec, io.Writer, io.Writer) error {
	return errors.New("no RUN in this test")
}

// workplace is a state directory that several builds of a test share.
type workplace struct {
	store   *snapshot.Store
	records *Records
	state   string
}

func newWorkplace(t *testing.T) *workplace {
	t.Helper()
	w := &workplace{state: t.TempDir()}
	var err error
	if w.store, err = snapshot.Open(w.state + "/layers"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	if w.records, err = OpenRecords(w.state + "/records"); err != nil {
		t.Fatal(err)
	}
	return w
}

// build builds a Dockerfile with the files of the context.
func (w *workplace) build(t *testing.T, text string, files Files, platforms ...ocispec.Platform) (*Builder, []Image, *journal, error) {
	t.Helper()
	if len(platforms) == 0 {
		platforms = []ocispec.Platform{amd64}
	}
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := dockerfile.NewPlan(t.Context(), f, dockerfile.Options{Platforms: platforms, BuildPlatform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{}
	b, err := New(Options{
		Store: w.store, Records: w.records, Locals: map[string]Files{"": files}, Sandbox: noSandbox{}, Progress: j,
		State: w.state, Compression: snapshot.Compression{Algorithm: "gzip"}, Jobs: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	images, err := b.Build(t.Context(), plan)
	return b, images, j, err
}

// contents lists the files of an image as name=content.
func contents(t *testing.T, b *Builder, image Image) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := b.WriteTar(t.Context(), image, w, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(data)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, name+"="+found[name])
	}
	return strings.Join(out, " ")
}

const twoStages = `FROM scratch AS a
COPY v /v
FROM scratch
COPY other /other
COPY --from=a /v /copied
WORKDIR /work
`

func TestBuildWithoutRun(t *testing.T) {
	w := newWorkplace(t)
	b, images, _, err := w.build(t, twoStages, tree(t, "file 0644 0:0 v=1", "file 0644 0:0 other=o"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, b, images[0]), "copied=1 other=o work/="; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := len(images[0].Layers); got != 3 {
		t.Errorf("got %d layers, want 3", got)
	}
}

// A second build does nothing; a change re-makes what depends on it and nothing else.
func TestCacheIsUsedAndNeverWrong(t *testing.T) {
	w := newWorkplace(t)
	files := tree(t, "file 0644 0:0 v=1", "file 0644 0:0 other=o")
	_, first, _, err := w.build(t, twoStages, files)
	if err != nil {
		t.Fatal(err)
	}
	_, again, j, err := w.build(t, twoStages, files)
	if err != nil {
		t.Fatal(err)
	}
	if j.count("started") > 0 || j.count("cached") != 4 {
		t.Errorf("unchanged: %q, want four cached steps", j.events)
	}
	if string(first[0].Config) != string(again[0].Config) {
		t.Errorf("the unchanged build has another config:\n%s\n%s", first[0].Config, again[0].Config)
	}
	changed := tree(t, "file 0644 0:0 v=2", "file 0644 0:0 other=o")
	b, images, j, err := w.build(t, twoStages, changed)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, b, images[0]), "copied=2 other=o work/="; got != want {
		t.Errorf("after a change: got %q, want %q", got, want)
	}
	if !j.has("cached COPY other /other") || !j.has("started COPY v /v") || !j.has("started COPY --from=a /v /copied") {
		t.Errorf("after a change of v: %q", j.events)
	}
	// Back again: everything is known, and it is the first result.
	b, images, j, err = w.build(t, twoStages, files)
	if err != nil {
		t.Fatal(err)
	}
	if j.count("started") > 0 {
		t.Errorf("changed back: %q, want only cached steps", j.events)
	}
	if got, want := contents(t, b, images[0]), "copied=1 other=o work/="; got != want {
		t.Errorf("changed back: got %q, want %q", got, want)
	}
}

// An early stage that gives the same files again stops the rebuild there.
func TestCopyFromKeysOnWhatIsSelected(t *testing.T) {
	w := newWorkplace(t)
	text := "FROM scratch AS a\nCOPY . /all/\nFROM scratch\nCOPY --from=a /all/v /copied\n"
	if _, _, _, err := w.build(t, text, tree(t, "file 0644 0:0 v=1", "file 0644 0:0 noise=1")); err != nil {
		t.Fatal(err)
	}
	_, _, j, err := w.build(t, text, tree(t, "file 0644 0:0 v=1", "file 0644 0:0 noise=2"))
	if err != nil {
		t.Fatal(err)
	}
	if !j.has("started COPY . /all/") || !j.has("cached COPY --from=a /all/v /copied") {
		t.Errorf("got %q, want the second stage cached", j.events)
	}
}

// Steps that depend on no platform happen once for all of them.
func TestPlatformsShareSteps(t *testing.T) {
	w := newWorkplace(t)
	_, images, j, err := w.build(t, twoStages, tree(t, "file 0644 0:0 v=1", "file 0644 0:0 other=o"), amd64, arm64)
	if err != nil {
		t.Fatal(err)
	}
	if got := j.count("started"); got != 4 {
		t.Errorf("%d steps ran, want 4: %q", got, j.events)
	}
	if !slices.Equal(images[0].Layers, images[1].Layers) {
		t.Error("the platforms have different layers")
	}
}

func TestFirstFailureEndsTheBuild(t *testing.T) {
	w := newWorkplace(t)
	text := "FROM scratch\nCOPY v /v\nCOPY missing /m\nCOPY v /never\n"
	_, _, j, err := w.build(t, text, tree(t, "file 0644 0:0 v=1"))
	var step *StepError
	if !errors.As(err, &step) || step.Step.Loc.Start != 3 || !strings.Contains(err.Error(), "missing is not in the build context") {
		t.Errorf("got %v, want the failure of line 3", err)
	}
	if j.has("started COPY v /never") {
		t.Error("a step after the failure was started")
	}
	// A failure is not remembered as a result.
	if _, _, _, err := w.build(t, text, tree(t, "file 0644 0:0 v=1", "file 0644 0:0 missing=m")); err != nil {
		t.Error(err)
	}
}

func TestArchiveStaysBelowItsDestination(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "../../up", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "esc", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		{Name: "esc/passwd", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "/abs", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1},
		{Name: "twin", Typeflag: tar.TypeLink, Linkname: "abs"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			fmt.Fprint(w, "x")
		}
	}
	w.Close()
	place := newWorkplace(t)
	files := tree(t, "file 0644 0:0 a.tar="+buf.String())
	b, images, _, err := place.build(t, "FROM scratch\nADD a.tar /dest/\n", files)
	if err != nil {
		t.Fatal(err)
	}
	want := "dest/= dest/abs=x dest/esc= dest/etc/= dest/etc/passwd=x dest/twin= dest/up=x"
	if got := contents(t, b, images[0]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWriteDirReplacesFilesAndKeepsInside(t *testing.T) {
	w := newWorkplace(t)
	b, images, _, err := w.build(t, "FROM scratch\nCOPY . /\n", tree(t, "dir 0755 0:0 d", "file 0640 0:0 d/f=new", "link l=/etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	dir, outside := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/d", 0o755), os.Symlink(outside+"/victim", dir+"/d/f")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := b.WriteDir(t.Context(), images[0], root); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(dir + "/d/f"); err != nil || string(data) != "new" {
		t.Errorf("d/f is %q, %v", data, err)
	}
	if _, err := os.Lstat(outside + "/victim"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link in the destination was followed out of it: %v", err)
	}
	if target, err := os.Readlink(dir + "/l"); err != nil || target != "/etc/passwd" {
		t.Errorf("l leads to %q, %v", target, err)
	}
}
