package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func mustTree(t testing.TB, s *Store, layers ...Layer) *Tree {
	t.Helper()
	tree, err := s.NewTree(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// run changes a tree with a shell script, like a RUN would.
func run(t testing.TB, tree *Tree, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = tree.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func commit(t testing.TB, tree *Tree) Layer {
	t.Helper()
	l, err := tree.Commit(t.Context(), Compression{Algorithm: Gzip})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// base has a bit of everything.
func base(t testing.TB, s *Store) Layer {
	return addLayer(t, s, Compression{Algorithm: Zstd},
		dir(".").mode(0o751).own(3, 4),
		dir("bin").mode(0o755),
		file("bin/tool", "#!/bin/true").mode(0o4755),
		file("bin/ping", "pong").mode(0o755).with(func(e *Entry) {
			e.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "user.note": "n"}
		}),
		dir("d").mode(0o2775).own(33, 34),
		file("d/old", "old"),
		dir("d/s"),
		file("d/s/old", "older"),
		dir("empty"),
		item{Entry: Entry{Path: "fifo", Type: Fifo, Mode: 0o620, UID: 5, ModTime: epoch}},
		file("h1", "linked").own(7, 8),
		hardlink("h2", "h1"),
		file("large", strings.Repeat("0123456789abcdef", 40000)),
		symlink("link", "d/old").own(9, 9),
		dir("tmp").mode(0o1777),
	)
}

func TestTreeShowsTheView(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	layers := []Layer{
		base(t, s),
		addLayer(t, s, Compression{}, file("d/new", "new"), whiteout("d/s/old"), opaque("empty")),
		foreign(t, s, tarOf(t, "bin/implied"), Compression{Algorithm: Gzip}),
	}
	want := viewMap(t, mustView(t, s, layers...))
	tree := mustTree(t, s, layers...)
	sameMap(t, "tree", diskMap(t, tree.Root()), want)
	// Now that layers are unpacked the view reads from there, and nothing changes.
	sameMap(t, "view", viewMap(t, mustView(t, s, layers...)), want)
}

func TestUnchangedTreeIsTheEmptyLayer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	for _, layers := range [][]Layer{nil, {base(t, s)}} {
		tree := mustTree(t, s, layers...)
		run(t, tree, "ls -lR . >/dev/null")
		l := commit(t, tree)
		if want := "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"; l.DiffID.String() != want {
			t.Errorf("got %s, want %s: %q", l.DiffID, want, entries(t, s, l))
		}
		// It can be used like any other layer, more than once.
		commit(t, mustTree(t, s, append(layers, l, l)...))
	}
}

// TestCommit has one row per rule about what a changed tree becomes. Every
// layer is applied again, by our view and by our unpacking into another store,
// and must give the tree that was committed.
func TestCommit(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	rows := []struct {
		rule, script string
		want         []string
	}{
		{"a new file brings its changed directory along", "echo x >d/x", []string{"d/", "d/x"}},
		{"deep new directories", "mkdir -p n/m && echo x >n/m/x", []string{"n/", "n/m/", "n/m/x"}},
		{"a deleted file is a whiteout", "rm d/old", []string{"d/", "d/.wh.old"}},
		{"a deleted directory is one whiteout", "rm -r d", []string{".wh.d"}},
		{"deleted and made again in one step is opaque", "rm -rf d && mkdir d && echo n >d/new", []string{"d/", "d/.wh..wh..opq", "d/new"}},
		{"nested directories below an opaque one are plain", "rm -rf d && mkdir -p d/s && echo n >d/s/new", []string{"d/", "d/.wh..wh..opq", "d/s/", "d/s/new"}},
		{"nothing of what came and went", "mkdir -p gem/a && echo x >gem/a/x && rm -r gem; echo x >bin/x; rm bin/x; touch -d @1700000000 bin", nil},
		{"no whiteouts in a new tree next to an old one", "mkdir -p d/s/t/u && touch d/s/t/u/v && rm -r d/s/t; touch -d @1700000000 d/s", nil},
		{"no whiteouts below a deleted parent", "rm d/s/old && rm d/old && rm -r d && mkdir d && rm -r d", []string{".wh.d"}},
		{"rename of a file", "mv bin/tool bin/tool.old && cp bin/tool.old bin/tool && chmod 4755 bin/tool", []string{"bin/", "bin/tool", "bin/tool.old"}},
		{"a file becomes a directory", "rm d/old && mkdir d/old && touch d/old/f", []string{"d/", "d/old/", "d/old/f"}},
		{"a directory becomes a file", "rm -r d && touch d", []string{"d"}},
		{"a directory becomes a symlink", "rm -r d && ln -s bin d", []string{"d -> bin"}},
		{"replaced by rename over", "echo new >.n && mv .n d/old", []string{"d/", "d/old"}},
		{"mode of a directory", "chmod 700 empty", []string{"empty/"}},
		{"owner of a symlink", "chown -h 5:6 link", []string{"link -> d/old"}},
		{"opened for writing, not written", ": >>d/old", nil},
		{"chmod to the same mode", "chmod 4755 bin/tool; chmod 755 bin", nil},
		{"written with what it had, at the same time", "printf old >d/old; touch -d @1700000000 d/old", nil},
		{"time of a file", "touch -d @1800000000 d/old", []string{"d/", "d/old"}},
		{"set-user-ID, set-group-ID and sticky bits", "echo a >s1 && chown 3:4 s1 && chmod 6711 s1 && mkdir s2 && chmod 3777 s2", []string{"s1", "s2/"}},
		{"hard links: the first name is the file", "echo a >z && ln z d/y && ln z b", []string{"b", "d/", "d/y -> b", "z -> b"}},
		{"a link to a file of the layer below", "ln d/old l", []string{"d/", "d/old", "l -> d/old"}},
		{"one of two names replaced", "rm h1 && echo other >h1", []string{"h1"}},
		{"one of two names deleted", "rm h2", []string{".wh.h2"}},
		{"a fifo, and a socket that is skipped", "mkfifo -m 600 p && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'", []string{"p"}},
		{"a socket in place of a file deletes it", "rm h2 && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"h2\")'", []string{".wh.h2"}},
		{"odd names", "touch -- '-rf' \"$(printf 'a\\nb')\" \"$(printf 'x\\377y')\" ' ' .wh", []string{" ", "-rf", ".wh", "a\nb", "x\xffy"}},
		{"sparse and large", "truncate -s 9M hole && printf x >>hole", []string{"hole"}},
		{"capabilities and xattrs", "cp bin/ping p2; python3 -c 'import os; os.setxattr(\"bin/tool\", \"user.k\", b\"v\"); os.setxattr(\"p2\", \"security.capability\", bytes.fromhex(\"0100000200040000000000000000000000000000\"))'", []string{"bin/", "bin/tool", "p2"}},
		{"the root itself", "chmod 700 .", []string{"./"}},
		{"several at once, sorted as a walk", "mkdir a a-b a/z && touch a/z/f a-b/f a.c", []string{"a/", "a/z/", "a/z/f", "a-b/", "a-b/f", "a.c"}},
	}
	s := newStore(t)
	other := newStore(t)
	lower := base(t, s)
	for _, row := range rows {
		t.Run(row.rule, func(t *testing.T) {
			if strings.Contains(row.script, "python3") {
				need(t, "python3")
			}
			tree := mustTree(t, s, lower)
			run(t, tree, row.script)
			want := diskMap(t, tree.Root())
			maps.DeleteFunc(want, func(_, d string) bool { return d == "" })
			deleteSockets(t, tree, want)
			if _, linked := want["l"]; linked {
				want["l"] = "= d/old" // a live overlay without an index does not show that link
			}
			l := commit(t, tree)
			if got := entries(t, s, l); !slices.Equal(got, row.want) {
				t.Errorf("layer:\n got %q\nwant %q", got, row.want)
			}
			sameMap(t, "view", viewMap(t, mustView(t, s, lower, l)), want)
			next := mustTree(t, s, lower, l)
			sameMap(t, "tree on the committed one", diskMap(t, next.Root()), want)
			if again := commit(t, next); again.Size != 1024 {
				t.Errorf("committing again: %q", entries(t, s, again))
			}
			move(t, s, other, lower, l)
			sameMap(t, "tree in another store", diskMap(t, mustTree(t, other, lower, l).Root()), want)
			sameUnpacked(t, s, other, l)
		})
	}
}

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("needs %s: %v", tool, err)
	}
}

