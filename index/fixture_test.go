package index

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/index/registrytest"
	"mbuild/index/transport"
)

var patience = transport.Retry{Attempts: 4, Base: time.Millisecond, Longest: 20 * time.Millisecond}

func platform(s string) ocispec.Platform { return platforms.MustParse(s) }

// testLayer is a gzipped tar with one file.
func testLayer(t testing.TB, name string, content []byte) Layer {
	t.Helper()
	var raw, packed bytes.Buffer
	w := tar.NewWriter(&raw)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	w.Close()
	z := gzip.NewWriter(&packed)
	z.Write(raw.Bytes())
	z.Close()
	return dataLayer(packed.Bytes(), ocispec.MediaTypeImageLayerGzip, digest.FromBytes(raw.Bytes()))
}

func dataLayer(data []byte, mediaType string, diffID digest.Digest) Layer {
	b := bytesBlob(data, mediaType)
	return Layer{Descriptor: b.desc, DiffID: diffID, Open: b.open}
}

// testImage has a config with a field that libraries do not know.
func testImage(t testing.TB, p string, layers ...Layer) Image {
	t.Helper()
	at := platform(p)
	ids := []digest.Digest{}
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	variant := ""
	if at.Variant != "" {
		variant = fmt.Sprintf(`"variant":%q,`, at.Variant)
	}
	diffIDs, _ := json.Marshal(ids)
	config := fmt.Sprintf(`{"architecture":%q,%s"os":%q,"config":{"Healthcheck":{"StartInterval":5}},"x-unknown":{"b":1,"a":2},"rootfs":{"type":"layers","diff_ids":%s}}`,
		at.Architecture, variant, at.OS, diffIDs)
	return Image{Platform: at, Config: []byte(config), Layers: layers}
}

func compose2(t testing.TB, o ComposeOptions, images ...Image) *Index {
	t.Helper()
	x, err := Compose(images, o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// twoPlatforms is an index whose images share a layer.
func twoPlatforms(t testing.TB) *Index {
	shared := testLayer(t, "shared", []byte("shared"))
	return compose2(t, ComposeOptions{},
		testImage(t, "linux/amd64", shared, testLayer(t, "a", []byte("amd64"))),
		testImage(t, "linux/arm64", shared, testLayer(t, "a", []byte("arm64"))))
}

func registry(t testing.TB, o RegistryOptions) *Registry {
	t.Helper()
	o.Retry = patience
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain() // nobody's
	}
	return NewRegistry(o)
}

// store puts x straight into a fake registry.
func store(t testing.TB, s *registrytest.Server, repo, tag string, x *Index) {
	t.Helper()
	for _, b := range x.content() {
		s.AddBlob(repo, readAll(t, b.open))
	}
	for _, d := range x.documents() {
		s.AddManifest(repo, tag, registrytest.Manifest{MediaType: d.desc.MediaType, Data: readAll(t, d.open)})
	}
}

func readAll(t testing.TB, open func(context.Context) (io.ReadCloser, error)) []byte {
	t.Helper()
	rc, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
