package index

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// files maps the regular files below dir to their content.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		found[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func tarFiles(t testing.TB, data []byte) (names []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, content
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Typeflag == tar.TypeReg {
			b, _ := io.ReadAll(r)
			content[h.Name] = string(b)
		}
	}
}

func writeLayout(t testing.TB, x *Index, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := x.WriteLayout(t.Context(), dir, names); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLayoutAndItsTarHoldTheSame(t *testing.T) {
	x := twoPlatforms(t)
	dir := writeLayout(t, x, "example.com/app:v2", "busybox")
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := x.WriteTar(t.Context(), w, []string{"example.com/app:v2", "busybox"}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the same result gave two tars")
	}
	names, content := tarFiles(t, a.Bytes())
	if got := files(t, dir); !reflect.DeepEqual(got, content) {
		t.Errorf("the directory has %d files, the tar %d", len(got), len(content))
	}
	if names[0] != "blobs/" || names[1] != "blobs/sha256/" {
		t.Errorf("tar begins with %q", names[:2])
	}
	var top ocispec.Index
	if err := json.Unmarshal([]byte(content["index.json"]), &top); err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 2 || top.MediaType != ocispec.MediaTypeImageIndex {
		t.Fatalf("index.json is %s", content["index.json"])
	}
	want := []map[string]string{
		{annotationImageName: "example.com/app:v2", ocispec.AnnotationRefName: "v2"},
		{annotationImageName: "docker.io/library/busybox:latest", ocispec.AnnotationRefName: "latest"},
	}
	for i, d := range top.Manifests {
		if !reflect.DeepEqual(d.Annotations, want[i]) || d.Digest != x.Descriptor().Digest {
			t.Errorf("entry %d is %+v", i, d)
		}
	}
	for name, data := range content {
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && digest.FromString(data).Encoded() != hex {
			t.Errorf("%s has other content", name)
		}
	}
}

func TestLayoutSharesBlobsAndReplacesIndex(t *testing.T) {
	shared := testLayer(t, "shared", []byte("shared"))
	first := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", shared))
	dir := writeLayout(t, first, "a:1")
	// The second write must not need the content of what is there, and must
	// repair what is damaged.
	opened := 0
	open := shared.Open
	shared.Open = func(ctx context.Context) (io.ReadCloser, error) { opened++; return open(ctx) }
	second := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", shared, testLayer(t, "own", nil)))
	if err := second.WriteLayout(t.Context(), dir, []string{"b:2"}); err != nil {
		t.Fatal(err)
	}
	if opened != 0 {
		t.Errorf("a blob that was there was opened %d times", opened)
	}
	if got := files(t, dir)["index.json"]; strings.Contains(got, "a:1") || !strings.Contains(got, "b:2") {
		t.Errorf("index.json is %s", got)
	}
	damaged := filepath.Join(dir, blobPath(shared.Digest))
	if err := os.WriteFile(damaged, bytes.Repeat([]byte("x"), int(shared.Size)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := second.WriteLayout(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(damaged); digest.FromBytes(data) != shared.Digest {
		t.Error("a damaged blob stayed")
	}
}

func TestFailedLayoutWriteLeavesTheOldOne(t *testing.T) {
	x := twoPlatforms(t)
	dir := writeLayout(t, x, "a:1")
	before := files(t, dir)
	lying := testLayer(t, "lying", []byte("x"))
	lying.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("other")), nil }
	err := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", lying)).WriteLayout(t.Context(), dir, nil)
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	for name, data := range files(t, dir) {
		if strings.Contains(name, "tmp") || strings.HasSuffix(name, lying.Digest.Encoded()) || name == "index.json" && data != before[name] {
			t.Errorf("%s is left", name)
		}
	}
}

func TestLayoutWriteDoesNotFollowLinksOut(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	if err := twoPlatforms(t).WriteLayout(t.Context(), dir, nil); err == nil {
		t.Error("wrote through a link")
	}
	if found := files(t, outside); len(found) > 0 {
		t.Errorf("outside: %v", found)
	}
}

func TestDockerArchive(t *testing.T) {
	image := testImage(t, "linux/amd64", testLayer(t, "a", nil), testLayer(t, "b", nil))
	var w bytes.Buffer
	x := compose2(t, ComposeOptions{}, image)
	if err := x.WriteDockerArchive(t.Context(), &w, []string{"busybox:1", "example.com/team/app:v1", "docker.io/library/busybox:1"}); err != nil {
		t.Fatal(err)
	}
	_, content := tarFiles(t, w.Bytes())
	var entries []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal([]byte(content["manifest.json"]), &entries); err != nil || len(entries) != 1 {
		t.Fatalf("manifest.json is %s", content["manifest.json"])
	}
	e := entries[0]
	if !reflect.DeepEqual(e.RepoTags, []string{"busybox:1", "example.com/team/app:v1"}) || content[e.Config] != string(image.Config) || len(e.Layers) != 2 {
		t.Errorf("got %+v", e)
	}
	if content["index.json"] == "" || content["oci-layout"] == "" {
		t.Error("it is no OCI layout")
	}
	err := twoPlatforms(t).WriteDockerArchive(t.Context(), io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "several platforms") {
		t.Errorf("two platforms: got %v", err)
	}
}

func TestOutputNames(t *testing.T) {
	x := twoPlatforms(t)
	for _, name := range []string{"a/UPPER", "a@" + x.Descriptor().Digest.String(), "", "a:b:c"} {
		if err := x.WriteTar(t.Context(), io.Discard, []string{name}); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestPullLayout(t *testing.T) {
	x := twoPlatforms(t)
	dir := writeLayout(t, x, "example.com/app:v2")
	archive := filepath.Join(t.TempDir(), "layout.tar")
	var w bytes.Buffer
	if err := x.WriteTar(t.Context(), &w, []string{"example.com/app:v2"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, w.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{dir, archive} {
		for _, name := range []string{"", "v2", "example.com/app:v2", x.Descriptor().Digest.String(), "@" + x.Descriptor().Digest.String()} {
			got, err := PullLayout(place, name, platform("linux/arm64"))
			if err != nil {
				t.Fatal(err)
			}
			if want := "example.com/app:v2@" + x.Manifests()[1].Digest.String(); got.Ref != want || got.Platform.Architecture != "arm64" {
				t.Errorf("%q: got %s, want %s", name, got.Ref, want)
			}
			for _, l := range got.Layers {
				if digest.FromBytes(readAll(t, l.Open)) != l.Digest {
					t.Error("layer has another digest")
				}
			}
		}
		if _, err := PullLayout(place, "v3", platform("linux/arm64")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"v2"`) {
			t.Errorf("unknown tag: got %v", err)
		}
		if _, err := PullLayout(place, "", platform("linux/s390x")); !errors.Is(err, ErrNoPlatform) {
			t.Errorf("unknown platform: got %v", err)
		}
	}
}

func writeIndexJSON(t testing.TB, dir string, entries ...ocispec.Descriptor) {
	t.Helper()
	doc, _ := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": entries})
	if err := os.WriteFile(filepath.Join(dir, "index.json"), doc, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPullLayoutWithSeveralEntries(t *testing.T) {
	x := twoPlatforms(t)
	dir := writeLayout(t, x)
	writeIndexJSON(t, dir, x.Manifests()...)
	if got, err := PullLayout(dir, "", platform("linux/arm64")); err != nil || got.Platform.Architecture != "arm64" {
		t.Errorf("platforms in index.json: got %+v, %v", got, err)
	}
	tagged := x.Manifests()
	tagged[0].Annotations = map[string]string{ocispec.AnnotationRefName: "one"}
	tagged[1].Annotations = map[string]string{ocispec.AnnotationRefName: "two"}
	writeIndexJSON(t, dir, tagged...)
	if _, err := PullLayout(dir, "", platform("linux/arm64")); err == nil || !strings.Contains(err.Error(), `"one", "two"`) {
		t.Errorf("several names: got %v", err)
	}
	tagged[1].Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	writeIndexJSON(t, dir, tagged...)
	if got, err := PullLayout(dir, "", platform("linux/amd64")); err != nil || got.Platform.Architecture != "arm64" {
		t.Errorf("latest: got %+v, %v", got, err)
	}
	writeIndexJSON(t, dir)
	if _, err := PullLayout(dir, "", platform("linux/amd64")); err == nil {
		t.Error("an empty layout has an image")
	}
}

func TestPullLayoutTrustsNothing(t *testing.T) {
	x := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", testLayer(t, "a", []byte("x"))))
	layer := x.images[0].layers[0].desc
	config := x.Configs()[0]
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  error
	}{
		"tampered layer": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, blobPath(layer.Digest)), bytes.Repeat([]byte("x"), int(layer.Size)), 0o644)
		}, ErrCorrupt},
		"cut layer":     {func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, blobPath(layer.Digest)), 3) }, ErrCorrupt},
		"missing layer": {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, blobPath(layer.Digest))) }, fs.ErrNotExist},
		"tampered config": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, blobPath(config.Digest)), bytes.Repeat([]byte(" "), int(config.Size)), 0o644)
		}, ErrCorrupt},
		"layer is a link out": {func(t *testing.T, dir string) {
			outside := filepath.Join(t.TempDir(), "outside")
			os.WriteFile(outside, readAll(t, x.images[0].layers[0].open), 0o644)
			name := filepath.Join(dir, blobPath(layer.Digest))
			os.Remove(name)
			os.Symlink(outside, name)
		}, errAny},
		"layer is a directory": {func(t *testing.T, dir string) {
			name := filepath.Join(dir, blobPath(layer.Digest))
			os.Remove(name)
			os.Mkdir(name, 0o755)
		}, errAny},
		"other layout version": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o644)
		}, errAny},
		"endless index.json": {func(t *testing.T, dir string) {
			os.WriteFile(filepath.Join(dir, "index.json"), bytes.Repeat([]byte(" "), maxManifest+1), 0o644)
		}, errAny},
		"index that contains itself": {func(t *testing.T, dir string) {
			inner := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(""), Size: 0}
			for range maxDepth + 1 {
				doc, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{inner}})
				inner.Digest, inner.Size = digest.FromBytes(doc), int64(len(doc))
				os.WriteFile(filepath.Join(dir, blobPath(inner.Digest)), doc, 0o644)
			}
			writeIndexJSON(t, dir, inner)
		}, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeLayout(t, x)
			test.spoil(t, dir)
			got, err := PullLayout(dir, "", platform("linux/amd64"))
			if err == nil {
				var rc io.ReadCloser
				if rc, err = got.Layers[0].Open(t.Context()); err == nil {
					_, err = io.Copy(io.Discard, rc)
					rc.Close()
				}
			}
			if err == nil || test.want != errAny && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if _, err := PullLayout(os.DevNull, "", platform("linux/amd64")); err == nil {
		t.Error("a device is a layout")
	}
}
