package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mbuild/snapshot"
)

// rules excludes paths by name: "x" excludes x and what is below, "x!" excludes x but
// something below it may come back, "+x" takes x back in.
type rules map[string]bool

func (r rules) Excluded(path string, isDir bool) (excluded, prune bool, rule string) {
	if r["+"+path] {
		return false, false, ""
	}
	for p := path; p != "."; p = filepath.Dir(p) {
		if r[p] {
			return true, true, "rules"
		}
		if r[p+"!"] {
			return true, false, "rules"
		}
	}
	return false, false, ""
}

// makeDir makes files of "name" (a directory when it ends in a slash) and "name=content".
func makeDir(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		name, content, _ := strings.Cut(n, "=")
		at := filepath.Join(dir, name)
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(at, 0o755)
		case strings.HasPrefix(content, "->"):
			err = os.Symlink(content[2:], at)
		default:
			err = os.MkdirAll(filepath.Dir(at), 0o755)
			if err == nil {
				err = os.WriteFile(at, []byte(content), 0o640)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t *testing.T, dir string, ignore Ignore) *Dir {
	t.Helper()
	d, err := OpenDir(dir, ignore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func names(t *testing.T, d *Dir, dir string) string {
	t.Helper()
	entries, err := d.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Path)
	}
	return strings.Join(out, " ")
}

func TestLookupDescribesWithoutFollowing(t *testing.T) {
	dir := makeDir(t, "f=hello", "d/", "l=->f")
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "h")); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, nil)
	for name, want := range map[string]snapshot.Type{"f": snapshot.Regular, "d": snapshot.Directory, "l": snapshot.Symlink, "p": snapshot.Fifo, ".": snapshot.Directory} {
		e, err := d.Lookup(name)
		if err != nil || e.Type != want || e.Path != name {
			t.Errorf("Lookup(%q) = %v %v, %v; want %v", name, e.Path, e.Type, err, want)
		}
		if e.UID != 0 || e.GID != 0 {
			t.Errorf("%s belongs to %d:%d, want 0:0", name, e.UID, e.GID)
		}
	}
	f, _ := d.Lookup("f")
	h, _ := d.Lookup("h")
	if f.Link == "" || f.Link != h.Link {
		t.Errorf("hard links f and h have identities %q and %q, want the same", f.Link, h.Link)
	}
	if f.Size != 5 || f.Mode != 0o640 {
		t.Errorf("f has size %d and mode %o, want 5 and 640", f.Size, f.Mode)
	}
	if l, _ := d.Lookup("l"); l.Link != "f" {
		t.Errorf("l leads to %q, want f", l.Link)
	}
}

func TestIgnoredFilesAreNotThere(t *testing.T) {
	dir := makeDir(t, "keep=1", "drop=1", "dist/a=1", "part/in=1", "part/out=1", "none/x=1")
	d := open(t, dir, rules{"drop": true, "dist": true, "part!": true, "+part/in": true, "none!": true})
	if got := names(t, d, "."); got != "keep part" {
		t.Errorf("got %q, want the excluded ones gone and part kept for what came back in it", got)
	}
	if got := names(t, d, "part"); got != "part/in" {
		t.Errorf("got %q, want part/in", got)
	}
	_, err := d.Lookup("dist")
	var excluded *ExcludedError
	if !errors.As(err, &excluded) || !errors.Is(err, fs.ErrNotExist) || excluded.Rule != "rules" {
		t.Errorf("Lookup of an excluded file: %v, want an ExcludedError that names the rule", err)
	}
}

func TestNothingOutsideIsReached(t *testing.T) {
	outside := makeDir(t, "secret=s")
	dir := makeDir(t, "up=->../..", "abs=->"+outside)
	d := open(t, dir, nil)
	for _, name := range []string{"abs/secret", "up/etc/passwd", "../x"} {
		if _, err := d.Lookup(name); err == nil {
			t.Errorf("Lookup(%q) left the context", name)
		}
		if f, err := d.Open(t.Context(), name); err == nil {
			f.Close()
			t.Errorf("Open(%q) left the context", name)
		}
	}
}

func TestOpenReadsRegularFilesOnly(t *testing.T) {
	dir := makeDir(t, "f=hello", "l=->f")
	if err := unix.Mkfifo(filepath.Join(dir, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, nil)
	f, err := d.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "hello" {
		t.Errorf("got %q, %v", data, err)
	}
	for _, name := range []string{"l", "p"} { // a fifo must not block
		if f, err := d.Open(t.Context(), name); err == nil {
			f.Close()
			t.Errorf("Open(%q) succeeded", name)
		}
	}
}
