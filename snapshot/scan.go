package snapshot

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"path"
	"slices"
	"strings"
)

// Reading a layer's tar. What other builders are known to write is normalised,
// what could only be an attack or damage is refused:
//
//	absolute name, "./", "//", "/" at the end   cleaned
//	".." in a name or hard link                 refused
//	empty name, NUL in a name, over 4096 bytes  refused
//	the same name again                         the last one counts; directories keep their content
//	parent missing                              implied: metadata of the layer below, else 0755 root
//	parent is a symlink of the same layer       followed inside the layer
//	parent is another non-directory             refused
//	hard link to something not in the layer
//	before it, to a directory, or in place of
//	a directory above its target                refused
//	whiteout and entry of the same name         the entry counts; a directory becomes opaque
//	whiteout of "", ".", ".."                   refused
//	other names that start with ".wh..wh."      skipped with what is below them (bookkeeping of AUFS)
//	character device 0:0                        a whiteout, as it would be for overlayfs
//	xattrs user.overlay.*, trusted.overlay.*    dropped: they would steer overlayfs
//	sparse files                                expanded
//	mode of a symlink                           0777, as Linux has it
//	ids below 0 or above 2^32-2                 refused
//	global PAX headers                          skipped
//	other entry types                           refused
const (
	maxEntries  = 8 << 20   // per layer
	maxMetadata = 512 << 20 // bytes of names, links and xattrs per layer
)

// sink receives, while a layer is scanned, what has to happen in order.
type sink interface {
	// file is called for every regular file. It reads content to its end and
	// sets node.sum, at the latest when the sink is asked to finish.
	file(where string, node *inode, content io.Reader) error
	// link is called for a hard link to a regular file that is at target now.
	link(target, where string) error
	// remove is called when what was added at where is replaced by something else.
	remove(where string) error
}

// hashSink only computes digests.
type hashSink struct {
	hash hash.Hash
	buf  []byte
}

func newHashSink() *hashSink { return &hashSink{sha256.New(), make([]byte, copyBuffer)} }

// copyBuffer is the size of the buffers file contents move through.
const copyBuffer = 128 << 10

func (s *hashSink) remove(string) error       { return nil }
func (s *hashSink) link(string, string) error { return nil }
func (s *hashSink) wait() error               { return nil }
func (s *hashSink) finish([]record) error     { return nil }
func (s *hashSink) abort()                    {}

func (s *hashSink) file(where string, node *inode, content io.Reader) error {
	s.hash.Reset()
	if _, err := io.CopyBuffer(struct{ io.Writer }{s.hash}, content, s.buf); err != nil {
		return err
	}
	node.sum = string(s.hash.Sum(nil))
	return nil
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// scan reads the tar of a layer up to its end marker into b and s. limit
// bounds the content of all files together, holes of sparse files included.
func scan(r io.Reader, b *builder, s sink, limit int64) error {
	in := &counter{r: r}
	tr := tar.NewReader(in)
	var content, metadata int64
	for n := int64(0); ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar entry %d: %w", n, err)
		}
		rec, skip, err := headerRecord(hdr)
		if err != nil {
			return fmt.Errorf("tar entry %d: %w", n, err)
		}
		if skip {
			continue
		}
		if content += rec.size; content > limit || content < 0 {
			return fmt.Errorf("tar entry %d (%q): the layer has more than %d bytes of files", n, rec.path, limit)
		}
		if metadata += rec.metadataSize(); metadata > maxMetadata || n >= maxEntries {
			return fmt.Errorf("tar entry %d (%q): the layer has more than %d entries or %d bytes of names", n, rec.path, maxEntries, maxMetadata)
		}
		rec.offset = in.n
		if rec.flags&flagSparse != 0 {
			rec.offset = n
		}
		if err := scanEntry(rec, tr, b, s); err != nil {
			return fmt.Errorf("tar entry %d (%q): %w", n, rec.path, err)
		}
	}
}

func scanEntry(rec record, content io.Reader, b *builder, s sink) error {
	a, err := b.add(rec)
	if err != nil {
		return err
	}
	if a.displaced {
		if err := s.remove(a.where); err != nil {
			return err
		}
	}
	switch {
	case rec.typ == Regular:
		return s.file(a.where, a.node, content)
	case a.target != "" && a.node.typ == Regular:
		return s.link(a.target, a.where)
	}
	return nil
}

func (r *record) metadataSize() int64 {
	n := len(r.path) + len(r.link)
	for _, x := range r.xattrs {
		n += len(x.key) + len(x.value)
	}
	return int64(n)
}

