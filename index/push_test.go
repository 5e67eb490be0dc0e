package index

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/index/registrytest"
	"mbuild/index/transport"
)

func TestPushIsWholeAndPullsBack(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"plain":          {},
		"tokens":         {Tokens: true},
		"token per call": {Tokens: true, TokenUses: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, o)
			x := twoPlatforms(t)
			r := registry(t, RegistryOptions{Parallel: 1}) // tokens for one request each cannot be shared
			if err := r.Push(t.Context(), x, []string{s.Host + "/team/app:1", s.Host + "/team/app"}, nil); err != nil {
				t.Fatal(err)
			}
			tags := s.Tags("team/app")
			if want := x.Descriptor().Digest; len(tags) != 2 || tags["1"] != want || tags["latest"] != want {
				t.Errorf("tags are %v", tags)
			}
			got, err := registry(t, RegistryOptions{}).Pull(t.Context(), s.Host+"/team/app:1", platform("linux/arm64"))
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range got.Layers {
				readAll(t, l.Open)
			}
		})
	}
}

func TestPushMovesTagsLastAcrossRegistries(t *testing.T) {
	// The second registry refuses the index; the first must not have a tag.
	good := registrytest.New(t, registrytest.Options{})
	bad := registrytest.New(t, registrytest.Options{RefuseTypes: "image.index"})
	x := twoPlatforms(t)
	err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{good.Host + "/app:1", bad.Host + "/app:1"}, nil)
	var failed *PushError
	if !errors.As(err, &failed) || failed.Name != bad.Host+"/app" || len(failed.Tagged) != 0 {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "manifest type is not supported") {
		t.Errorf("the registry is not quoted: %v", err)
	}
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "oci-mediatypes=false") {
		t.Errorf("no hint in %v", err)
	}
	if tags := good.Tags("app"); len(tags) > 0 {
		t.Errorf("tags were moved: %v", tags)
	}
	if n := good.Count("PUT", "/manifests/1"); n != 0 {
		t.Errorf("%d requests for the tag", n)
	}
}

func TestPushSaysWhichTagsMoved(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/locked") {
			return false
		}
		registrytest.Refuse(w, http.StatusConflict, "TAG_INVALID", "tag is immutable")
		return true
	}})
	err := registry(t, RegistryOptions{}).Push(t.Context(), twoPlatforms(t), []string{s.Host + "/app:1", s.Host + "/app:locked"}, nil)
	var failed *PushError
	if !errors.As(err, &failed) || len(failed.Tagged) != 1 || !strings.Contains(err.Error(), "tag is immutable; already moved: "+s.Host+"/app:1") {
		t.Errorf("got %v", err)
	}
}

func TestPushWithoutRights(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{User: "u", Password: "p4ssw0rd"})
	x := twoPlatforms(t)
	err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{s.Host + "/app:1"}, nil)
	var hint interface{ Hint() string }
	if !errors.Is(err, transport.ErrUnauthorized) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "docker login "+s.Host) {
		t.Errorf("got %v", err)
	}
	keys := fixedKeys{Username: "u", Password: "p4ssw0rd"}
	if err := registry(t, RegistryOptions{Keychain: keys}).Push(t.Context(), x, []string{s.Host + "/app:1"}, nil); err != nil {
		t.Error(err)
	}
}

type fixedKeys authn.AuthConfig

func (k fixedKeys) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(k)), nil
}

func TestPushBareManifest(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	x := compose2(t, ComposeOptions{DockerTypes: true}, testImage(t, "linux/amd64", testLayer(t, "a", nil)))
	if err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{s.Host + "/app:1"}, nil); err != nil {
		t.Fatal(err)
	}
	if m, ok := s.Manifest("app", s.Tags("app")["1"]); !ok || m.MediaType != dockerManifest {
		t.Errorf("the tag names a %s", m.MediaType)
	}
}

