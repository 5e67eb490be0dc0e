package index

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/index/registrytest"
	"mbuild/index/transport"
)

func TestPullTakesTheBestMatchOfAnIndex(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	store(t, s, "app", "1", compose2(t, ComposeOptions{},
		testImage(t, "linux/arm/v6"), testImage(t, "linux/arm/v7"), testImage(t, "linux/amd64/v2"), testImage(t, "linux/386")))
	r := registry(t, RegistryOptions{})
	for want, wanted := range map[string]string{
		"linux/arm/v7":   "linux/arm/v7",
		"linux/arm/v6":   "linux/arm/v6",
		"linux/arm64":    "linux/arm/v7", // runs 32-bit programs
		"linux/amd64":    "linux/386",
		"linux/amd64/v3": "linux/amd64/v2",
	} {
		got, err := r.Pull(t.Context(), s.Host+"/app:1", platform(want))
		if err != nil {
			t.Fatal(err)
		}
		if !samePlatform(got.Platform, platform(wanted)) {
			t.Errorf("%s: got %v, want %s", want, got.Platform, wanted)
		}
	}
	_, err := r.Pull(t.Context(), s.Host+"/app:1", platform("linux/s390x"))
	want := "pull " + s.Host + "/app:1: no match for platform linux/s390x in " + s.Host + "/app:1; it has linux/arm/v6, linux/arm/v7, linux/amd64/v2, linux/386"
	if !errors.Is(err, ErrNoPlatform) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if n := s.Count("GET", "/manifests/1"); n != 1 {
		t.Errorf("the tag was fetched %d times, want once", n)
	}
}

func TestPullKeepsBytesAndReadsNoLayer(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	x := twoPlatforms(t)
	store(t, s, "team/app", "1", x)
	r := registry(t, RegistryOptions{})
	got, err := r.Pull(t.Context(), s.Host+"/team/app:1", platform("linux/arm64"))
	if err != nil {
		t.Fatal(err)
	}
	if want := readAll(t, x.images[1].config.open); !bytes.Equal(got.Config, want) {
		t.Errorf("config changed: %s", got.Config)
	}
	if want := s.Host + "/team/app:1@" + x.Manifests()[1].Digest.String(); got.Ref != want {
		t.Errorf("Ref is %s, want %s", got.Ref, want)
	}
	if got.Layers[0].From != s.Host+"/team/app" {
		t.Errorf("From is %s", got.Layers[0].From)
	}
	if n := s.Count("/blobs/"); n != 1 {
		t.Errorf("%d blobs were read, want only the config", n)
	}
	for i, l := range got.Layers {
		if d := digest.FromBytes(readAll(t, l.Open)); d != l.Digest {
			t.Errorf("layer %d has digest %s", i, d)
		}
	}
}

func TestPullByDigestAndWithoutTag(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	x := compose2(t, ComposeOptions{}, testImage(t, "linux/arm64"))
	store(t, s, "app", "latest", x)
	d := x.Descriptor().Digest.String()
	for ref, want := range map[string]string{
		s.Host + "/app":             s.Host + "/app:latest@" + d,
		s.Host + "/app@" + d:        s.Host + "/app@" + d,
		s.Host + "/app:v1@" + d:     s.Host + "/app:v1@" + d,
		s.Host + "/app:latest@" + d: s.Host + "/app:latest@" + d,
	} {
		// A bare manifest is returned whatever its platform.
		got, err := registry(t, RegistryOptions{}).Pull(t.Context(), ref, platform("linux/amd64"))
		if err != nil {
			t.Fatal(err)
		}
		if got.Ref != want || got.Platform.Architecture != "arm64" {
			t.Errorf("%s: got %s for %v, want %s", ref, got.Ref, got.Platform, want)
		}
	}
}

