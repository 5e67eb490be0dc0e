package snapshot

import (
	"archive/tar"
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerFile takes the tar of a layer and makes, in the same pass, its diffID
// and the file that is kept: the tar itself or a compressed blob.
type layerFile struct {
	c        Compression
	file     *os.File // nil once installed or dropped
	buf      *bufio.Writer
	z        io.WriteCloser
	diffHash hash.Hash
	blobHash hash.Hash
	size     int64              // of the tar
	diffID   digest.Digest      // after finish
	blob     ocispec.Descriptor // after finish
}

func (s *Store) newLayerFile(c Compression) (*layerFile, error) {
	f, err := s.createTemp("layer-*")
	if err != nil {
		return nil, err
	}
	l := &layerFile{c: c.normal(), file: f, diffHash: sha256.New(), blobHash: sha256.New()}
	l.buf = bufio.NewWriterSize(io.MultiWriter(f, l.blobHash), copyBuffer)
	if c.Algorithm == "" || c.Algorithm == Uncompressed {
		l.buf.Reset(f) // the digest of the blob is the diffID
	}
	if l.z, err = compressor(l.buf, c); err != nil {
		return nil, errors.Join(err, discard(f))
	}
	return l, nil
}

// Write takes the next bytes of the tar.
func (l *layerFile) Write(p []byte) (int, error) {
	n, err := l.z.Write(p)
	l.diffHash.Write(p[:n])
	l.size += int64(n)
	return n, err
}

// finish ends the stream. Nothing is in the store yet.
func (l *layerFile) finish() error {
	if err := errors.Join(l.z.Close(), l.buf.Flush()); err != nil {
		return err
	}
	l.z = nil
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.diffID = digest.NewDigest(digest.SHA256, l.diffHash)
	l.blob = ocispec.Descriptor{MediaType: l.c.mediaType(), Digest: l.diffID, Size: info.Size()}
	if !l.plain() {
		l.blob.Digest = digest.NewDigest(digest.SHA256, l.blobHash)
	}
	return nil
}

// plain reports whether the file is the tar itself.
func (l *layerFile) plain() bool { return l.c.Algorithm == "" || l.c.Algorithm == Uncompressed }

// abort drops what was not installed.
func (l *layerFile) abort() {
	if l.z != nil {
		_ = l.z.Close() // ends the compressor's goroutines; what it writes is dropped
		l.z = nil
	}
	if l.file != nil {
		_ = discard(l.file)
		l.file = nil
	}
}

// installLayerFile puts a finished file into the store as content of diffID.
func (s *Store) installLayerFile(l *layerFile, diffID digest.Digest) error {
	if l.diffID != diffID {
		return fmt.Errorf("layer %s: %w: got diffID %s", diffID, ErrCorrupt, l.diffID)
	}
	file := l.file
	l.file = nil
	if l.plain() {
		dir, err := s.layerDir(diffID)
		if err != nil {
			return errors.Join(err, discard(file))
		}
		return install(file, filepath.Join(dir, "tar"))
	}
	name, err := s.blobPath(l.blob.Digest)
	if err != nil {
		return errors.Join(err, discard(file))
	}
	if err := install(file, name); err != nil {
		return err
	}
	return s.record(diffID, recordedBlob{l.blob.MediaType, l.blob.Digest, l.blob.Size, l.c.Level})
}

// LayerWriter writes a layer entry by entry. It is deterministic: the same
// calls give the same diffID, and the same blob, on every machine.
//
// The tar is PAX without user and group names. Modification times are cut to
// whole seconds and access and change times left out, as Docker and BuildKit
// do: fractions would cost a PAX header per file and make layers differ from
// what those tools make of the same files.
type LayerWriter struct {
	s     *Store
	out   *layerFile
	buf   *bufio.Writer
	tw    *tar.Writer
	pos   position
	b     *builder
	copy  []byte
	err   error // sticky
	ended bool
}

// position counts the bytes of the tar.
type position struct {
	w io.Writer
	n int64
}

func (p *position) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	return n, err
}

// NewLayer starts a layer. c says whether, and how, a compressed blob is made
// in the same pass; with CompressionAny only the plain tar is kept. The caller
// must end with Commit or Abort.
func (s *Store) NewLayer(c Compression) (*LayerWriter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out, err := s.newLayerFile(c)
	if err != nil {
		return nil, err
	}
	w := &LayerWriter{s: s, out: out, buf: bufio.NewWriterSize(out, copyBuffer), b: newBuilder(true)}
	w.pos.w = w.buf
	w.tw = tar.NewWriter(&w.pos)
	return w, nil
}

// Add appends an entry. content, of a regular file only, is read to exactly
// e.Size bytes; when e.Digest is set it must match. Parents need not have been
// added, but nothing may be added twice or below anything but a directory, and
// a hard link's target must have been added before as a file of its own.
// Link of a regular file is ignored. After an error the writer is unusable:
// every further call returns that error.
func (w *LayerWriter) Add(e Entry, content io.Reader) error {
	if w.ended {
		return errors.New("layer writer: Add after Commit or Abort")
	}
	if w.err == nil {
		if err := w.add(e, content); err != nil {
			w.err = fmt.Errorf("layer: %q: %w", e.Path, err)
		}
	}
	return w.err
}

func (w *LayerWriter) add(e Entry, content io.Reader) error {
	r, err := newRecord(e)
	if err != nil {
		return err
	}
	a, err := w.b.add(r)
	if err != nil {
		return err
	}
	if err := w.tw.WriteHeader(r.header()); err != nil {
		return err
	}
	if r.typ != Regular {
		return nil
	}
	a.node.offset = w.pos.n
	sum, err := w.content(content, r.size)
	if err != nil {
		return err
	}
	a.node.sum = sum
	if got := digest.NewDigestFromBytes(digest.SHA256, []byte(sum)); e.Digest != "" && got != e.Digest {
		return fmt.Errorf("%w: got digest %s, want %s", ErrCorrupt, got, e.Digest)
	}
	return nil
}