func TestPushByDigestTouchesNoTag(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	x := twoPlatforms(t)
	if err := registry(t, RegistryOptions{}).PushByDigest(t.Context(), x, []string{s.Host + "/app"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Manifest("app", x.Descriptor().Digest); !ok || len(s.Tags("app")) > 0 {
		t.Errorf("there: %v, tags: %v", ok, s.Tags("app"))
	}
}

// states collects the last event of each blob and document.
func states(into map[digest.Digest]State) func(Event) {
	return func(e Event) {
		if e.State != Tagged {
			into[e.Digest] = e.State
		}
	}
}

func TestPushSendsNoBlobTwice(t *testing.T) {
	for name, test := range map[string]struct {
		options registrytest.Options
		want    State
	}{
		"mounts":    {registrytest.Options{}, Mounted},
		"no mounts": {registrytest.Options{NoMount: true}, Pushed},
		"mounts are refused": {registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("mount") == "" {
				return false
			}
			registrytest.Refuse(w, http.StatusForbidden, "DENIED", "no cross-repository mounts")
			return true
		}}, Pushed},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, test.options)
			store(t, s, "base", "1", compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", testLayer(t, "base", nil))))
			r := registry(t, RegistryOptions{})
			base, err := r.Pull(t.Context(), s.Host+"/base:1", platform("linux/amd64"))
			if err != nil {
				t.Fatal(err)
			}
			own := testLayer(t, "own", []byte("x"))
			x := compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", base.Layers[0], own))
			last := map[digest.Digest]State{}
			if err := r.Push(t.Context(), x, []string{s.Host + "/app:1"}, states(last)); err != nil {
				t.Fatal(err)
			}
			if last[base.Layers[0].Digest] != test.want {
				t.Errorf("base layer: %s, want %s", last[base.Layers[0].Digest], test.want)
			}
			if err := r.Push(t.Context(), x, []string{s.Host + "/app:1", s.Host + "/copy:1"}, states(last)); err != nil {
				t.Fatal(err)
			}
			// A second repository of the host takes everything from the first.
			if last[own.Digest] != test.want {
				t.Errorf("own layer: %s, want %s", last[own.Digest], test.want)
			}
			// Anew, with nothing remembered.
			if err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{s.Host + "/app:2"}, states(last)); err != nil {
				t.Fatal(err)
			}
			if last[own.Digest] != Exists {
				t.Errorf("second push: %s, want %s", last[own.Digest], Exists)
			}
		})
	}
}

func TestPushBlobEarlySparesItLater(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	layer := testLayer(t, "a", []byte("x"))
	var opened atomic.Int32
	open := layer.Open
	layer.Open = func(ctx context.Context) (io.ReadCloser, error) { opened.Add(1); return open(ctx) }
	r := registry(t, RegistryOptions{})
	name := s.Host + "/app:1"
	if err := r.PushBlob(t.Context(), name, layer, nil); err != nil {
		t.Fatal(err)
	}
	if s.Blob("app", layer.Digest) == nil || len(s.Tags("app")) > 0 {
		t.Error("the blob is not there, or more than it")
	}
	if err := r.Push(t.Context(), compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", layer)), []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	if opened.Load() != 1 || s.Count("HEAD", layer.Digest.String()) != 1 {
		t.Errorf("opened %d times, asked for %d times", opened.Load(), s.Count("HEAD", layer.Digest.String()))
	}
}

func TestPushRepeatsBrokenUploads(t *testing.T) {
	layer := dataLayer(big, ocispec.MediaTypeImageLayer, digest.FromBytes(big))
	for name, test := range map[string]struct {
		fail  func(w http.ResponseWriter, r *http.Request)
		times int
		want  error
	}{
		"503": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, 2, nil},
		"429 after the body": {func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(429)
		}, 2, nil},
		"connection reset": {func(w http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 1000)
			panic(http.ErrAbortHandler)
		}, 2, nil},
		"for ever":  {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, 99, errAny},
		"too large": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }, 99, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			var failed atomic.Int32
			s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || r.URL.Query().Get("digest") != layer.Digest.String() || int(failed.Add(1)) > test.times {
					return false
				}
				test.fail(w, r)
				return true
			}})
			err := registry(t, RegistryOptions{}).Push(t.Context(), compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", layer)), []string{s.Host + "/app:1"}, nil)
			if (err != nil) != (test.want != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err == nil && !bytes.Equal(s.Blob("app", layer.Digest), big) {
				t.Error("the blob arrived changed")
			}
			if err != nil && len(s.Tags("app")) > 0 {
				t.Error("a tag was moved")
			}
		})
	}
}