func TestPullOverlooksAttestationsAndReadsNestedIndexes(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	inner := twoPlatforms(t)
	store(t, s, "app", "inner", inner)
	attestation := inner.Manifests()[1]
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	docker := inner.Manifests()[1]
	docker.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	plain := compose2(t, ComposeOptions{}, testImage(t, "linux/riscv64"))
	store(t, s, "app", "plain", plain)
	bare := plain.Descriptor()
	bare.Platform = nil
	outer := inner.Descriptor()
	doc, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex,
		"manifests": []ocispec.Descriptor{attestation, docker, outer, bare}})
	s.AddManifest("app", "outer", registrytest.Manifest{MediaType: ocispec.MediaTypeImageIndex, Data: doc})
	for _, want := range []string{"linux/arm64", "linux/riscv64"} {
		got, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:outer", platform(want))
		if err != nil {
			t.Fatal(err)
		}
		if !samePlatform(got.Platform, platform(want)) {
			t.Errorf("got %v, want %s", got.Platform, want)
		}
	}
	_, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:outer", ocispec.Platform{OS: "unknown", Architecture: "unknown"})
	if !errors.Is(err, ErrNoPlatform) {
		t.Errorf("unknown/unknown: got %v", err)
	}
}

func TestPullRefusesWhatItCannotTrustOrUse(t *testing.T) {
	good := testImage(t, "linux/amd64", testLayer(t, "a", []byte("x")))
	change := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	for name, test := range map[string]struct {
		manifest func([]byte) []byte
		config   func([]byte) []byte
		want     string
	}{
		"schema 1":             {manifest: func([]byte) []byte { return []byte(`{"schemaVersion":1,"fsLayers":[]}`) }, want: "obsolete schema version 1"},
		"image and index":      {manifest: change(`"config": {`, `"manifests": [], "config": {`), want: "image and an index at once"},
		"not an image":         {manifest: change(ocispec.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json"), want: "not a container image"},
		"unknown layers":       {manifest: change("tar+gzip", "tar+gzip+encrypted"), want: "not supported"},
		"climbing digest":      {manifest: change(`"digest": "sha256:`, `"digest": "../../:`), want: "invalid"},
		"negative size":        {manifest: change(`"size": `, `"size": -`), want: "size -"},
		"huge config":          {manifest: change(`"size": `, `"size": 99999999`), want: "more than the limit"},
		"no JSON":              {manifest: func([]byte) []byte { return []byte("<html>") }, want: "not valid JSON"},
		"tampered config":      {config: change("amd64", "arm64"), want: ErrCorrupt.Error()},
		"config of other size": {config: func(b []byte) []byte { return append(b, ' ') }, want: ErrCorrupt.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
				if test.config == nil || !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				w.Write(test.config(bytes.Clone(good.Config)))
				return true
			}})
			x := compose2(t, ComposeOptions{}, good)
			store(t, s, "app", "", x)
			raw := readAll(t, x.documents()[0].open)
			if test.manifest != nil {
				raw = test.manifest(raw)
			}
			s.AddManifest("app", "1", registrytest.Manifest{MediaType: x.Descriptor().MediaType, Data: raw})
			_, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestPullRefusesLayersThatDoNotMatchDiffIDs(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	x := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", testLayer(t, "a", []byte("x"))))
	store(t, s, "app", "", x)
	doc := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: x.Configs()[0]}
	doc.SchemaVersion = 2
	raw, _ := json.Marshal(doc)
	s.AddManifest("app", "1", registrytest.Manifest{MediaType: doc.MediaType, Data: raw})
	_, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64"))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "0 layers, but 1 diff_ids") {
		t.Errorf("got %v", err)
	}
}

func TestPullVerifiesManifestByDigest(t *testing.T) {
	x := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64"))
	s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Write(append(readAll(t, x.documents()[0].open), '\n'))
		return true
	}})
	_, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app@"+x.Descriptor().Digest.String(), platform("linux/amd64"))
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// variantless configs are common; the index knows better.
func TestPullTakesTheVariantOfTheIndexWhenTheConfigHasNone(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	image := testImage(t, "linux/arm/v7")
	image.Config = bytes.Replace(image.Config, []byte(`"variant":"v7",`), nil, 1)
	x := compose2(t, ComposeOptions{}, image)
	store(t, s, "app", "", x)
	d := x.Descriptor()
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	doc, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []ocispec.Descriptor{d}})
	s.AddManifest("app", "1", registrytest.Manifest{MediaType: ocispec.MediaTypeImageIndex, Data: doc})
	got, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:1", platform("linux/arm/v6"))
	if err != nil || got.Platform.Variant != "v6" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// big is larger than what fits into the buffers between server and client.
