package executor

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"mbuild/snapshot"
)

// memFiles is a tree of files in memory.
type memFiles map[string]memFile

type memFile struct {
	entry snapshot.Entry
	data  string
}

// tree makes files of lines such as "dir 0755 0:0 a", "file 0644 1:2 a/f=content",
// "link a/l=target" and "hard a/h=a/f".
func tree(t *testing.T, lines ...string) memFiles {
	t.Helper()
	m := memFiles{".": {entry: snapshot.Entry{Path: ".", Type: snapshot.Directory, Mode: 0o755}}}
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		var e snapshot.Entry
		var name, value string
		if kind == "dir" || kind == "file" {
			if _, err := fmt.Sscanf(rest, "%o %d:%d", &e.Mode, &e.UID, &e.GID); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			rest = strings.SplitN(rest, " ", 3)[2]
		}
		name, value, _ = strings.Cut(rest, "=")
		e.Path, e.ModTime = name, time.Unix(1000, 0)
		switch kind {
		case "dir":
			e.Type = snapshot.Directory
		case "file":
			e.Type, e.Size, e.Digest = snapshot.Regular, int64(len(value)), digest.FromString(value)
		case "link":
			e.Type, e.Link, e.Mode = snapshot.Symlink, value, 0o777
		case "hard":
			first := m[value]
			first.entry.Link = "group of " + value
			m[value] = first
			m[name] = memFile{first.entry, first.data}
			e = first.entry
			e.Path = name
			value = first.data
		default:
			t.Fatalf("%q: unknown kind", line)
		}
		m[name] = memFile{e, value}
	}
	return m
}

func (m memFiles) Lookup(name string) (snapshot.Entry, error) {
	if f, ok := m[name]; ok {
		return f.entry, nil
	}
	return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

func (m memFiles) ReadDir(name string) ([]snapshot.Entry, error) {
	var entries []snapshot.Entry
	for _, p := range slices.Sorted(maps.Keys(m)) {
		if p != "." && path.Dir(p) == name {
			entries = append(entries, m[p].entry)
		}
	}
	return entries, nil
}

func (m memFiles) Open(_ context.Context, name string) (io.ReadCloser, error) {
	f, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(f.data)), nil
}
