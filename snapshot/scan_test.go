package snapshot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
)

func scanTar(plain []byte) ([]record, error) {
	b := newBuilder(false)
	if err := scan(bytes.NewReader(plain), b, newHashSink(), 4<<20); err != nil {
		return nil, err
	}
	return b.records(), nil
}

// brief is what the tables below compare.
func brief(records []record) string {
	var out []string
	for _, r := range records {
		s := map[Type]string{Regular: "", Directory: "/", Symlink: "@", Char: "c", Block: "b", Fifo: "|", Hardlink: "=", Whiteout: "-", Opaque: "!"}[r.typ]
		s = r.path + s + r.link
		for _, x := range r.xattrs {
			s += "[" + x.key + "]"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func reg(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: data}
}
func typed(flag byte, name, link string) tar.Header {
	return tar.Header{Typeflag: flag, Name: name, Linkname: link}
}

func TestForeignLayersAreNormalised(t *testing.T) {
	d := func(name string) tar.Header { return typed(tar.TypeDir, name, "") }
	l := func(name, to string) tar.Header { return typed(tar.TypeSymlink, name, to) }
	h := func(name, to string) tar.Header { return typed(tar.TypeLink, name, to) }
	rows := []struct {
		rule string
		in   []tar.Header
		want string
	}{
		{"names are cleaned", []tar.Header{d("./"), d("./a/"), reg("/a//./b", "")}, "./ a/ a/b"},
		{"order is that of a walk", []tar.Header{reg("b", ""), reg("a", "")}, "a b"},
		{"the last of the same name counts", []tar.Header{reg("a", "1"), l("a", "x")}, "a@x"},
		{"directories keep their content", []tar.Header{d("a"), reg("a/b", ""), d("a")}, "a/ a/b"},
		{"a file in place of a directory removes its content", []tar.Header{d("a"), reg("a/b", ""), reg("a", "")}, "a"},
		{"implied parents are not listed", []tar.Header{reg("a/b/c", "")}, "a/b/c"},
		{"own symlinks as parents are followed", []tar.Header{d("usr/lib"), l("lib", "usr/lib"), reg("lib/x", "")}, "lib@usr/lib usr/lib/ usr/lib/x"},
		{"but never out of the layer", []tar.Header{l("up", "../../../.."), l("abs", "/etc"), reg("up/x", ""), reg("abs/passwd", "")}, "abs@/etc etc/passwd up@../../../.. x"},
		{"hard links name the first path", []tar.Header{reg("z", "1"), h("a", "z"), h("./m", "/z")}, "a m=a z=a"},
		{"a link outlives its target's name", []tar.Header{reg("a", "1"), h("b", "a"), reg("a", "2")}, "a b"},
		{"a link to itself is nothing", []tar.Header{reg("a", "1"), h("a", "a")}, "a"},
		{"links to symlinks", []tar.Header{l("a", "x"), h("b", "a")}, "a@x b=a"},
		{"whiteouts", []tar.Header{reg("d/.wh.a", ""), reg(".wh.b", "")}, "b- d/a-"},
		{"opaque", []tar.Header{d("d"), reg("d/.wh..wh..opq", ""), reg(".wh..wh..opq", "")}, ".! d/ d!"},
		{"an entry beats the whiteout of its name", []tar.Header{reg(".wh.a", ""), reg("a", "")}, "a"},
		{"a directory and its whiteout are opaque", []tar.Header{reg(".wh.a", ""), d("a"), reg("a/b", "")}, "a/ a! a/b"},
		{"AUFS bookkeeping is skipped", []tar.Header{d(".wh..wh.plnk"), reg(".wh..wh.plnk/1.2", ""), reg(".wh..wh.aufs", "")}, ""},
		{"global headers are skipped", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "c"}}, reg("a", "")}, "a"},
		{"device 0:0 is a whiteout", []tar.Header{typed(tar.TypeChar, "gone", "")}, "gone-"},
		{"devices and fifos", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, {Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}, typed(tar.TypeFifo, "p", "")}, "nullc p| sdab"},
		{"overlay's own xattrs are dropped", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{
			"SCHILY.xattr.user.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.capability": "c", "SCHILY.xattr.user.x": "1"}}}, "a[security.capability][user.x]"},
		{"odd names", []tar.Header{reg("a\nb", ""), reg("-rf", ""), reg("..a", ""), reg("x\xff", "")}, "-rf ..a a\nb x\xff"},
	}
	for _, row := range rows {
		t.Run(row.rule, func(t *testing.T) {
			got, err := scanTar(rawTar(t, row.in...))
			if err != nil {
				t.Fatal(err)
			}
			if brief(got) != row.want {
				t.Errorf("got %q, want %q", brief(got), row.want)
			}
			c := &TOC{DiffID: sampleTOC().DiffID, records: got}
			if _, err := decodeTOC(c.encode()); err != nil {
				t.Errorf("table: %v", err)
			}
		})
	}
}