func (w *LayerWriter) content(content io.Reader, size int64) (string, error) {
	h := sha256.New()
	if size > 0 && content == nil {
		return "", fmt.Errorf("no content for %d bytes", size)
	}
	if w.copy == nil {
		w.copy = make([]byte, copyBuffer)
	}
	for left := size; left > 0; {
		n, err := content.Read(w.copy[:min(left, copyBuffer)])
		h.Write(w.copy[:n])
		left -= int64(n)
		if _, err := w.tw.Write(w.copy[:n]); err != nil {
			return "", err
		}
		if err == io.EOF && left > 0 {
			return "", fmt.Errorf("got %d bytes, want %d: %w", size-left, size, io.ErrUnexpectedEOF)
		}
		if err != nil && err != io.EOF {
			return "", err
		}
	}
	return string(h.Sum(nil)), nil
}

// Commit ends the layer. A nil error means that it is durable in the store,
// with its table of contents, under the diffID returned.
func (w *LayerWriter) Commit() (Layer, error) {
	if w.ended {
		return Layer{}, errors.New("layer writer: Commit after Commit or Abort")
	}
	defer w.Abort()
	if w.err != nil {
		return Layer{}, w.err
	}
	if err := errors.Join(w.tw.Close(), w.buf.Flush()); err != nil {
		return Layer{}, fmt.Errorf("layer: %w", err)
	}
	if err := w.out.finish(); err != nil {
		return Layer{}, fmt.Errorf("layer: %w", err)
	}
	l := Layer{DiffID: w.out.diffID, Size: w.out.size}
	table := (&TOC{DiffID: l.DiffID, Size: l.Size, records: w.b.records()}).encode()
	toc, err := decodeTOC(table)
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	if err := w.s.installLayerFile(w.out, l.DiffID); err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	if err := w.s.writeTOC(l.DiffID, table); err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	w.s.cacheTOC(toc)
	return l, nil
}

// Abort drops a layer that is not committed. It does nothing after Commit.
func (w *LayerWriter) Abort() {
	w.ended = true
	w.out.abort()
}

// newRecord checks an entry of a caller.
func newRecord(e Entry) (record, error) {
	if err := checkPath(e.Path); err != nil {
		return record{}, err
	}
	r := record{path: e.Path, typ: e.Type}
	switch e.Type {
	case Whiteout, Opaque:
		return r, nil
	case Hardlink:
		r.link = e.Link
		return r, checkPath(e.Link)
	case Symlink:
		r.link = e.Link
		if r.link == "" || len(r.link) > maxPath {
			return r, fmt.Errorf("symlink target of %d bytes", len(r.link))
		}
	case Regular:
		r.size = e.Size
	case Char, Block:
		if e.DevMajor < 0 || e.DevMinor < 0 || e.DevMajor > math.MaxUint32 || e.DevMinor > math.MaxUint32 || e.Type == Char && e.DevMajor == 0 && e.DevMinor == 0 {
			return r, fmt.Errorf("device %d:%d", e.DevMajor, e.DevMinor)
		}
		r.major, r.minor = uint32(e.DevMajor), uint32(e.DevMinor)
	case Directory, Fifo:
	default:
		return r, fmt.Errorf("unknown entry type %d", e.Type)
	}
	if !validID(e.UID) || !validID(e.GID) || e.Mode > 0o7777 || r.size < 0 {
		return r, fmt.Errorf("owner %d:%d, mode %#o or size %d is out of range", e.UID, e.GID, e.Mode, e.Size)
	}
	r.uid, r.gid, r.mode = uint32(e.UID), uint32(e.GID), e.Mode
	if e.Type == Symlink {
		r.mode = symlinkMode
	}
	if !e.ModTime.IsZero() {
		r.sec = e.ModTime.Unix()
	}
	for k, v := range e.Xattrs {
		if !overlayXattr(k) {
			r.xattrs = append(r.xattrs, xattr{k, v})
		}
	}
	slices.SortFunc(r.xattrs, func(a, b xattr) int { return cmp.Compare(a.key, b.key) })
	return r, nil
}

// header is the tar header of a record.
func (r *record) header() *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: r.path, Linkname: r.link, Size: r.size, Mode: int64(r.mode),
		Uid: int(r.uid), Gid: int(r.gid), ModTime: time.Unix(r.sec, 0),
		Devmajor: int64(r.major), Devminor: int64(r.minor),
	}
	switch r.typ {
	case Regular:
		h.Typeflag = tar.TypeReg
	case Directory:
		h.Typeflag, h.Name = tar.TypeDir, r.path+"/"
	case Symlink:
		h.Typeflag = tar.TypeSymlink
	case Hardlink:
		h.Typeflag = tar.TypeLink
	case Char:
		h.Typeflag = tar.TypeChar
	case Block:
		h.Typeflag = tar.TypeBlock
	case Fifo:
		h.Typeflag = tar.TypeFifo
	case Whiteout:
		h.Typeflag, h.Name = tar.TypeReg, path.Join(path.Dir(r.path), whiteoutPrefix+path.Base(r.path))
	case Opaque:
		h.Typeflag, h.Name = tar.TypeReg, path.Join(r.path, opaqueMarker)
	}
	for _, x := range r.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(r.xattrs))
		}
		h.PAXRecords[paxXattr+x.key] = x.value
	}
	return h
}
