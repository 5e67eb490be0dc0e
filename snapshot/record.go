package snapshot

import (
	"encoding/hex"
	"time"

	"github.com/opencontainers/go-digest"
)

// record is an Entry in the form kept in memory for whole layers: no digest
// text, no time.Time, extended attributes as a flat list.
type record struct {
	path   string
	link   string
	sum    string // 32 bytes of SHA-256 over the content, regular files only
	xattrs []xattr
	size   int64
	offset int64 // of the content in the uncompressed tar; flagSparse: ordinal of the tar header
	sec    int64
	nsec   uint32
	mode   uint32
	uid    uint32
	gid    uint32
	major  uint32
	minor  uint32
	typ    Type
	flags  uint8
}

const (
	flagLinked uint8 = 1 << iota // other records of the layer are hard links to this one
	flagSparse                   // content is not contiguous in the tar
	knownFlags = flagLinked | flagSparse
)

// xattr is one extended attribute. Lists of them are sorted by key.
type xattr struct{ key, value string }

func (r *record) modTime() time.Time { return time.Unix(r.sec, int64(r.nsec)).UTC() }

// entry makes the public form.
func (r *record) entry() Entry {
	e := Entry{
		Path: r.path, Type: r.typ, Mode: r.mode, UID: int(r.uid), GID: int(r.gid), Size: r.size,
		ModTime: r.modTime(), Link: r.link, DevMajor: int64(r.major), DevMinor: int64(r.minor),
	}
	if r.sum != "" {
		e.Digest = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString([]byte(r.sum)))
	}
	if len(r.xattrs) > 0 {
		e.Xattrs = make(map[string]string, len(r.xattrs))
		for _, x := range r.xattrs {
			e.Xattrs[x.key] = x.value
		}
	}
	return e
}

// pathLess orders paths as a walk of the tree meets them: a directory before
// its content, siblings by the bytes of their names, the root first.
func pathLess(a, b string) bool {
	if a == "." || b == "." {
		return a == "." && b != "."
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return a[i] == '/' || b[i] != '/' && a[i] < b[i]
		}
	}
	return len(a) < len(b)
}

// recordLess is the order of records in a TOC. A directory and the opaque
// marker for it share their path.
func recordLess(a, b *record) bool {
	if a.path == b.path {
		return a.typ != Opaque && b.typ == Opaque
	}
	return pathLess(a.path, b.path)
}
