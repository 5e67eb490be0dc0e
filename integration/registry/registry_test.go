package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func push(t *testing.T, ref string) (v1.Image, error) {
	t.Helper()
	img, err := random.Image(2*layerSize, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return img, remote.Write(r, img)
}

// read fetches everything of an image; go-containerregistry verifies digests.
func read(t *testing.T, ref string) error {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(r)
	if err != nil {
		return err
	}
	if _, err := img.ConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	return err
}

func closeAfter(t *testing.T, s *Server, err error) *Server {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestRegistriesKeepWhatIsPushed(t *testing.T) {
	for name, start := range map[string]func() (*Server, error){
		"docker-registry": func() (*Server, error) { return Start(context.Background(), t.TempDir(), Options{}) },
		"embedded":        func() (*Server, error) { return Embedded(filepath.Join(t.TempDir(), "new")) },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := start()
			closeAfter(t, s, err)
			if _, err := push(t, s.Addr+"/a/b:1"); err != nil {
				t.Fatal(err)
			}
			if err := read(t, s.Addr+"/a/b:1"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFaultsAreSeenByAVerifyingClient(t *testing.T) {
	base, err := Embedded(t.TempDir())
	closeAfter(t, base, err)
	if _, err := push(t, base.Addr+"/a:1"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Fault{Unauthorized, TruncateLayer, ShortLayer, TamperLayer, TamperConfig} {
		s, err := Faulty(base.Addr, f)
		closeAfter(t, s, err)
		if err := read(t, s.Addr+"/a:1"); err == nil {
			t.Errorf("%s: the image was read without an error", f)
		}
	}
	for _, f := range []Fault{Unauthorized, Forbidden, FailTag} {
		s, err := Faulty(base.Addr, f)
		closeAfter(t, s, err)
		if _, err := push(t, s.Addr+"/b:1"); err == nil {
			t.Errorf("%s: an image was written without an error", f)
		}
	}
	if _, err := Faulty(base.Addr, "no-such-fault"); err == nil {
		t.Error("an unknown fault was taken")
	}
}

func TestFailOnceFailsOnce(t *testing.T) {
	base, err := Embedded(t.TempDir())
	closeAfter(t, base, err)
	s, err := Faulty(base.Addr, FailOnce)
	closeAfter(t, s, err)
	for i, want := range []int{http.StatusServiceUnavailable, http.StatusAccepted} {
		resp, err := http.Post("http://"+s.Addr+"/v2/x/blobs/uploads/", "", bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("upload %d: got status %d, want %d", i+1, resp.StatusCode, want)
		}
	}
}
