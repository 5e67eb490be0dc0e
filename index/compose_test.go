package index

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func manifestOf(t testing.TB, x *Index, i int) ocispec.Manifest {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(readAll(t, x.images[i].manifest.open), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestComposeBytesAreAsBuildKitWritesThem(t *testing.T) {
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digest.FromString("tar").String() + `"]}}`)
	image := Image{Platform: platform("linux/amd64"), Config: config, Annotations: map[string]string{"z": "<&>", "a": "1"},
		Layers: []Layer{dataLayer([]byte("blob"), dockerLayerGzip, digest.FromString("tar"))}}
	x := compose2(t, ComposeOptions{ForceIndex: true, IndexAnnotations: map[string]string{"i": "2"}}, image)
	manifest := `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "` + digest.FromBytes(config).String() + `",
    "size": ` + itoa(len(config)) + `
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8",
      "size": 4
    }
  ],
  "annotations": {
    "a": "1",
    "z": "\u003c\u0026\u003e"
  }
}`
	if got := string(readAll(t, x.documents()[0].open)); got != manifest {
		t.Errorf("manifest is\n%s\nwant\n%s", got, manifest)
	}
	list := `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "digest": "` + digest.FromString(manifest).String() + `",
      "size": ` + itoa(len(manifest)) + `,
      "platform": {
        "architecture": "amd64",
        "os": "linux"
      }
    }
  ],
  "annotations": {
    "i": "2"
  }
}`
	if got := string(readAll(t, x.documents()[1].open)); got != list {
		t.Errorf("index is\n%s\nwant\n%s", got, list)
	}
	if x.Descriptor().Digest != digest.FromString(list) || !x.IsIndex() {
		t.Errorf("descriptor is %v", x.Descriptor())
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestComposeTwiceGivesTheSame(t *testing.T) {
	for range 20 {
		a, b := twoPlatforms(t), twoPlatforms(t)
		if a.Descriptor().Digest != b.Descriptor().Digest {
			t.Fatal("two digests for one input")
		}
	}
}

func TestComposeOneImageIsABareManifest(t *testing.T) {
	x := compose2(t, ComposeOptions{}, testImage(t, "linux/arm64/v8", testLayer(t, "a", nil)))
	d := x.Descriptor()
	if x.IsIndex() || d.MediaType != ocispec.MediaTypeImageManifest || d.Platform == nil || d.Platform.Variant != "" || d.Platform.Architecture != "arm64" {
		t.Errorf("got %+v", d)
	}
	if empty := manifestOf(t, compose2(t, ComposeOptions{}, testImage(t, "linux/amd64")), 0); empty.Layers == nil {
		t.Error("no layers became null instead of an empty list")
	}
}

func TestComposeConvertsMediaTypes(t *testing.T) {
	types := []string{dockerLayer, dockerLayerGzip, dockerForeignGzip, ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip}
	var layers []Layer
	for i, mediaType := range types {
		layers = append(layers, dataLayer([]byte{byte(i)}, mediaType, digest.FromString(mediaType)))
	}
	layers[0].Annotations = map[string]string{"keep": "1", "containerd.io/distribution.source.docker.io": "x"}
	layers[0].URLs = []string{"http://elsewhere"}
	for name, test := range map[string]struct {
		docker bool
		want   []string
	}{
		"oci": {false, []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer,
			ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip}},
		"docker": {true, []string{dockerManifest, dockerConfig, dockerLayer, dockerLayerGzip, dockerLayerGzip, dockerLayer, dockerLayerGzip}},
	} {
		m := manifestOf(t, compose2(t, ComposeOptions{DockerTypes: test.docker}, testImage(t, "linux/amd64", layers...)), 0)
		got := []string{m.MediaType, m.Config.MediaType}
		for _, l := range m.Layers {
			got = append(got, l.MediaType)
		}
		if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if keep := !test.docker; (len(m.Layers[0].Annotations) == 1) != keep || m.Layers[0].URLs != nil {
			t.Errorf("%s: first layer is %+v", name, m.Layers[0])
		}
	}
}

func TestComposePlacesAnnotations(t *testing.T) {
	one, two := testImage(t, "linux/amd64"), testImage(t, "linux/arm64")
	one.Annotations = map[string]string{"m": "1"}
	one.DescriptorAnnotations = map[string]string{"md": "1"}
	x := compose2(t, ComposeOptions{IndexAnnotations: map[string]string{"i": "1"}, DescriptorAnnotations: map[string]string{"id": "1"}}, one, two)
	var list ocispec.Index
	if err := json.Unmarshal(readAll(t, x.list.open), &list); err != nil {
		t.Fatal(err)
	}
	if list.Annotations["i"] != "1" || list.Manifests[0].Annotations["md"] != "1" || list.Manifests[1].Annotations != nil ||
		manifestOf(t, x, 0).Annotations["m"] != "1" || x.Descriptor().Annotations["id"] != "1" {
		t.Errorf("index %+v, descriptor %+v", list, x.Descriptor())
	}
	bare := compose2(t, ComposeOptions{}, one)
	if bare.Descriptor().Annotations["md"] != "1" {
		t.Errorf("bare: descriptor %+v", bare.Descriptor())
	}
}

func TestComposeRefuses(t *testing.T) {
	layer := testLayer(t, "a", nil)
	good := testImage(t, "linux/amd64", layer)
	broken := func(change func(*Image)) Image {
		image := good
		image.Layers = append([]Layer(nil), good.Layers...)
		change(&image)
		return image
	}
	for name, test := range map[string]struct {
		images []Image
		o      ComposeOptions
		want   string
	}{
		"nothing":                         {nil, ComposeOptions{}, "no image"},
		"equal platforms":                 {[]Image{testImage(t, "linux/arm64"), testImage(t, "linux/arm64/v8")}, ComposeOptions{}, "two images for platform linux/arm64"},
		"another platform":                {[]Image{broken(func(i *Image) { i.Platform = platform("linux/arm/v7") })}, ComposeOptions{}, "its config says platform linux/amd64"},
		"missing layer":                   {[]Image{broken(func(i *Image) { i.Layers = nil })}, ComposeOptions{}, "0 layers, but 1 diff_ids"},
		"other layer":                     {[]Image{broken(func(i *Image) { i.Layers[0].DiffID = digest.FromString("x") })}, ComposeOptions{}, "its config says"},
		"config is no JSON":               {[]Image{broken(func(i *Image) { i.Config = []byte("x") })}, ComposeOptions{}, "config"},
		"strange layer type":              {[]Image{broken(func(i *Image) { i.Layers[0].MediaType = "text/plain" })}, ComposeOptions{}, "not supported"},
		"layer without digest":            {[]Image{broken(func(i *Image) { i.Layers[0].Digest = "" })}, ComposeOptions{}, "digest"},
		"zstd in docker":                  {[]Image{broken(func(i *Image) { i.Layers[0].MediaType = ocispec.MediaTypeImageLayerZstd })}, ComposeOptions{DockerTypes: true}, "need OCI media types"},
		"annotations in docker":           {[]Image{broken(func(i *Image) { i.Annotations = map[string]string{"a": "b"} })}, ComposeOptions{DockerTypes: true}, "need OCI media types"},
		"index annotations without index": {[]Image{good}, ComposeOptions{IndexAnnotations: map[string]string{"a": "b"}}, "without an index"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compose(test.images, test.o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestConfigBytesAreNotTouched(t *testing.T) {
	image := testImage(t, "linux/amd64")
	image.Config = append([]byte("  "), image.Config...)
	x := compose2(t, ComposeOptions{}, image)
	if got := readAll(t, x.images[0].config.open); !bytes.Equal(got, image.Config) {
		t.Errorf("config became %s", got)
	}
}
