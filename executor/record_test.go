package executor

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"mbuild/snapshot"
)

func testRecord() Record {
	return Record{
		Layers:  []snapshot.Layer{{DiffID: digest.FromString("a"), Size: 3}},
		Created: time.Unix(1000, 0).UTC(), Step: "RUN true",
	}
}

func TestRecordsKeepWhatWasPut(t *testing.T) {
	r, err := OpenRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k := newEncoder("test").sum()
	if _, ok := r.Get(k); ok {
		t.Fatal("there is a record before one was put")
	}
	if err := r.Put(k, testRecord()); err != nil {
		t.Fatal(err)
	}
	got, ok := r.Get(k)
	if !ok || got.Layers[0] != testRecord().Layers[0] || !got.Created.Equal(testRecord().Created) {
		t.Errorf("got %+v, %v", got, ok)
	}
}

// Whatever a crash, a full disk or another version leaves behind is a miss.
func TestBadRecordsAreMisses(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "half": `{"version":1,"layers":[{"diffID":"sha256:`, "foreign version": `{"version":99}`,
		"not JSON": "\x00\x01", "bad digest": `{"version":1,"layers":[{"diffID":"sha256:zz"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := OpenRecords(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			k := newEncoder("test").sum()
			if err := r.Put(k, testRecord()); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.path(k), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if rec, ok := r.Get(k); ok {
				t.Errorf("got %+v, want a miss", rec)
			}
		})
	}
}

func TestPutLeavesNothingBehindWhenItFails(t *testing.T) {
	dir := t.TempDir()
	r, err := OpenRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := newEncoder("test").sum()
	if err := os.MkdirAll(r.path(k), 0o700); err != nil { // a directory in the way
		t.Fatal(err)
	}
	if err := r.Put(k, testRecord()); err == nil {
		t.Fatal("Put over a directory succeeded")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".new-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
