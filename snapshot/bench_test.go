package snapshot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// rootfs is a tar like that of a distribution's base image: 117 MB in 6,700
// files, a third of the bytes in few large ones. MBUILD_BENCH_TAR names a real
// one to use instead.
func rootfs(b testing.TB) []byte {
	if name := os.Getenv("MBUILD_BENCH_TAR"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	words := strings.Fields("the quick brown fox jumps over lazy dog lib usr share doc python include static int return void const")
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []byte {
		var t bytes.Buffer
		for t.Len() < n {
			fmt.Fprintf(&t, "%s%d ", words[rng.IntN(len(words))], rng.IntN(1000))
		}
		return t.Bytes()[:n]
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h *tar.Header, data []byte) {
		h.Format, h.ModTime, h.Size = tar.FormatPAX, epoch, int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	pool := text(4 << 20)
	for i := range 6700 {
		d := fmt.Sprintf("usr/share/doc/package%03d/", i/12)
		if i%12 == 0 {
			add(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
		}
		n := 100 + rng.IntN(24000)
		if i%600 == 0 {
			n = 3 << 20
		}
		at := rng.IntN(len(pool) - n)
		add(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile%d", d, i%12), Mode: 0o644}, pool[at:at+n])
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func BenchmarkScan(b *testing.B) {
	data := rootfs(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := scan(bytes.NewReader(data), newBuilder(false), newHashSink(), 1<<40); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	data := rootfs(b)
	for _, c := range []Compression{{Gzip, 1}, {Gzip, 2}, {Gzip, 3}, {Gzip, 4}, {Gzip, 5}, {Gzip, 6}, {Zstd, 1}, {Zstd, 3}, {Zstd, 7}} {
		b.Run(fmt.Sprintf("%s-%d", c.Algorithm, c.Level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var out counterWriter
			for b.Loop() {
				out = 0
				z, err := compressor(&out, c)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := z.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := z.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(out)/float64(len(data))*100, "%size")
		})
	}
}

type counterWriter int64

func (c *counterWriter) Write(p []byte) (int, error) {
	*c += counterWriter(len(p))
	return len(p), nil
}

func needInside(b *testing.B) {
	if *namespace != "inside" {
		b.Skip(`needs a user namespace: run with -namespace=enter (go test -c, then ./snapshot.test -namespace=enter -test.bench=.)`)
	}
}

// BenchmarkUnpack takes a layer from its blob on disk to an unpacked directory.
func BenchmarkUnpack(b *testing.B) {
	needInside(b)
	plain := rootfs(b)
	for _, c := range allCompressions {
		b.Run(c.Algorithm, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			s := newStore(b)
			l := foreign(b, s, plain, c)
			if _, err := s.TOC(b.Context(), l); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.unpackLayer(b.Context(), l); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				dir, _ := s.layerDir(l.DiffID)
				if err := os.RemoveAll(filepath.Join(dir, s.diff)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkFetch takes a layer from a registry to disk, without unpacking.
func BenchmarkFetch(b *testing.B) {
	plain := rootfs(b)
	for _, c := range allCompressions {
		b.Run(c.Algorithm, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			blob := compress(b, plain, c)
			l := Layer{DiffID: digest.FromBytes(plain)}
			for b.Loop() {
				b.StopTimer()
				s := newStore(b)
				s.Register(l, describe(blob, c), opener(blob))
				b.StartTimer()
				if _, err := s.TOC(b.Context(), l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTree mounts and closes a tree of an unpacked layer.
func BenchmarkTree(b *testing.B) {
	needInside(b)
	s := newStore(b)
	l := foreign(b, s, rootfs(b), Compression{Algorithm: Zstd})
	if err := s.unpackLayer(b.Context(), l); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		tree, err := s.NewTree(b.Context(), []Layer{l})
		if err != nil {
			b.Fatal(err)
		}
		if err := tree.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit takes a layer of 20,000 small files from a tree.
func BenchmarkCommit(b *testing.B) {
	needInside(b)
	for _, c := range allCompressions {
		b.Run(c.Algorithm, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := newStore(b)
				tree, err := s.NewTree(b.Context(), nil)
				if err != nil {
					b.Fatal(err)
				}
				for i := range 20000 {
					name := filepath.Join(tree.Root(), fmt.Sprintf("node_modules/m%03d/f%d.js", i/100, i))
					if i%100 == 0 {
						if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
							b.Fatal(err)
						}
					}
					if err := os.WriteFile(name, []byte(strings.Repeat(name, 20)), 0o644); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if _, err := tree.Commit(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := tree.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCommitSmall is a RUN that touches one file on a large base.
func BenchmarkCommitSmall(b *testing.B) {
	needInside(b)
	s := newStore(b)
	l := foreign(b, s, rootfs(b), Compression{Algorithm: Zstd})
	if err := s.unpackLayer(b.Context(), l); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		tree, err := s.NewTree(b.Context(), []Layer{l})
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree.Root(), "usr/share/doc/touched"), fmt.Append(nil, i), 0o644); err != nil {
			b.Fatal(err)
		}
		if _, err := tree.Commit(b.Context(), Compression{Algorithm: Gzip}); err != nil {
			b.Fatal(err)
		}
		if err := tree.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadAll copies every file of a layer through a view.
func BenchmarkReadAll(b *testing.B) {
	s := newStore(b)
	plain := rootfs(b)
	l := foreign(b, s, plain, Compression{Algorithm: Zstd})
	v := mustView(b, s, l)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		for _, r := range v.tocs[0].records {
			if r.typ != Regular {
				continue
			}
			f, err := v.Open(b.Context(), r.path)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, f); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	}
}