func deleteSockets(t *testing.T, tree *Tree, m map[string]string) {
	for p := range m {
		if info, err := os.Lstat(filepath.Join(tree.Root(), p)); err == nil && info.Mode()&os.ModeSocket != 0 {
			delete(m, p)
		}
	}
}

// move registers layers of one store in another.
func move(t *testing.T, from, to *Store, layers ...Layer) {
	t.Helper()
	for _, l := range layers {
		d, err := from.Blob(t.Context(), l, CompressionAny)
		if err != nil {
			t.Fatal(err)
		}
		r, err := from.OpenBlob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		to.Register(l, d, func(ctx context.Context) (io.ReadCloser, error) { return from.OpenBlob(ctx, d) })
	}
}

// sameUnpacked holds us to it that an upper directory that became a layer is
// what unpacking that layer gives.
func sameUnpacked(t *testing.T, a, b *Store, l Layer) {
	t.Helper()
	da, _ := a.layerDir(l.DiffID)
	db, _ := b.layerDir(l.DiffID)
	got, want := diskMap(t, filepath.Join(da, a.diff)), diskMap(t, filepath.Join(db, b.diff))
	for _, m := range []map[string]string{got, want} {
		for p, d := range m {
			if strings.HasPrefix(d, Char.String()) { // whiteouts have no other metadata
				m[p] = "whiteout"
			}
		}
		delete(m, ".")
	}
	sameMap(t, "upper directory against unpacked layer", got, want)
}

