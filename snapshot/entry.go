package snapshot

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Type says what an Entry is.
type Type uint8

// The types of entries. Hardlink, Whiteout and Opaque exist in layers only: a
// View shows hard links as Regular and has already applied the other two.
const (
	Regular Type = iota
	Directory
	Symlink
	Char
	Block
	Fifo
	Hardlink // Link is another path of the same layer
	Whiteout // Path is the path it deletes from the layers below
	Opaque   // Path is the directory whose content in the layers below it hides
)

// String names the type for messages.
func (t Type) String() string {
	names := [...]string{"file", "directory", "symlink", "character device", "block device", "fifo", "hard link", "whiteout", "opaque marker"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Entry describes one path of a layer or view.
type Entry struct {
	Path               string // slash-separated, clean, relative; "." is the root directory
	Type               Type
	Mode               uint32 // permission, setuid, setgid and sticky bits: 0o7777
	UID, GID           int
	Size               int64 // bytes of content, of a regular file
	ModTime            time.Time
	Link               string // symlink: its target verbatim; hard link: the other path; regular file in a View: identity of its hard link group
	DevMajor, DevMinor int64
	Xattrs             map[string]string
	Digest             digest.Digest // content of a regular file
}

// whiteoutPrefix marks, in a layer's tar, a name that stands for a deletion.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// maxPath is the longest path of an entry in bytes: PATH_MAX of Linux.
const maxPath = 4096

// checkPath reports why p cannot be the Path of an entry that a caller of this
// package made.
func checkPath(p string) error {
	switch {
	case p == ".":
		return nil
	case p == "" || p != path.Clean(p) || strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../"):
		return fmt.Errorf("path %q is not clean and relative", p)
	case strings.ContainsRune(p, 0):
		return fmt.Errorf("path %q contains a NUL byte", p)
	case len(p) > maxPath:
		return fmt.Errorf("path of %d bytes is longer than %d", len(p), maxPath)
	}
	for rest := p; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if strings.HasPrefix(name, whiteoutPrefix) {
			return fmt.Errorf("path %q: a name that starts with %q means a deletion in a layer", p, whiteoutPrefix)
		}
	}
	return nil
}