var big = bytes.Repeat([]byte("0123456789abcdef"), 1<<17)

func TestLayerStreamsEndInAnErrorUnlessWhole(t *testing.T) {
	d := digest.FromBytes(big)
	for name, test := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, request int) bool
		want  error
	}{
		"whole":       {func(http.ResponseWriter, *http.Request, int) bool { return false }, nil},
		"breaks once": {func(w http.ResponseWriter, _ *http.Request, n int) bool { return n == 1 && serveHalf(w, len(big)) }, nil},
		"breaks, no ranges": {func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n == 1 {
				return serveHalf(w, len(big))
			}
			w.Write(big)
			return true
		}, nil},
		"breaks, wrong range": {func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n == 1 {
				return serveHalf(w, len(big))
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(big)-1, len(big)))
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, errAny},
		"breaks always": {func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n == 1 {
				return serveHalf(w, len(big))
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(big)/2, len(big)-1, len(big)))
			w.Header().Set("Content-Length", strconv.Itoa(len(big)/2))
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, ErrCorrupt},
		"tampered": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			other := bytes.Clone(big)
			other[len(other)/2] ^= 1
			w.Write(other)
			return true
		}, ErrCorrupt},
		"wrong content-length": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", "5")
			w.Write(big[:5])
			return true
		}, ErrCorrupt},
		"too long, unannounced": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.(http.Flusher).Flush() // chunked
			w.Write(big)
			w.Write([]byte("more"))
			return true
		}, ErrCorrupt},
		"too short, unannounced": {func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Range") == "" {
				w.(http.Flusher).Flush()
				w.Write(big[:len(big)-1])
				return true
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(big)-1, len(big)-1, len(big)))
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			return true
		}, ErrCorrupt},
		"gone": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		}, transport.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, d.String()) {
					return false
				}
				return test.serve(w, r, int(requests.Add(1)))
			}})
			image := testImage(t, "linux/amd64", dataLayer(big, ocispec.MediaTypeImageLayer, d))
			store(t, s, "app", "1", compose2(t, ComposeOptions{}, image))
			pulled, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64"))
			if err != nil {
				t.Fatal(err)
			}
			rc, err := pulled.Layers[0].Open(t.Context())
			if err == nil {
				var got []byte
				got, err = io.ReadAll(rc)
				rc.Close()
				if err == nil && !bytes.Equal(got, big) {
					t.Error("other bytes without an error")
				}
			}
			switch {
			case test.want == errAny && err == nil, test.want != errAny && !errors.Is(err, test.want):
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

var errAny = errors.New("any error")

// serveHalf announces size bytes and breaks after half of them.
func serveHalf(w http.ResponseWriter, size int) bool {
	w.Header().Set("Content-Length", strconv.Itoa(size))
	w.Write(big[:size/2])
	panic(http.ErrAbortHandler)
}

func TestOpenEndsWithItsContext(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	image := testImage(t, "linux/amd64", dataLayer(big, ocispec.MediaTypeImageLayer, digest.FromBytes(big)))
	store(t, s, "app", "1", compose2(t, ComposeOptions{}, image))
	pulled, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := pulled.Layers[0].Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	cancel()
	if _, err := io.Copy(io.Discard, rc); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMirrorsAreTriedInOrderAndThenTheOriginal(t *testing.T) {
	x := twoPlatforms(t)
	empty := registrytest.New(t, registrytest.Options{})
	full := registrytest.New(t, registrytest.Options{})
	store(t, full, "library/busybox", "latest", x)
	prefixed := registrytest.New(t, registrytest.Options{})
	store(t, prefixed, "proxy/hub/library/busybox", "latest", x)
	original := registrytest.New(t, registrytest.Options{})
	store(t, original, "app", "1", x)
	for name, test := range map[string]struct {
		ref     string
		mirrors []Mirror
		from    string
	}{
		"docker.io":         {"busybox", []Mirror{{"docker.io", "http://" + full.Host}}, full.Host + "/library/busybox"},
		"first has it not":  {"busybox", []Mirror{{"docker.io", "http://" + empty.Host}, {"docker.io", full.Host}}, full.Host + "/library/busybox"},
		"first is dead":     {"busybox", []Mirror{{"docker.io", "http://127.0.0.1:1"}, {"docker.io", full.Host}}, full.Host + "/library/busybox"},
		"with a path":       {"busybox", []Mirror{{"index.docker.io", prefixed.URL + "/v2/proxy/hub/"}}, prefixed.Host + "/proxy/hub/library/busybox"},
		"of somebody else":  {original.Host + "/app:1", []Mirror{{"docker.io", "http://" + full.Host}}, original.Host + "/app"},
		"falls to original": {original.Host + "/app:1", []Mirror{{original.Host, empty.URL}}, original.Host + "/app"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := registry(t, RegistryOptions{Mirrors: test.mirrors}).Pull(t.Context(), test.ref, platform("linux/amd64"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Layers[0].From != test.from {
				t.Errorf("came from %s, want %s", got.Layers[0].From, test.from)
			}
			if name == "docker.io" && !strings.HasPrefix(got.Ref, "docker.io/library/busybox:latest@sha256:") {
				t.Errorf("Ref is %s", got.Ref)
			}
			readAll(t, got.Layers[1].Open)
		})
	}
	_, err := registry(t, RegistryOptions{Mirrors: []Mirror{{original.Host, empty.URL}}}).Pull(t.Context(), original.Host+"/nothing:1", platform("linux/amd64"))
	if !errors.Is(err, transport.ErrNotFound) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), empty.Host) || !strings.Contains(err.Error(), original.Host) {
		t.Errorf("nobody has it: got %v", err)
	}
}

func TestParseMirror(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io=http://127.0.0.1:5000":           "docker.io http 127.0.0.1:5000 ",
		"mirror.example":                            "docker.io  mirror.example ",
		"quay.io=https://proxy.example/v2/quay/io/": "quay.io https proxy.example quay/io",
		"index.docker.io=m.example/v2":              "docker.io  m.example ",
		"=http://x":                                 "",
		"a=ftp://x":                                 "",
		"a=http://u:p@x":                            "",
		"a=http://x/UPPER":                          "",
		"a=http://x/y?z=1":                          "",
		"a=":                                        "",
	} {
		m, err := ParseMirror(in)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "u:p") {
				t.Errorf("%s: got %v, want an error without credentials", in, err)
			}
			continue
		}
		at, _ := m.origin()
		if got := m.Host + " " + at.scheme + " " + at.host + " " + at.prefix; err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestConcurrentPullsShareRequests(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	store(t, s, "app", "1", twoPlatforms(t))
	r := registry(t, RegistryOptions{})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := r.Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.Count("/v2/app/"); n != 3 { // index, manifest, config
		t.Errorf("%d requests, want 3: %v", n, s.Requests())
	}
}