func TestDeletedThingsStayDeleted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	layers := []Layer{base(t, s)}
	for _, script := range []string{"rm -r d", "mkdir d && echo n >d/new", "mkdir d/s"} {
		tree := mustTree(t, s, layers...)
		run(t, tree, script)
		layers = append(layers, commit(t, tree))
	}
	v := mustView(t, s, layers...)
	for _, gone := range []string{"d/old", "d/s/old"} {
		if e, ok := v.Lookup(gone); ok {
			t.Errorf("%s is back: %+v", gone, e)
		}
	}
	sameMap(t, "tree", diskMap(t, mustTree(t, s, layers...).Root()), viewMap(t, v))
}

func TestReservedNamesCannotBeCommitted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	tree := mustTree(t, s)
	run(t, tree, "mkdir a && touch a/.wh.b")
	_, err := tree.Commit(t.Context(), Compression{})
	if err == nil || !strings.Contains(err.Error(), `"a/.wh.b"`) {
		t.Errorf("got %v, want an error that names a/.wh.b", err)
	}
}

func TestImpliedDirectoriesKeepTheMetadataBelow(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	lower := base(t, s)
	implied := foreign(t, s, tarOf(t, "d/s/new", "tmp/x", "fresh/x", "d/.wh.old"), Compression{})
	v := mustView(t, s, lower, implied)
	if e, _ := v.Lookup("d"); e.Mode != 0o2775 || e.UID != 33 {
		t.Errorf("view: d is %+v", e)
	}
	tree := mustTree(t, s, lower, implied)
	sameMap(t, "tree", diskMap(t, tree.Root()), viewMap(t, v))
	if l := commit(t, tree); l.Size != 1024 {
		t.Errorf("unchanged tree gave %q", entries(t, s, l))
	}
	// The same unpacked layer serves a chain where nothing is below.
	alone := mustTree(t, s, implied)
	sameMap(t, "alone", diskMap(t, alone.Root()), viewMap(t, mustView(t, s, implied)))
}

