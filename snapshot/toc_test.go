package snapshot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func sampleTOC() *TOC {
	sum := sha256.Sum256([]byte("x"))
	return &TOC{DiffID: digest.FromString("tar"), Size: 10240, records: []record{
		{path: ".", typ: Directory, mode: 0o755},
		{path: "a", typ: Directory, mode: 0o1777, uid: 1, gid: 4294967294, sec: -5, nsec: 999999999},
		{path: "a", typ: Opaque},
		{path: "a/f", typ: Regular, mode: 0o4755, size: 1, offset: 512, sum: string(sum[:]), flags: flagLinked, xattrs: []xattr{{"user.a", ""}, {"user.b", "\x00\xff"}}},
		{path: "a/g", typ: Hardlink, link: "a/f"},
		{path: "a-b", typ: Symlink, link: "../x\n"},
		{path: "dev", typ: Char, major: 1, minor: 3},
		{path: "gone", typ: Whiteout},
		{path: "p", typ: Fifo},
		{path: "z\xff", typ: Regular, sum: string(sum[:]), flags: flagSparse},
	}}
}

func TestTOCSurvivesEncoding(t *testing.T) {
	want := sampleTOC()
	got, err := decodeTOC(want.encode())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	e := slices.Collect(got.Entries())[3]
	if e.Digest != digest.FromString("x") || e.Xattrs["user.b"] != "\x00\xff" || !e.ModTime.Equal(time.Unix(0, 0)) {
		t.Errorf("entry %+v", e)
	}
}

func TestDamagedTOCIsRefused(t *testing.T) {
	good := sampleTOC().encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		if _, err := decodeTOC(bad); !errors.Is(err, errBadTOC) {
			t.Fatalf("byte %d changed: got %v", i, err)
		}
		if _, err := decodeTOC(good[:i]); !errors.Is(err, errBadTOC) {
			t.Fatalf("cut to %d bytes: got %v", i, err)
		}
	}
}

func TestTOCWithoutItsPromisesIsRefused(t *testing.T) {
	rows := map[string]func(*TOC){
		"out of order":       func(c *TOC) { c.records[3], c.records[4] = c.records[4], c.records[3] },
		"the same path":      func(c *TOC) { c.records[4].path = "a/f" },
		"path that climbs":   func(c *TOC) { c.records[9].path = "../z" },
		"absolute path":      func(c *TOC) { c.records[9].path = "/z" },
		"mode out of range":  func(c *TOC) { c.records[3].mode = 0o100644 },
		"unsorted xattrs":    func(c *TOC) { slices.Reverse(c.records[3].xattrs) },
		"unknown flag":       func(c *TOC) { c.records[3].flags = 0x80 },
		"unknown type":       func(c *TOC) { c.records[7].typ = Opaque + 1 },
		"nanoseconds beyond": func(c *TOC) { c.records[1].nsec = 1e9 },
	}
	for name, breakIt := range rows {
		c := sampleTOC()
		breakIt(c)
		if _, err := decodeTOC(c.encode()); !errors.Is(err, errBadTOC) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	enc := sampleTOC().encode()
	f.Add(string(enc[len(tocMagic) : len(enc)-sha256.Size]))
	f.Add("")
	f.Fuzz(func(t *testing.T, body string) {
		c, err := decodeRecords(body)
		if err != nil {
			return
		}
		again := c.encode()
		if got := string(again[len(tocMagic) : len(again)-sha256.Size]); got != body {
			t.Errorf("decoded %q, encoded again %q", body, got)
		}
		if !slices.IsSortedFunc(c.records, func(a, b record) int {
			if recordLess(&a, &b) {
				return -1
			}
			return 1
		}) {
			t.Error("not sorted")
		}
	})
}

func TestPathOrderIsThatOfAWalk(t *testing.T) {
	want := []string{".", "a", "a/b", "a/b/c", "a/c", "a b", "a-b", "a.b", "ab", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(a, b string) int {
		if pathLess(a, b) {
			return -1
		}
		return 1
	})
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// manyFiles is a table like that of a large base image.
func manyFiles(n int) *TOC {
	sum := sha256.Sum256([]byte("x"))
	c := &TOC{DiffID: digest.FromString("many"), Size: 1 << 30}
	for i := range n {
		dir := fmt.Sprintf("usr/lib/python3/dist-packages/module%05d", i/10)
		if i%10 == 0 {
			c.records = append(c.records, record{path: dir, typ: Directory, mode: 0o755})
			continue
		}
		c.records = append(c.records, record{path: fmt.Sprintf("%s/file%d.py", dir, i%10), mode: 0o644, size: 1234, offset: int64(i) * 2048, sum: string(sum[:]), sec: 1700000000})
	}
	return c
}

func BenchmarkTOCDecode150k(b *testing.B) {
	data := manyFiles(150000).encode()
	b.ReportMetric(float64(len(data))/150000, "B/file")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeTOC(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewMerge150k(b *testing.B) {
	c := manyFiles(150000)
	b.ReportAllocs()
	for b.Loop() {
		v := newView(nil)
		v.layers, v.tocs = []Layer{{DiffID: c.DiffID}}, []*TOC{c}
		v.merge(0)
		if _, ok := v.Lookup("usr/lib/python3/dist-packages/module00001/file3.py"); !ok {
			b.Fatal("lost")
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, p := range []string{".", "a", "a/b", "..a", "a\nb", "-rf", "\xff", ".wh"} {
		if err := checkPath(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"", "/", "/a", "a/", "a//b", "./a", "a/..", "..", "../a", "a/../b", "a\x00", ".wh.a", "a/.wh.b/c", strings.Repeat("a", 4097)} {
		if checkPath(p) == nil {
			t.Errorf("%.20q: accepted", p)
		}
	}
}
