package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var allCompressions = []Compression{{Algorithm: Gzip}, {Algorithm: Zstd}, {Algorithm: Uncompressed}}

func TestNewerStoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Fatalf("again: %v", err)
	}
	for text, want := range map[string]string{"mbuild store 2\n": "got version 2, this mbuild knows up to 1", "rubbish": `got "rubbish"`} {
		if err := os.WriteFile(filepath.Join(dir, "format"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestForeignLayerIsVerified(t *testing.T) {
	plain := rawTar(t, reg("a", "content"))
	for _, c := range allCompressions {
		blob := compress(t, plain, c)
		good := describe(blob, c)
		diffID := digest.FromBytes(plain)
		flipped := bytes.Clone(blob)
		flipped[len(flipped)/2] ^= 1
		other := digest.FromString("other")
		rows := []struct {
			rule   string
			blob   []byte
			desc   ocispec.Descriptor
			diffID digest.Digest
			want   []string // in the error; empty: success
		}{
			{"good", blob, good, diffID, nil},
			{"short", blob[:len(blob)-1], good, diffID, []string{good.Digest.String(), "got ", "want "}},
			{"long", append(bytes.Clone(blob), 0), good, diffID, []string{good.Digest.String(), "more than the"}},
			{"damaged", flipped, good, diffID, []string{good.Digest.String(), "got digest " + digest.FromBytes(flipped).String()}},
			{"other diffID", blob, good, other, []string{"got diffID " + diffID.String(), "want " + other.String()}},
			{"bad digest", blob, ocispec.Descriptor{Digest: "sha256:../../x", Size: good.Size}, diffID, []string{"invalid"}},
			{"bad diffID", blob, good, "sha256:../../x", []string{"diffID"}},
		}
		for _, row := range rows {
			t.Run(c.Algorithm+"/"+row.rule, func(t *testing.T) {
				s := newStore(t)
				l := Layer{DiffID: row.diffID}
				s.Register(l, row.desc, opener(row.blob))
				toc, err := s.TOC(t.Context(), l)
				if len(row.want) == 0 {
					if err != nil || toc.Len() != 1 || toc.Size != int64(len(plain)) {
						t.Fatalf("got %v, %v", toc, err)
					}
					return
				}
				for _, w := range row.want {
					if err == nil || !strings.Contains(err.Error(), w) {
						t.Errorf("got %v, want %q in it", err, w)
					}
				}
				if left, _ := filepath.Glob(filepath.Join(s.dir, "[bl]*s", "*", "*")); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
				if left, _ := filepath.Glob(filepath.Join(s.dir, "tmp", "*", "*-*")); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}
}

func TestBombsAreRefused(t *testing.T) {
	plain := rawTar(t, reg("zeros", strings.Repeat("\x00", 1<<20)))
	for _, c := range []Compression{{Algorithm: Gzip}, {Algorithm: Zstd}} {
		s := newStore(t)
		s.limits = limits{floor: 64 << 10, ratio: 10, most: 1 << 30}
		_, err := s.TOC(t.Context(), foreign(t, s, plain, c))
		if err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
			t.Errorf("%s: content: got %v", c.Algorithm, err)
		}
		// After the end marker nobody looks at headers, bytes count all the same.
		_, err = s.TOC(t.Context(), foreign(t, s, append(rawTar(t, reg("a", "")), make([]byte, 1<<20)...), c))
		if !errors.Is(err, errTooBig) {
			t.Errorf("%s: trailer: got %v", c.Algorithm, err)
		}
	}
}

func TestALayerIsFetchedOnce(t *testing.T) {
	s := newStore(t)
	plain := rawTar(t, reg("a", "content"))
	blob := compress(t, plain, Compression{Algorithm: Gzip})
	var opened atomic.Int32
	l := Layer{DiffID: digest.FromBytes(plain)}
	s.Register(l, describe(blob, Compression{Algorithm: Gzip}), func(context.Context) (io.ReadCloser, error) {
		opened.Add(1)
		return io.NopCloser(bytes.NewReader(blob)), nil
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.TOC(context.Background(), l); err != nil {
				t.Error(err)
			}
			v, err := s.View(context.Background(), []Layer{l})
			if err != nil {
				t.Error(err)
				return
			}
			if got := readView(t, v, "a"); got != "content" {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 {
		t.Errorf("opened %d times", opened.Load())
	}
	// Another process finds it on disk, and has no use for the registry.
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Has(l) {
		t.Error("not there for another store")
	}
	if got := readView(t, mustView(t, again, l), "a"); got != "content" {
		t.Errorf("got %q", got)
	}
}

func TestCancelledFetch(t *testing.T) {
	s := newStore(t)
	l := foreign(t, s, rawTar(t, reg("a", "x")), Compression{Algorithm: Gzip})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.TOC(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := s.TOC(t.Context(), l); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestUnknownLayer(t *testing.T) {
	s := newStore(t)
	l := Layer{DiffID: digest.FromString("nobody")}
	if s.Has(l) {
		t.Error("has it")
	}
	if _, err := s.TOC(t.Context(), l); !errors.Is(err, ErrNotFound) {
		t.Errorf("TOC: %v", err)
	}
	if _, err := s.Blob(t.Context(), l, Compression{Algorithm: Zstd}); !errors.Is(err, ErrNotFound) {
		t.Errorf("Blob: %v", err)
	}
	if _, err := s.OpenBlob(t.Context(), ocispec.Descriptor{Digest: l.DiffID}); !errors.Is(err, ErrNotFound) {
		t.Errorf("OpenBlob: %v", err)
	}
}

func TestDamageOnDiskIsRepairedFromTheRegistry(t *testing.T) {
	s := newStore(t)
	plain := rawTar(t, reg("a", "content"))
	l := foreign(t, s, plain, Compression{Algorithm: Gzip})
	if _, err := s.TOC(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	d, err := s.Blob(t.Context(), l, CompressionAny)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := s.blobPath(d.Digest)
	layer, _ := s.layerDir(l.DiffID)
	for what, damage := range map[string]func() error{
		"blob cut":      func() error { return os.Truncate(name, 5) },
		"blob changed":  func() error { return os.WriteFile(name, make([]byte, d.Size), 0o600) },
		"blob gone":     func() error { return os.Remove(name) },
		"table cut":     func() error { return os.Truncate(filepath.Join(layer, "toc"), 20) },
		"list of blobs": func() error { return os.WriteFile(filepath.Join(layer, "blobs.json"), []byte("{"), 0o600) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(layer, "tar"))
		fresh, err := Open(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		foreign(t, fresh, plain, Compression{Algorithm: Gzip})
		if got := readView(t, mustView(t, fresh, l), "a"); got != "content" {
			t.Errorf("%s: got %q", what, got)
		}
	}
}

func TestBlobIsReturnedAsItIsOrMade(t *testing.T) {
	s := newStore(t)
	plain := rawTar(t, reg("a", strings.Repeat("content ", 1000)))
	l := foreign(t, s, plain, Compression{Algorithm: Gzip, Level: 1})
	r, _ := s.registration(l.DiffID)
	r.blob.MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	s.Register(l, r.blob, r.open)
	seen := make(map[digest.Digest]bool)
	for _, row := range []struct {
		c    Compression
		want string
		same bool
	}{
		{CompressionAny, r.blob.MediaType, true},
		{Compression{Algorithm: Gzip}, r.blob.MediaType, true},
		{Compression{Algorithm: Gzip, Level: 9}, r.blob.MediaType, true},
		{Compression{Algorithm: Zstd}, ocispec.MediaTypeImageLayerZstd, false},
		{Compression{Algorithm: Zstd, Level: 19}, ocispec.MediaTypeImageLayerZstd, false},
		{Compression{Algorithm: Uncompressed}, ocispec.MediaTypeImageLayer, false},
	} {
		d, err := s.Blob(t.Context(), l, row.c)
		if err != nil {
			t.Fatal(err)
		}
		if d.MediaType != row.want || (d.Digest == r.blob.Digest) != row.same || !row.same && seen[d.Digest] {
			t.Errorf("%+v: got %+v", row.c, d)
		}
		seen[d.Digest] = true
		again, err := s.Blob(t.Context(), l, row.c)
		if err != nil || again.Digest != d.Digest {
			t.Errorf("%+v: second time: %v, %v", row.c, again.Digest, err)
		}
		in, err := s.OpenBlob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		z, _, err := decompressor(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%+v: %d bytes, %v", row.c, len(got), err)
		}
		z.Close()
		in.Close()
	}
	for _, bad := range []Compression{{Algorithm: "xz"}, {Algorithm: Gzip, Level: 10}, {Level: 3}, {Algorithm: Zstd, Level: -1}} {
		if _, err := s.Blob(t.Context(), l, bad); !errors.Is(err, ErrCompression) {
			t.Errorf("%+v: got %v", bad, err)
		}
		if _, err := s.NewLayer(bad); !errors.Is(err, ErrCompression) {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}

func TestTwoStoresOnOneDirectory(t *testing.T) {
	a := newStore(t)
	b, err := Open(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{a, b, a, b} {
		wg.Go(func() {
			for range 10 {
				l := addLayer(t, s, Compression{Algorithm: Gzip}, file("a", "x"))
				if got := readView(t, mustView(t, s, l), "a"); got != "x" {
					t.Errorf("got %q", got)
				}
				if err := s.Sweep(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// nonsense never ends.
type nonsense struct{}

func (nonsense) Read(p []byte) (int, error) { return len(p), nil }

func TestEndlessBlobEnds(t *testing.T) {
	s := newStore(t)
	l := Layer{DiffID: digest.FromString("x")}
	s.Register(l, ocispec.Descriptor{Digest: digest.FromString("y"), Size: 1 << 20}, func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(nonsense{}), nil
	})
	if _, err := s.TOC(t.Context(), l); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestLayersWithManyReaders(t *testing.T) {
	var headers []tar.Header
	for _, n := range []string{"a", "b", "c", "d"} {
		headers = append(headers, reg(n, strings.Repeat(n, 100000)))
	}
	s := newStore(t)
	v := mustView(t, s, foreign(t, s, rawTar(t, headers...), Compression{Algorithm: Zstd}))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			n := string(rune('a' + i%4))
			if got := readView(t, v, n); got != shorten([]byte(strings.Repeat(n, 100000))) {
				t.Errorf("%s: %s", n, got)
			}
		})
	}
	wg.Wait()
}