func TestManyLayers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	deep := filepath.Join(t.TempDir(), strings.Repeat("long,name:with\\stuff/", 10))
	s, err := Open(deep)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var layers []Layer
	for i := range 180 {
		layers = append(layers, addLayer(t, s, Compression{}, file(fmt.Sprintf("f%d", i), "x"), file("same", fmt.Sprint(i))))
	}
	tree := mustTree(t, s, layers...)
	if data, err := os.ReadFile(filepath.Join(tree.Root(), "same")); err != nil || string(data) != "179" {
		t.Errorf("got %q, %v", data, err)
	}
	lowers, err := tree.lowers()
	if err != nil {
		t.Fatal(err)
	}
	old := overlay{lowers: lowers, legacy: true}
	for name, at := range map[string]*string{"u": &old.upper, "w": &old.work, "m": &old.target} {
		*at = filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(*at, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.mount(); err != nil {
		t.Fatalf("by mount(2): %v", err)
	}
	defer unix.Unmount(old.target, 0)
	if _, err := os.Stat(filepath.Join(old.target, "f0")); err != nil {
		t.Error(err)
	}
	old.lowers = make([]string, 501)
	if err := old.mount(); err == nil || !strings.Contains(err.Error(), "501 layers") {
		t.Errorf("501 layers: got %v", err)
	}
}

func TestTheSameLayerTwice(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	a := addLayer(t, s, Compression{}, dir("d"), file("d/f", "a"), whiteout("gone"))
	b := addLayer(t, s, Compression{}, file("d/f", "b"), file("gone", ""), opaque("d"))
	tree := mustTree(t, s, a, b, a)
	sameMap(t, "tree", diskMap(t, tree.Root()), viewMap(t, mustView(t, s, a, b, a)))
}

func TestStateDirectoryOnOverlayIsExplained(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	outer := newStore(t)
	tree := mustTree(t, outer)
	s, err := Open(filepath.Join(tree.Root(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.NewTree(t.Context(), nil)
	var m *MountError
	if !errors.As(err, &m) || !strings.Contains(m.Reason, "itself on overlayfs") || m.Hint == "" {
		t.Errorf("got %#v (%v)", m, err)
	}
	s.Close()
}

func TestRefusedMountIsExplained(t *testing.T) {
	if *namespace == "inside" || os.Getuid() == 0 {
		t.Skipf("needs a process that may not mount, uid is %d", os.Getuid())
	}
	s := newStore(t)
	_, err := s.NewTree(t.Context(), nil)
	var m *MountError
	if !errors.As(err, &m) || !errors.Is(err, syscall.EPERM) {
		t.Errorf("got %v", err)
	}
}

func TestUnmappedOwner(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	l := addLayer(t, s, Compression{}, file("f", "x").own(70000, 5))
	_, err := s.NewTree(t.Context(), []Layer{l})
	var id *IDError
	if !errors.As(err, &id) || id.UID != 70000 || id.Path != "f" || !strings.Contains(id.Hint(), "70000") {
		t.Errorf("got %v", err)
	}
	if _, ok := mustView(t, s, l).Lookup("f"); !ok {
		t.Error("the view needs no ids")
	}
}

func TestDeadOwnersAreSwept(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	alive := mustTree(t, s, base(t, s))
	dead, err := s.newOwned("trees")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dead.path, "work", "work"), 0); err != nil {
		t.Fatal(err)
	}
	dead.lock.Close() // what the kernel does when a process dies
	if _, err := Open(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.path); !os.IsNotExist(err) {
		t.Errorf("dead tree: %v", err)
	}
	if _, err := os.Stat(filepath.Join(alive.Root(), "bin")); err != nil {
		t.Errorf("live tree: %v", err)
	}
}

func TestClosedTreeLeavesNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	tree := mustTree(t, s, base(t, s))
	run(t, tree, "echo x >x")
	for range 2 {
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "trees")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := tree.Commit(t.Context(), Compression{}); err == nil {
		t.Error("commit after close")
	}
}
