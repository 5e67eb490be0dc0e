package snapshot

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func names(v *View, p string) string {
	list, err := v.ReadDir(p)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

func TestViewMergesLayers(t *testing.T) {
	s := newStore(t)
	lower := addLayer(t, s, Compression{}, dir("d").mode(0o700), file("d/a", "1"), file("d/b", "1"), dir("d/sub"), file("d/sub/x", "1"), file("f", "1"), symlink("l", "d"))
	rows := []struct {
		rule  string
		upper []item
		dir   string
		want  string
	}{
		{"files add up", []item{file("d/c", "")}, "d", "d/a d/b d/c d/sub"},
		{"whiteout", []item{whiteout("d/a")}, "d", "d/b d/sub"},
		{"whiteout of a directory", []item{whiteout("d")}, ".", "f l"},
		{"whiteout of nothing", []item{whiteout("nothing")}, ".", "d f l"},
		{"opaque", []item{dir("d"), opaque("d"), file("d/n", "")}, "d", "d/n"},
		{"opaque without an entry", []item{opaque("d"), file("d/n", "")}, "d", "d/n"},
		{"opaque root", []item{opaque("."), file("n", "")}, ".", "n"},
		{"a file replaces a directory", []item{file("d", "")}, ".", "d f l"},
		{"a directory replaces a file", []item{dir("f"), file("f/x", "")}, "f", "f/x"},
		{"an implied directory replaces a symlink", []item{file("l/x", "")}, "l", "l/x"},
		{"order is by bytes of the name", []item{file("d-", ""), file("d.", ""), file("D", "")}, ".", "D d d- d. f l"},
	}
	for _, row := range rows {
		t.Run(row.rule, func(t *testing.T) {
			v := mustView(t, s, lower, addLayer(t, s, Compression{}, row.upper...))
			if got := names(v, row.dir); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
	v := mustView(t, s, lower)
	if got := names(v, "f"); !strings.Contains(got, "not a directory") {
		t.Errorf("got %q", got)
	}
	if _, err := v.ReadDir("l/sub"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a symlink was followed: %v", err)
	}
	if e, ok := mustView(t, s).Lookup("/"); !ok || e.Path != "." || e.Mode != 0o755 || e.Type != Directory {
		t.Errorf("empty view: %+v", e)
	}
}

func TestViewShowsHardLinksAsOneFile(t *testing.T) {
	s := newStore(t)
	lower := addLayer(t, s, Compression{}, file("a", "1").own(5, 6), hardlink("d/b", "a"), hardlink("c", "a"), file("x", "1"))
	v := mustView(t, s, lower, addLayer(t, s, Compression{}, file("a", "2")))
	b, _ := v.Lookup("d/b")
	c, _ := v.Lookup("c")
	a, _ := v.Lookup("a")
	x, _ := v.Lookup("x")
	if b.Type != Regular || b.UID != 5 || b.Link == "" || b.Link != c.Link || a.Link != "" || x.Link != "" {
		t.Errorf("a %+v\nb %+v\nc %+v", a, b, c)
	}
	if got := readView(t, v, "c"); got != "1" {
		t.Errorf("c is %q", got)
	}
	if got := readView(t, v, "a"); got != "2" {
		t.Errorf("a is %q", got)
	}
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	v := mustView(t, s, addLayer(t, s, Compression{},
		dir("usr"), dir("usr/lib"), file("usr/lib/so", ""), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib"), symlink("up", "../../../../usr"),
		symlink("usr/self", "."), symlink("dangling", "no/where"), symlink("loop", "loop"), symlink("a", "b"), symlink("b", "a"),
		symlink("var", "run/../usr/lib"), symlink("slash", "/"), symlink("trail", "usr/lib/")))
	for p, want := range map[string][2]string{ // Resolve, ResolveParent
		"":                {".", "."},
		"/":               {".", "."},
		".":               {".", "."},
		"..":              {".", "."},
		"lib":             {"usr/lib", "lib"},
		"lib/":            {"usr/lib", "lib"},
		"lib/.":           {"usr/lib", "usr/lib"},
		"/lib/so":         {"usr/lib/so", "usr/lib/so"},
		"abs/so":          {"usr/lib/so", "usr/lib/so"},
		"up/lib":          {"usr/lib", "usr/lib"},
		"lib/..":          {"usr", "usr"},
		"lib/../self/lib": {"usr/lib", "usr/lib"},
		"usr/self/self":   {"usr", "usr/self"},
		"dangling":        {"no/where", "dangling"},
		"dangling/x":      {"no/where/x", "no/where/x"},
		"new/dir/../x":    {"new/x", "new/x"},
		"usr/lib/so/x":    {"usr/lib/so/x", "usr/lib/so/x"},
		"var":             {"usr/lib", "var"},
		"slash/lib":       {"usr/lib", "lib"},
		"slash":           {".", "slash"},
		"trail/so":        {"usr/lib/so", "usr/lib/so"},
		"loop":            {"!", "loop"},
		"a/x":             {"!", "!"},
	} {
		for i, resolve := range []func(string) (string, error){v.Resolve, v.ResolveParent} {
			got, err := resolve(p)
			if errors.Is(err, unix.ELOOP) {
				got = "!"
			} else if err != nil {
				t.Errorf("%q: %v", p, err)
			}
			if got != want[i] {
				t.Errorf("%q: got %q, want %q", p, got, want[i])
			}
		}
	}
}

func TestOpenOnlyOpensFiles(t *testing.T) {
	s := newStore(t)
	v := mustView(t, s, addLayer(t, s, Compression{}, dir("d"), symlink("l", "f"), file("f", "x")))
	for _, p := range []string{"d", "l", ".", "l/x"} {
		if _, err := v.Open(t.Context(), p); err == nil {
			t.Errorf("%s: opened", p)
		}
	}
	if _, err := v.Open(t.Context(), "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestContentIsVerifiedOnEveryRead(t *testing.T) {
	s := newStore(t)
	l := addLayer(t, s, Compression{}, file("f", "content"))
	v := mustView(t, s, l)
	toc, err := s.TOC(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	dirName, _ := s.layerDir(l.DiffID)
	overwrite(t, dirName+"/tar", toc.records[0].offset, "CONTENT")
	r, err := v.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 100)
	for err == nil {
		_, err = r.Read(buf)
	}
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "got digest") {
		t.Errorf("got %v", err)
	}
}

func TestViewsOfTheSameBaseDoNotMix(t *testing.T) {
	s := newStore(t)
	lower := addLayer(t, s, Compression{}, dir("d"), file("d/a", "1"), dir("d/s"), file("d/s/b", "1"))
	uppers := []Layer{
		addLayer(t, s, Compression{}, whiteout("d/a"), file("d/s/c", "")),
		addLayer(t, s, Compression{}, dir("d").mode(0o700), opaque("d/s")),
		addLayer(t, s, Compression{}, whiteout("d")),
		addLayer(t, s, Compression{}, file("d/x", "")),
	}
	want := viewMap(t, mustView(t, s, lower))
	fresh := make([]map[string]string, len(uppers))
	for i, u := range uppers {
		other, err := Open(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		fresh[i] = viewMap(t, mustView(t, other, lower, u))
	}
	views := make([]*View, len(uppers))
	for i, u := range uppers {
		views[i] = mustView(t, s, lower, u)
	}
	for i, v := range views {
		sameMap(t, "built on a shared base", viewMap(t, v), fresh[i])
	}
	sameMap(t, "the base", viewMap(t, mustView(t, s, lower)), want)
}
