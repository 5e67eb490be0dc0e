package snapshot

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeLayout writes layers as an image with the tag "t".
func writeLayout(t *testing.T, s *Store, dir string, layers ...Layer) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(v any, mediaType string) ocispec.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	img := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		d, err := s.Blob(t.Context(), l, Compression{Algorithm: Gzip})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.OpenBlob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), data, 0o644); err != nil {
			t.Fatal(err)
		}
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, l.DiffID)
		m.Layers = append(m.Layers, d)
	}
	m.Config = put(img, ocispec.MediaTypeImageConfig)
	top := put(m, ocispec.MediaTypeImageManifest)
	top.Annotations = map[string]string{ocispec.AnnotationRefName: "t"}
	put(ocispec.Index{}, "")
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"index.json": string(index), "oci-layout": `{"imageLayoutVersion":"1.0.0"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUmociAgrees lets another implementation apply our layers.
func TestUmociAgrees(t *testing.T) {
	need(t, "umoci")
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	layers := []Layer{base(t, s)}
	for _, script := range []string{
		"rm -r d && mkdir d && echo n >d/new; rm h2; echo x >bin/x; chmod 700 empty",
		"rm -r d; mv bin/tool bin/old && cp bin/old bin/tool; ln bin/x y; mkdir -p deep/er; rm -rf tmp && mkdir tmp && touch tmp/f",
		"mkdir -p d/s && touch d/s/again; rm y; rm link && mkdir link && touch link/f",
		"rm -r deep link; ln -s bin link; echo changed >h1",
	} {
		tree := mustTree(t, s, layers...)
		run(t, tree, script)
		layers = append(layers, commit(t, tree))
	}
	want := viewMap(t, mustView(t, s, layers...))
	sameMap(t, "our own tree", diskMap(t, mustTree(t, s, layers...).Root()), want)
	layout, bundle := filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "bundle")
	writeLayout(t, s, layout, layers...)
	if out, err := exec.Command("umoci", "unpack", "--image", layout+":t", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	got := diskMap(t, filepath.Join(bundle, "rootfs"))
	delete(got, ".")
	delete(want, ".")
	sameMap(t, "umoci", got, want)
}

// TestRandomTreesSurvive is the round trip property: whatever is done to a
// tree, its layer gives that tree again, through a view and unpacked anew.
func TestRandomTreesSurvive(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			s, other := newStore(t), newStore(t)
			layers := []Layer{base(t, s)}
			for range 4 {
				tree := mustTree(t, s, layers...)
				for range 25 {
					randomChange(t, rng, tree.Root())
				}
				var did = diskMap(t, tree.Root())
				layers = append(layers, commit(t, tree))
				want := viewMap(t, mustView(t, s, layers...))
				sameMap(t, "view", relink(want), relink(did))
				sameMap(t, "tree", diskMap(t, mustTree(t, s, layers...).Root()), want)
			}
			move(t, s, other, layers...)
			sameMap(t, "other store", diskMap(t, mustTree(t, other, layers...).Root()), viewMap(t, mustView(t, s, layers...)))
			if t.Failed() {
				for _, l := range layers[1:] {
					t.Logf("%q", entries(t, s, l))
				}
			}
		})
	}
}

// relink replaces links by what they link to: a live overlay without an index
// does not show every link.
func relink(m map[string]string) map[string]string {
	out := maps.Clone(m)
	for p, d := range out {
		if first, ok := strings.CutPrefix(d, "= "); ok {
			out[p] = m[first]
		}
	}
	return out
}

func randomChange(t *testing.T, rng *rand.Rand, root string) {
	t.Helper()
	var all, dirs []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if p != root {
			all = append(all, p)
		}
		if d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	fresh := filepath.Join(pick(dirs), string(rune('a'+rng.IntN(4))))
	if len(all) == 0 {
		all = dirs
	}
	old := pick(all)
	switch rng.IntN(9) {
	case 0:
		err = os.WriteFile(fresh, fmt.Append(nil, rng.IntN(100)), 0o640)
	case 1:
		err = os.Mkdir(fresh, 0o755)
	case 2:
		err = os.Symlink("../x", fresh)
	case 3, 4:
		if old != root {
			err = os.RemoveAll(old)
		}
	case 5:
		err = os.Rename(old, fresh)
	case 6:
		err = os.Chmod(old, os.FileMode(0o600+rng.IntN(0o200)))
	case 7:
		err = os.Lchown(old, rng.IntN(100), rng.IntN(100))
	case 8:
		if info, statErr := os.Lstat(old); statErr == nil && info.Mode().IsRegular() { // views do not show other links
			err = os.Link(old, fresh)
		}
	}
	_ = err // many changes are impossible: names taken, links to directories
}

func TestDevicesAreHiddenWhereTheyCannotBeMade(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	lower := addLayer(t, s, Compression{}, dir("dev"), file("dev/null", "not a device"))
	devices := addLayer(t, s, Compression{Algorithm: Gzip},
		dir("dev"), item{Entry: Entry{Path: "dev/null", Type: Char, Mode: 0o666, DevMajor: 1, DevMinor: 3}},
		dir("only"), item{Entry: Entry{Path: "only/sda", Type: Block, Mode: 0o660, DevMajor: 8}}, whiteout("only/gone"))
	tree := mustTree(t, s, lower, devices)
	for _, d := range []string{"dev", "only"} {
		list, err := os.ReadDir(filepath.Join(tree.Root(), d))
		if err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v", d, list, err)
		}
	}
	v := mustView(t, s, lower, devices)
	if e, ok := v.Lookup("dev/null"); !ok || e.Type != Char || e.DevMajor != 1 {
		t.Errorf("view: %+v", e)
	}
	run(t, tree, "touch only/f")
	l := commit(t, tree)
	if got, want := entries(t, s, l), []string{"only/", "only/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestXattrsThatCannotBeSet is about a base whose attributes
// the kernel refuses here.
func TestXattrsThatCannotBeSet(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	label := func(e *Entry) {
		e.Xattrs = map[string]string{"security.selinux": "system_u:object_r:bin_t:s0\x00", "trusted.note": "x", "user.note": "y"}
	}
	lower := addLayer(t, s, Compression{}, dir("d").with(label), file("d/f", "x").with(label), dir("d/s").with(label))
	tree := mustTree(t, s, lower)
	run(t, tree, "touch d/new; chmod 600 d/f; chmod 755 d/s")
	l := commit(t, tree)
	if got, want := entries(t, s, l), []string{"d/", "d/f", "d/new"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	v := mustView(t, s, lower, l)
	for _, p := range []string{"d", "d/f"} {
		if e, _ := v.Lookup(p); e.Xattrs["security.selinux"] == "" || e.Xattrs["trusted.note"] != "x" || e.Xattrs["user.note"] != "y" {
			t.Errorf("%s: %q", p, e.Xattrs)
		}
	}
}

// TestOddLayersUnpackAsTheyAreViewed unpacks layers full of collisions: what
// the view says must be what is on disk.
func TestOddLayersUnpackAsTheyAreViewed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	s := newStore(t)
	rng := rand.New(rand.NewPCG(3, 4))
	good := 0
	for i := 0; good < 40; i++ {
		var layers []Layer
		for len(layers) < 2 {
			data := make([]byte, 4+rng.IntN(40))
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			plain := rawTar(t, oddEntries(data)...)
			if _, err := scanTar(plain); err == nil {
				layers = append(layers, foreign(t, s, plain, Compression{Algorithm: Zstd}))
			}
		}
		good++
		tree := mustTree(t, s, layers...)
		want := viewMap(t, mustView(t, s, layers...))
		sameMap(t, "tree", relink(diskMap(t, tree.Root())), relink(want))
		if l := commit(t, tree); l.Size != 1024 {
			t.Errorf("unchanged tree gave %q", entries(t, s, l))
		}
		if t.Failed() {
			for _, l := range layers {
				t.Logf("%q", entries(t, s, l))
			}
			t.FailNow()
		}
	}
}
