package judge

import (
	"archive/tar"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

type entry struct {
	name string
	kind byte
	link string
}

func image(t *testing.T, layers ...[]entry) v1.Image {
	t.Helper()
	img := empty.Image
	for _, l := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range l {
			body := []byte(nil)
			if e.kind == tar.TypeReg {
				body = []byte(e.name)
			}
			if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: 0o755, Size: int64(len(body))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(body); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func TestFlatten(t *testing.T) {
	dir := func(name string) entry { return entry{name, tar.TypeDir, ""} }
	file := func(name string) entry { return entry{name, tar.TypeReg, ""} }
	base := []entry{dir("d"), file("d/old"), dir("d/s"), file("d/s/old"), file("f")}
	for name, tc := range map[string]struct {
		layers    [][]entry
		paths     string
		complaint string
	}{
		"a whiteout deletes a tree":               {[][]entry{base, {file(".wh.d")}}, "/ /f", ""},
		"an opaque directory hides what is below": {[][]entry{base, {dir("d"), file("d/new"), file("d/.wh..wh..opq")}}, "/ /d /d/new /f", ""},
		"a whiteout spares this layer's own":      {[][]entry{base, {dir("d"), file("d/new"), file(".wh.d")}}, "/ /d /d/new /f", ""},
		"a whiteout for nothing":                  {[][]entry{base, {file(".wh.x")}}, "/ /d /d/old /d/s /d/s/old /f", "not below"},
		"a whiteout below a deleted directory":    {[][]entry{base, {file(".wh.d"), file("d/.wh.old")}}, "/ /f", "the layer deletes"},
		"a file in place of a directory":          {[][]entry{base, {file("d")}}, "/ /d /f", ""},
		"two entries for one path":                {[][]entry{{file("f"), file("f")}}, "/ /f", "two entries"},
		"a hard link to nothing":                  {[][]entry{{{"l", tar.TypeLink, "x"}}}, "/", "which is not there"},
		"an absolute hard link":                   {[][]entry{{file("f"), {"l", tar.TypeLink, "/f"}}}, "/ /f /l", "absolute"},
		"a name that climbs out":                  {[][]entry{{file("../f")}}, "/ /f", "entry name ../f"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, complaints, err := Flatten(image(t, tc.layers...))
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for p := range tree {
				paths = append(paths, p)
			}
			slices.Sort(paths)
			if got := strings.Join(paths, " "); got != tc.paths {
				t.Errorf("paths: got %s, want %s", got, tc.paths)
			}
			if got := strings.Join(complaints, "; "); tc.complaint == "" && got != "" || !strings.Contains(got, tc.complaint) {
				t.Errorf("complaints: got %q, want %q", got, tc.complaint)
			}
		})
	}
}

func TestLinesNameEveryHardLink(t *testing.T) {
	tree, _, err := Flatten(image(t, []entry{{"a", tar.TypeReg, ""}, {"b", tar.TypeLink, "a"}}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"dir 0755 0:0 /", "file 0755 0:0 /a 1 ca978112ca1b = /b", "file 0755 0:0 /b 1 ca978112ca1b = /a"}
	if got := tree.Lines(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
