package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSameCallsSameBytes(t *testing.T) {
	noise := make([]byte, 5<<20)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(noise[:2<<20])
	items := []item{dir("d"), {file("d/noise", "").with(func(e *Entry) { e.Size = int64(len(noise)) }).Entry, string(noise)}, symlink("l", "d")}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, c := range []Compression{{Algorithm: Gzip}, {Algorithm: Gzip, Level: 9}, {Algorithm: Zstd}, {Algorithm: Zstd, Level: 19}, {}} {
		var want string
		for _, cores := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(cores)
			s := newStore(t)
			l := addLayer(t, s, c, items...)
			d, err := s.Blob(t.Context(), l, c)
			if err != nil {
				t.Fatal(err)
			}
			got := l.DiffID.String() + " " + d.Digest.String()
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%+v on %d cores: got %s, want %s", c, cores, got, want)
			}
		}
	}
}

// TestBlobBytesAreKnown fails when a library makes other bytes than before:
// then a rebuild with the new mbuild does not reproduce what the old one made.
func TestBlobBytesAreKnown(t *testing.T) {
	for algorithm, want := range map[string]string{
		Gzip:         "d46b27468eeb06fa",
		Zstd:         "23a5496fb89e3db9",
		Uncompressed: "dfae51025f7ea981",
	} {
		s := newStore(t)
		c := Compression{Algorithm: algorithm}
		l := addLayer(t, s, c, dir("d"), file("d/f", strings.Repeat("some content, ", 100)), symlink("l", "d/f"), whiteout("d/gone"))
		d, err := s.Blob(t.Context(), l, c)
		if err != nil {
			t.Fatal(err)
		}
		if d.Digest.Encoded()[:16] != want {
			t.Errorf("%s: got %s, want %s…", algorithm, d.Digest.Encoded()[:16], want)
		}
	}
}

func TestCompressionDoesNotDependOnWrites(t *testing.T) {
	data := []byte(strings.Repeat("0123456789", 1<<18))
	for _, c := range allCompressions {
		want := compress(t, data, c)
		var got bytes.Buffer
		z, err := compressor(&got, c)
		if err != nil {
			t.Fatal(err)
		}
		for rest, n := data, 1; len(rest) > 0; n = n*3%70001 + 1 {
			n = min(n, len(rest))
			if _, err := z.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: differs", c.Algorithm)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newStore(t)
	when := time.Date(2020, 1, 2, 3, 4, 5, 999999999, time.UTC)
	l := addLayer(t, s, Compression{},
		file("f", "x").with(func(e *Entry) {
			e.ModTime, e.UID, e.GID, e.Mode = when, 3_000_000, 7, 0o6755
			e.Xattrs = map[string]string{"security.capability": "\x00\xff", "user.overlay.opaque": "y"}
		}),
		whiteout("d/gone"), opaque("d"), hardlink("h", "f"))
	d, err := s.Blob(t.Context(), l, Compression{Algorithm: Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil {
		t.Fatal(err)
	}
	if !h.ModTime.Equal(when.Truncate(time.Second)) || h.Uid != 3_000_000 || h.Gid != 7 || h.Mode != 0o6755 || h.Uname != "" || h.Gname != "" ||
		h.PAXRecords["SCHILY.xattr.security.capability"] != "\x00\xff" || len(h.PAXRecords) != 2 || !h.AccessTime.IsZero() {
		t.Errorf("%+v", h)
	}
	if got, want := entries(t, s, l), []string{"f", "d/.wh.gone", "d/.wh..wh..opq", "h -> f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWriterRefuses(t *testing.T) {
	rows := map[string][]item{
		"a name twice":                  {file("a", ""), file("a", "")},
		"a directory twice":             {dir("a"), dir("a")},
		"below a file":                  {file("a", ""), file("a/b", "")},
		"below a symlink":               {symlink("a", "b"), file("a/b", "")},
		"a link to nothing":             {hardlink("a", "b")},
		"a link to itself":              {hardlink("a", "a")},
		"a link out":                    {file("a", ""), hardlink("b", "../a")},
		"a reserved name":               {file(".wh.a", "")},
		"an absolute name":              {file("/a", "")},
		"too little content":            {file("a", "x").with(func(e *Entry) { e.Size = 2 })},
		"other content":                 {file("a", "x").with(func(e *Entry) { e.Digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4882" })},
		"a device that is a whiteout":   {dir("a").with(func(e *Entry) { e.Type = Char })},
		"an empty symlink":              {symlink("a", "")},
		"a whiteout of what is there":   {file("a", ""), whiteout("a")},
		"a file type in the mode":       {file("a", "").mode(0o100644)},
		"a negative owner":              {file("a", "").own(-1, 0)},
		"an xattr tar cannot represent": {file("a", "").with(func(e *Entry) { e.Xattrs = map[string]string{"user.a=b": ""} })},
	}
	for rule, items := range rows {
		t.Run(rule, func(t *testing.T) {
			s := newStore(t)
			w, err := s.NewLayer(Compression{Algorithm: Gzip})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			for _, i := range items {
				err = w.Add(i.Entry, strings.NewReader(i.data))
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if _, again := w.Commit(); !errors.Is(again, err) {
				t.Errorf("commit: got %v, want %v", again, err)
			}
		})
	}
}

func TestDigestOfAddedContentIsChecked(t *testing.T) {
	s := newStore(t)
	l := addLayer(t, s, Compression{}, file("a", "x"))
	e, _ := mustView(t, s, l).Lookup("a")
	if same := addLayer(t, s, Compression{}, item{e, "x"}); same.DiffID != l.DiffID {
		t.Errorf("got %s, want %s", same.DiffID, l.DiffID)
	}
}

func TestOthersReadOurLayers(t *testing.T) {
	gnuTar, err := exec.LookPath("tar")
	if err != nil {
		t.Skipf("needs GNU tar: %v", err)
	}
	s := newStore(t)
	long := strings.Repeat("long/", 40) + "name"
	l := addLayer(t, s, Compression{Algorithm: Gzip}, dir("d"), file("d/f", "x"), hardlink("h", "d/f"), symlink("l", "d/f"), file("new\nline", ""), file(long, ""), whiteout("gone"))
	for _, c := range []Compression{{Algorithm: Gzip}, {Algorithm: Uncompressed}} {
		d, err := s.Blob(t.Context(), l, c)
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
		args := []string{"-t", "--quoting-style=c", "-f", "-"}
		if c.Algorithm == Gzip {
			args = append(args, "-z")
		}
		cmd := exec.Command(gnuTar, args...)
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.CombinedOutput()
		want := "\"d/\"\n\"d/f\"\n\"h\"\n\"l\"\n\"new\\nline\"\n\"" + long + "\"\n\".wh.gone\"\n"
		if err != nil || string(out) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.Algorithm, err, out, want)
		}
	}
}