func TestHostileLayersAreRefused(t *testing.T) {
	h := func(name, to string) tar.Header { return typed(tar.TypeLink, name, to) }
	loop := []tar.Header{typed(tar.TypeSymlink, "a", "b"), typed(tar.TypeSymlink, "b", "a"), reg("a/x", "")}
	rows := []struct {
		rule string
		in   []tar.Header
		want string
	}{
		{"parent directory in a name", []tar.Header{reg("../x", "")}, `"../x" contains ".."`},
		{"even inside", []tar.Header{reg("a/../b", "")}, `".."`},
		{"parent directory in a hard link", []tar.Header{reg("a", ""), h("b", "../a")}, `".."`},
		{"hard link out of the layer", []tar.Header{h("b", "/etc/passwd")}, `target "etc/passwd" is not in the layer`},
		{"hard link to a directory", []tar.Header{typed(tar.TypeDir, "d", ""), h("b", "d")}, "is a directory"},
		{"hard link in place of its target's directory", []tar.Header{reg("c/a", ""), h("c", "c/a")}, "replaces the directory of its target"},
		{"hard link to the root", []tar.Header{typed(tar.TypeDir, "./", ""), h("b", "./")}, "is not in the layer"},
		{"hard link through a symlink out", []tar.Header{typed(tar.TypeSymlink, "s", "/"), h("b", "s/etc/passwd")}, "is not in the layer"},
		{"a file as parent", []tar.Header{reg("a", ""), reg("a/b", "")}, `"a" is a file, not a directory`},
		{"symlinks in a circle", loop, "too many symlinks"},
		{"symlink as root", []tar.Header{typed(tar.TypeSymlink, ".", "/etc")}, "the root is a symlink"},
		{"whiteout of dot dot", []tar.Header{reg("a/.wh...", "")}, "names no file"},
		{"whiteout of nothing", []tar.Header{reg("a/.wh.", "")}, "names no file"},
		{"through a whiteout", []tar.Header{reg(".wh.a/b", "")}, "goes through a whiteout"},
		{"long names", []tar.Header{reg(strings.Repeat("a/", 2100)+"b", "")}, "longer than 4096"},
		{"unknown types", []tar.Header{typed('Z', "a", "")}, "unsupported tar entry type"},
		{"owner out of range", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", Uid: -1}}, "out of range"},
		{"too much content", []tar.Header{reg("a", strings.Repeat("x", 60)), reg("b", strings.Repeat("x", 60))}, "more than 100 bytes"},
	}
	for _, row := range rows {
		t.Run(row.rule, func(t *testing.T) {
			err := scan(bytes.NewReader(rawTar(t, row.in...)), newBuilder(false), newHashSink(), 100)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q in it", err, row.want)
			}
		})
	}
}