func TestPushToALocationElsewhereCarriesNoCredentials(t *testing.T) {
	var seen atomic.Value
	storage := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body)
		seen.Store(r.Method + " " + r.URL.RequestURI() + r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusCreated)
		return true
	}})
	layer := testLayer(t, "a", nil)
	s := registrytest.New(t, registrytest.Options{User: "u", Password: "p4ssw0rd", Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok || r.Method != http.MethodPost {
			return false
		}
		w.Header().Set("Location", storage.URL+"/bucket?signature=z%2Fa&b=c")
		w.WriteHeader(http.StatusAccepted)
		return true
	}})
	r := registry(t, RegistryOptions{Keychain: fixedKeys{Username: "u", Password: "p4ssw0rd"}})
	if err := r.PushBlob(t.Context(), s.Host+"/app", layer, nil); err != nil {
		t.Fatal(err)
	}
	want := "PUT /bucket?signature=z%2Fa&b=c&digest=sha256%3A" + layer.Digest.Encoded()
	if seen.Load() != want {
		t.Errorf("storage got %q, want %q", seen.Load(), want)
	}
}

func TestPushFailsWithTheSourcesOwnError(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	lost := errors.New("disk is on fire")
	layer := dataLayer(big, ocispec.MediaTypeImageLayer, digest.FromBytes(big))
	for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"cannot be opened": func(context.Context) (io.ReadCloser, error) { return nil, lost },
		"ends in the middle": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(big[:len(big)/2]), failing{lost})), nil
		},
	} {
		layer.Open = open
		before := s.Count("POST")
		err := registry(t, RegistryOptions{}).PushBlob(t.Context(), s.Host+"/app", layer, nil)
		if !errors.Is(err, lost) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := s.Count("POST") - before; n != 1 {
			t.Errorf("%s: tried %d times", name, n)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPushReportsProgress(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	layer := dataLayer(big, ocispec.MediaTypeImageLayer, digest.FromBytes(big))
	var sent []int64
	last := map[digest.Digest]State{}
	collect := states(last)
	tagged := ""
	err := registry(t, RegistryOptions{}).Push(t.Context(), compose2(t, ComposeOptions{}, testImage(t, "linux/amd64", layer)), []string{s.Host + "/app:1"}, func(e Event) {
		if e.Digest == layer.Digest && e.State == Uploading {
			sent = append(sent, e.Bytes)
		}
		if e.State == Tagged {
			tagged = e.Name
		}
		collect(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sent) < 2 || sent[len(sent)-1] > int64(len(big)) || last[layer.Digest] != Pushed || len(last) != 3 || tagged != s.Host+"/app:1" {
		t.Errorf("sent %v, states %v, tagged %q", sent, last, tagged)
	}
}

func TestPushNames(t *testing.T) {
	r := registry(t, RegistryOptions{})
	for _, names := range [][]string{nil, {"a/UPPER"}, {"a@sha256:" + strings.Repeat("0", 64)}} {
		err := r.Push(t.Context(), twoPlatforms(t), names, nil)
		var failed *PushError
		if !errors.As(err, &failed) {
			t.Errorf("%v: got %v", names, err)
		}
	}
}

func BenchmarkPush(b *testing.B) {
	layer := dataLayer(bytes.Repeat(big, 16), ocispec.MediaTypeImageLayer, digest.FromString("x"))
	x := compose2(b, ComposeOptions{}, testImage(b, "linux/amd64", layer))
	b.SetBytes(layer.Size)
	for b.Loop() {
		s := registrytest.New(b, registrytest.Options{})
		if err := registry(b, RegistryOptions{}).Push(b.Context(), x, []string{s.Host + "/app:1"}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPullLayer(b *testing.B) {
	layer := dataLayer(bytes.Repeat(big, 16), ocispec.MediaTypeImageLayer, digest.FromString("x"))
	s := registrytest.New(b, registrytest.Options{})
	store(b, s, "app", "1", compose2(b, ComposeOptions{}, testImage(b, "linux/amd64", layer)))
	pulled, err := registry(b, RegistryOptions{}).Pull(b.Context(), s.Host+"/app:1", platform("linux/amd64"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(layer.Size)
	for b.Loop() {
		rc, err := pulled.Layers[0].Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			b.Fatal(err)
		}
		rc.Close()
	}
}