// headerRecord translates a tar header, without its offset.
func headerRecord(hdr *tar.Header) (r record, skip bool, err error) {
	if hdr.Typeflag == tar.TypeXGlobalHeader || strings.Contains("/"+path.Dir(hdr.Name), "/"+whiteoutPrefix+whiteoutPrefix) {
		return r, true, nil
	}
	r.path, err = cleanName(hdr.Name)
	if err != nil {
		return r, false, err
	}
	if skip, err = r.setType(hdr); skip || err != nil {
		return r, skip, err
	}
	if !validID(hdr.Uid) || !validID(hdr.Gid) {
		return r, false, fmt.Errorf("%q: owner %d:%d is out of range", r.path, hdr.Uid, hdr.Gid)
	}
	r.uid, r.gid = uint32(hdr.Uid), uint32(hdr.Gid)
	r.mode = uint32(hdr.Mode) & 0o7777
	if r.typ == Symlink {
		r.mode = symlinkMode
	}
	r.sec, r.nsec = hdr.ModTime.Unix(), uint32(hdr.ModTime.Nanosecond())
	r.xattrs = paxXattrs(hdr.PAXRecords)
	if r.typ == Hardlink || r.typ == Whiteout || r.typ == Opaque {
		r = record{path: r.path, typ: r.typ, link: r.link}
	}
	return r, false, nil
}

// setType finds out what a header stands for, whiteouts included.
func (r *record) setType(hdr *tar.Header) (skip bool, err error) {
	dir, name := path.Split(r.path)
	switch {
	case name == opaqueMarker:
		r.typ, r.path = Opaque, path.Clean(dir)
		return false, nil
	case strings.HasPrefix(name, whiteoutPrefix+whiteoutPrefix):
		return true, nil
	case strings.HasPrefix(name, whiteoutPrefix):
		name = name[len(whiteoutPrefix):]
		if name == "" || name == "." || name == ".." {
			return false, fmt.Errorf("whiteout %q names no file", r.path)
		}
		r.typ, r.path = Whiteout, dir+name
		return false, nil
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		r.typ, r.size = Regular, hdr.Size
		if isSparse(hdr) {
			r.flags = flagSparse
		}
	case tar.TypeDir:
		r.typ = Directory
	case tar.TypeSymlink:
		r.typ, r.link = Symlink, hdr.Linkname
		if r.link == "" || len(r.link) > maxPath || strings.IndexByte(r.link, 0) >= 0 {
			return false, fmt.Errorf("symlink %q: target %.40q is empty, too long or contains a NUL byte", r.path, r.link)
		}
	case tar.TypeLink:
		r.typ = Hardlink
		if r.link, err = cleanName(hdr.Linkname); err != nil {
			return false, fmt.Errorf("hard link %q: %w", r.path, err)
		}
	case tar.TypeFifo:
		r.typ = Fifo
	case tar.TypeChar, tar.TypeBlock:
		return false, r.setDevice(hdr)
	default:
		return false, fmt.Errorf("%q: unsupported tar entry type %q", r.path, hdr.Typeflag)
	}
	return false, nil
}

func (r *record) setDevice(hdr *tar.Header) error {
	if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor > math.MaxUint32 || hdr.Devminor > math.MaxUint32 {
		return fmt.Errorf("%q: device %d:%d is out of range", r.path, hdr.Devmajor, hdr.Devminor)
	}
	r.typ, r.major, r.minor = Block, uint32(hdr.Devmajor), uint32(hdr.Devminor)
	if hdr.Typeflag == tar.TypeChar {
		r.typ = Char
		if r.major == 0 && r.minor == 0 {
			r.typ = Whiteout
		}
	}
	return nil
}

func isSparse(hdr *tar.Header) bool {
	_, v0 := hdr.PAXRecords["GNU.sparse.map"]
	_, v1 := hdr.PAXRecords["GNU.sparse.major"]
	return v0 || v1 || hdr.Typeflag == tar.TypeGNUSparse
}

// cleanName brings a name from a tar into the form of Entry.Path.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case len(name) > maxPath:
		return "", fmt.Errorf("name of %d bytes is longer than %d", len(name), maxPath)
	case strings.IndexByte(name, 0) >= 0:
		return "", fmt.Errorf("name %q contains a NUL byte", name)
	}
	for rest, more := name, true; more; {
		var part string
		if part, rest, more = strings.Cut(rest, "/"); part == ".." {
			return "", fmt.Errorf("name %q contains %q", name, "..")
		}
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		return ".", nil
	}
	for dir := path.Dir(clean); dir != "."; dir = path.Dir(dir) {
		if strings.HasPrefix(path.Base(dir), whiteoutPrefix) {
			return "", fmt.Errorf("name %q goes through a whiteout", name)
		}
	}
	return clean, nil
}

// symlinkMode is the mode of every symlink.
const symlinkMode = 0o777

// validID accepts what chown does: -1 as an unsigned number means "no change".
func validID(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }

// paxXattr is the prefix under which PAX headers carry extended attributes.
const paxXattr = "SCHILY.xattr."

func paxXattrs(pax map[string]string) []xattr {
	var list []xattr
	for k, v := range pax {
		if key, ok := strings.CutPrefix(k, paxXattr); ok && key != "" && !overlayXattr(key) {
			list = append(list, xattr{key, v})
		}
	}
	slices.SortFunc(list, func(a, b xattr) int { return cmp.Compare(a.key, b.key) })
	return list
}

// overlayXattr reports whether a key belongs to overlayfs.
func overlayXattr(key string) bool {
	return strings.HasPrefix(key, "user.overlay.") || strings.HasPrefix(key, "trusted.overlay.")
}
