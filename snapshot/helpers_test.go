package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// item is an entry with its content.
type item struct {
	Entry
	data string
}

var epoch = time.Unix(1700000000, 0).UTC()

func file(p, data string) item {
	return item{Entry{Path: p, Mode: 0o644, Size: int64(len(data)), ModTime: epoch}, data}
}
func dir(p string) item {
	return item{Entry: Entry{Path: p, Type: Directory, Mode: 0o755, ModTime: epoch}}
}
func symlink(p, to string) item {
	return item{Entry: Entry{Path: p, Type: Symlink, Mode: 0o777, Link: to, ModTime: epoch}}
}
func hardlink(p, to string) item { return item{Entry: Entry{Path: p, Type: Hardlink, Link: to}} }
func whiteout(p string) item     { return item{Entry: Entry{Path: p, Type: Whiteout}} }
func opaque(p string) item       { return item{Entry: Entry{Path: p, Type: Opaque}} }

// with changes an item.
func (i item) with(f func(*Entry)) item { f(&i.Entry); return i }
func (i item) own(uid, gid int) item    { i.UID, i.GID = uid, gid; return i }
func (i item) mode(m uint32) item       { i.Mode = m; return i }

func addLayer(t testing.TB, s *Store, c Compression, items ...item) Layer {
	t.Helper()
	w, err := s.NewLayer(c)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, i := range items {
		if err := w.Add(i.Entry, strings.NewReader(i.data)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// rawTar makes a tar as a foreign, maybe hostile builder would.
func rawTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := h.Uname // content travels in a field layers do not have
		h.Uname = ""
		h.Size = int64(len(data))
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, data []byte, c Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := compressor(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// foreign registers a tar as a layer made elsewhere.
func foreign(t testing.TB, s *Store, plain []byte, c Compression) Layer {
	t.Helper()
	l := Layer{DiffID: digest.FromBytes(plain), Size: int64(len(plain))}
	blob := compress(t, plain, c)
	s.Register(l, describe(blob, c), opener(blob))
	return l
}

func describe(blob []byte, c Compression) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: c.mediaType(), Digest: digest.FromBytes(blob), Size: int64(len(blob))}
}

func opener(blob []byte) Opener {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
}

// description is one line about an entry; a tree is a map of them.
func description(e Entry, content string) string {
	var x []string
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		x = append(x, fmt.Sprintf("%s=%x", k, e.Xattrs[k]))
	}
	when := fmt.Sprint(e.ModTime.Unix())
	if e.Path == "." {
		when = "-" // the root of a mounted tree changes whenever something is added to it
	}
	link := ""
	if e.Type == Symlink {
		link = " -> " + e.Link
	}
	return fmt.Sprintf("%s %#o %d:%d %s%s %v %s", e.Type, e.Mode, e.UID, e.GID, when, link, x, content)
}

func viewMap(t testing.TB, v *View) map[string]string {
	t.Helper()
	out := make(map[string]string)
	links := make(map[string]string)
	var walk func(e Entry)
	walk = func(e Entry) {
		content := ""
		if e.Type == Regular {
			content = readView(t, v, e.Path)
			if e.Link != "" {
				if first, ok := links[e.Link]; ok {
					out[e.Path] = "= " + first
					return
				}
				links[e.Link] = e.Path
			}
		}
		out[e.Path] = description(e, content)
		if e.Type != Directory {
			return
		}
		list, err := v.ReadDir(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			walk(c)
		}
	}
	root, _ := v.Lookup(".")
	walk(root)
	return out
}

func readView(t testing.TB, v *View, p string) string {
	t.Helper()
	r, err := v.Open(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return shorten(data)
}

func shorten(data []byte) string {
	if len(data) > 64 {
		return fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
	}
	return string(data)
}

// diskMap describes a directory on disk, with code of its own.
func diskMap(t testing.TB, root string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	links := make(map[uint64]string)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Mode&syscall.S_IFMT != syscall.S_IFDIR && st.Nlink > 1 {
			if first, ok := links[st.Ino]; ok {
				out[rel] = "= " + first
				return nil
			}
			links[st.Ino] = rel
		}
		e := Entry{Path: rel, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), ModTime: info.ModTime(), Xattrs: diskXattrs(t, name)}
		content := ""
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			e.Type = Directory
		case syscall.S_IFLNK:
			e.Type = Symlink
			e.Link, err = os.Readlink(name)
		case syscall.S_IFIFO:
			e.Type = Fifo
		case syscall.S_IFCHR:
			e.Type = Char
		case syscall.S_IFREG:
			var data []byte
			data, err = os.ReadFile(name)
			content = shorten(data)
		}
		out[rel] = description(e, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func diskXattrs(t testing.TB, name string) map[string]string {
	buf := make([]byte, 4096)
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return nil
	}
	n, err := syscall.Listxattr(name, buf)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if k == "" || overlayXattr(k) {
			continue
		}
		v := make([]byte, 4096)
		m, err := syscall.Getxattr(name, k, v)
		if err != nil {
			t.Fatal(err)
		}
		out[k] = string(v[:m])
	}
	return out
}

func sameMap(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if g, ok := got[p]; !ok {
			t.Errorf("%s: %q is missing, want %s", what, p, w)
		} else if g != w {
			t.Errorf("%s: %q\n got %s\nwant %s", what, p, g, w)
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: unexpected %q: %s", what, p, g)
		}
	}
}

// entries lists what a layer's tar contains, in its order, in short form.
func entries(t testing.TB, s *Store, l Layer) []string {
	t.Helper()
	d, err := s.Blob(t.Context(), l, Compression{Algorithm: Uncompressed})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Linkname != "" {
			name += " -> " + h.Linkname
		}
		out = append(out, name)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return out
}

func mustView(t testing.TB, s *Store, layers ...Layer) *View {
	t.Helper()
	v, err := s.View(context.Background(), layers)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// tarOf is a foreign layer of files without entries for their directories.
func tarOf(t testing.TB, names ...string) []byte {
	var headers []tar.Header
	for _, n := range names {
		headers = append(headers, tar.Header{Name: n, Uname: "content of " + n, ModTime: epoch})
	}
	return rawTar(t, headers...)
}

func overwrite(t testing.TB, name string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}