func TestFailedPullIsTriedAnew(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	r := registry(t, RegistryOptions{})
	if _, err := r.Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64")); !errors.Is(err, transport.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	store(t, s, "app", "1", twoPlatforms(t))
	if _, err := r.Pull(t.Context(), s.Host+"/app:1", platform("linux/amd64")); err != nil {
		t.Error(err)
	}
}

func FuzzParseDocument(f *testing.F) {
	x := twoPlatforms(f)
	for _, d := range x.documents() {
		f.Add(readAll(f, d.open), d.desc.MediaType)
	}
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`), dockerSchema1)
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		d, err := parseDocument(raw, mediaType)
		if err != nil {
			return
		}
		if (d.index == nil) == (d.manifest == nil) {
			t.Fatal("neither or both of index and manifest")
		}
		if d.manifest != nil {
			for _, l := range append(d.manifest.Layers, d.manifest.Config) {
				if name := blobPath(l.Digest); !strings.HasPrefix(name, "blobs/sha") || l.Size < 0 {
					t.Fatalf("descriptor %v gives %s", l, name)
				}
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(testImage(f, "linux/arm/v7", testLayer(f, "a", nil)).Config))
	f.Fuzz(func(t *testing.T, raw []byte) {
		facts, err := parseConfig(raw)
		for _, d := range facts.diffIDs {
			if err == nil && d.Validate() != nil {
				t.Fatalf("diffID %q", d)
			}
		}
	})
}