func TestLongChainsOfSymlinksAreRefused(t *testing.T) {
	for n, ok := range map[int]bool{200: true, 300: false} {
		headers := []tar.Header{typed(tar.TypeDir, "s0", "")}
		for i := 1; i <= n; i++ {
			headers = append(headers, typed(tar.TypeSymlink, fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", i-1)))
		}
		headers = append(headers, reg(fmt.Sprintf("s%d/f", n), ""))
		if _, err := scanTar(rawTar(t, headers...)); (err == nil) != ok {
			t.Errorf("%d links: got %v", n, err)
		}
	}
}

// sparseTar is one file of 1 MiB with 4 bytes at its end, in the old GNU form.
func sparseTar() []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000004\x0000000000000\x00")
	copy(h[148:], "        ")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "00003777774\x0000000000004\x00")
	copy(h[386+24:], "00004000000\x0000000000000\x00")
	copy(h[483:], "00004000000\x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return slices.Concat(h, []byte("tail"), make([]byte, 508+1024))
}

func TestSparseFilesAreRead(t *testing.T) {
	s := newStore(t)
	first := rawTar(t, reg("first", "one"))
	plain := slices.Concat(first[:1024], sparseTar())
	l := foreign(t, s, plain, Compression{Algorithm: Gzip})
	v := mustView(t, s, l)
	r, err := v.Open(t.Context(), "sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil || len(data) != 1<<20 || string(data[1<<20-4:]) != "tail" {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add(rawTar(f, reg("a", "1"), typed(tar.TypeLink, "b", "a"), typed(tar.TypeDir, "d", ""), reg("d/.wh.x", ""), typed(tar.TypeSymlink, "s", "d"), reg("s/y", "22")))
	f.Add(sparseTar())
	f.Fuzz(func(t *testing.T, data []byte) {
		if records, err := scanTar(data); err == nil {
			keepsPromises(t, records)
		}
	})
}

// FuzzEntries reaches further than FuzzScan: every input is a well-formed tar.
func FuzzEntries(f *testing.F) {
	f.Add([]byte("some more or less random bytes to make entries of"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if records, err := scanTar(rawTar(t, oddEntries(data)...)); err == nil {
			keepsPromises(t, records)
		}
	})
}

// oddEntries makes two bytes an entry, from few names so that they collide.
func oddEntries(data []byte) []tar.Header {
	names := []string{"a", "b", "a/a", "a/b", "b/a", "a/b/a", "b/a/b", "c", "./a", "/b", "a/b/c", "c/a", ".", "c/c/c", "b/b", "d"}
	links := []string{"a", "../b", "/", "a/b", "/a/b/../b", "c", ".", "b"}
	var out []tar.Header
	for ; len(data) >= 2 && len(out) < 64; data = data[2:] {
		name, link := names[data[0]&15], links[data[1]&7]
		switch data[0] >> 4 {
		case 0, 1, 2, 3:
			out = append(out, reg(name, fmt.Sprint("content ", len(out))))
		case 4, 5, 6:
			out = append(out, typed(tar.TypeDir, name, ""))
		case 7, 8:
			out = append(out, typed(tar.TypeSymlink, name, link))
		case 9, 10, 11:
			out = append(out, typed(tar.TypeLink, name, names[data[1]&15]))
		case 12, 13:
			out = append(out, reg(path.Join(path.Dir(name), ".wh."+path.Base(name)), ""))
		case 14:
			out = append(out, reg(path.Join(name, ".wh..wh..opq"), ""))
		default:
			out = append(out, typed(tar.TypeFifo, name, ""))
		}
	}
	return out
}

// keepsPromises checks a table in normal form.
func keepsPromises(t *testing.T, records []record) {
	c := &TOC{DiffID: sampleTOC().DiffID, records: records}
	if _, err := decodeTOC(c.encode()); err != nil {
		t.Fatalf("table breaks its promises: %v: %q", err, brief(records))
	}
	kinds := make(map[string]Type)
	for _, r := range records {
		if r.typ != Opaque {
			kinds[r.path] = r.typ
		}
	}
	for _, r := range records {
		for p := parentOf(r.path); p != "."; p = parentOf(p) {
			if k, ok := kinds[p]; ok && k != Directory {
				t.Fatalf("%q is below a %s", r.path, k)
			}
		}
		if k := kinds[r.link]; r.typ == Hardlink && (k == Directory || k == Hardlink || c.find(r.link) == nil) {
			t.Fatalf("%q links to %q, a %s", r.path, r.link, k)
		}
	}
	v := newView(nil)
	v.layers, v.tocs = []Layer{{DiffID: c.DiffID}, {DiffID: c.DiffID}}, []*TOC{c, c}
	v.merge(0)
	v.merge(1)
	for _, r := range records {
		if _, ok := v.Lookup(r.path); ok == (r.typ == Whiteout) && r.path != "." {
			t.Fatalf("%q (%s): in the view: %v", r.path, r.typ, ok)
		}
	}
}
