package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"unsafe"

	"github.com/opencontainers/go-digest"
)

// TOC is the table of contents of one layer: every entry of its tar in normal
// form. Paths are unique (but for a directory and its Opaque marker), parents
// of an entry are never anything but directories, a Hardlink names a
// non-directory of the same layer that is not itself a Hardlink. Directories
// the tar implies but does not contain are not listed. A TOC is immutable.
type TOC struct {
	DiffID digest.Digest // of the uncompressed tar
	Size   int64         // bytes of the uncompressed tar

	records []record // by recordLess
}

// Len is the number of entries.
func (t *TOC) Len() int { return len(t.records) }

// Entries yields the entries in the order of a walk: a directory before what
// is in it, siblings by the bytes of their names.
func (t *TOC) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range t.records {
			if !yield(t.records[i].entry()) {
				return
			}
		}
	}
}

// opaqueRoot reports whether the layer hides everything below it.
func (t *TOC) opaqueRoot() bool {
	for i := range min(2, len(t.records)) {
		if r := &t.records[i]; r.path == "." && r.typ == Opaque {
			return true
		}
	}
	return false
}

// The encoding, all numbers varints:
//
//	magic, diffID (32 bytes), size, number of records, records, SHA-256 of all that
//	record: type byte, flags byte, path, mode, uid, gid, seconds (signed), nanoseconds,
//	        [regular: size, offset, digest (32 bytes)] [links: target] [devices: major, minor],
//	        number of xattrs, (key, value)…
//
// Strings carry their length in front. The version is part of the magic.
const tocMagic = "mbuild TOC 1\n"

// errBadTOC is what decoding any malformed table returns, with details around it.
var errBadTOC = errors.New("malformed table of contents")

func (t *TOC) encode() []byte {
	raw, _ := hex.DecodeString(t.DiffID.Encoded())
	b := make([]byte, 0, 256+len(t.records)*96)
	b = append(b, tocMagic...)
	b = append(b, raw...)
	b = binary.AppendUvarint(b, uint64(t.Size))
	b = binary.AppendUvarint(b, uint64(len(t.records)))
	for i := range t.records {
		b = t.records[i].encode(b)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (r *record) encode(b []byte) []byte {
	b = append(b, byte(r.typ), r.flags)
	b = appendString(b, r.path)
	for _, n := range []uint32{r.mode, r.uid, r.gid} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendVarint(b, r.sec)
	b = binary.AppendUvarint(b, uint64(r.nsec))
	switch r.typ {
	case Regular:
		b = binary.AppendUvarint(b, uint64(r.size))
		b = binary.AppendUvarint(b, uint64(r.offset))
		b = append(b, r.sum...)
	case Symlink, Hardlink:
		b = appendString(b, r.link)
	case Char, Block:
		b = binary.AppendUvarint(b, uint64(r.major))
		b = binary.AppendUvarint(b, uint64(r.minor))
	}
	b = binary.AppendUvarint(b, uint64(len(r.xattrs)))
	for _, x := range r.xattrs {
		b = appendString(b, x.key)
		b = appendString(b, x.value)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeTOC reads what encode wrote. It refuses, with errBadTOC, anything
// encode would not have written for a TOC that keeps its promises about order
// and paths, so that a torn or tampered file is never mistaken for a layer.
// The TOC keeps data, which must not change any more.
func decodeTOC(data []byte) (*TOC, error) {
	body := len(data) - sha256.Size
	if body < len(tocMagic) || string(data[:len(tocMagic)]) != tocMagic {
		return nil, fmt.Errorf("%w: unknown format", errBadTOC)
	}
	if sum := sha256.Sum256(data[:body]); string(sum[:]) != string(data[body:]) {
		return nil, fmt.Errorf("%w: checksum does not match", errBadTOC)
	}
	return decodeRecords(unsafe.String(unsafe.SliceData(data[len(tocMagic):]), body-len(tocMagic)))
}

// minRecord is the size of the shortest record, to bound what a count can claim.
const minRecord = 8

func decodeRecords(body string) (*TOC, error) {
	d := decoder{rest: body}
	t := &TOC{DiffID: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString([]byte(d.bytes(sha256.Size))))}
	t.Size = d.int63()
	n := d.uvarint()
	if d.bad || n > uint64(len(d.rest)/minRecord) {
		return nil, fmt.Errorf("%w: short header", errBadTOC)
	}
	t.records = make([]record, n)
	for i := range t.records {
		r := &t.records[i]
		d.record(r)
		if d.bad {
			return nil, fmt.Errorf("%w: record %d of %d", errBadTOC, i, n)
		}
		if err := checkPath(r.path); err != nil {
			return nil, fmt.Errorf("%w: record %d: %v", errBadTOC, i, err)
		}
		if i > 0 && !recordLess(&t.records[i-1], r) {
			return nil, fmt.Errorf("%w: %q after %q", errBadTOC, r.path, t.records[i-1].path)
		}
	}
	if d.rest != "" {
		return nil, fmt.Errorf("%w: %d bytes after the last record", errBadTOC, len(d.rest))
	}
	return t, nil
}

// decoder takes values off the front of a string. Strings it returns share
// that string's memory: a table of 150,000 files is a handful of allocations.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) record(r *record) {
	head := d.bytes(2)
	if d.bad || Type(head[0]) > Opaque || head[1]&^knownFlags != 0 {
		d.bad = true
		return
	}
	r.typ, r.flags = Type(head[0]), head[1]
	r.path = d.string()
	r.mode, r.uid, r.gid = d.uint32(), d.uint32(), d.uint32()
	r.sec = d.varint()
	r.nsec = d.uint32()
	switch r.typ {
	case Regular:
		r.size, r.offset = d.int63(), d.int63()
		r.sum = d.bytes(sha256.Size)
	case Symlink, Hardlink:
		r.link = d.string()
	case Char, Block:
		r.major, r.minor = d.uint32(), d.uint32()
	}
	n := d.uvarint()
	if n > uint64(len(d.rest)/2) || r.mode > 0o7777 || r.nsec > 999_999_999 {
		d.bad = true
		return
	}
	if n > 0 {
		r.xattrs = make([]xattr, n)
	}
	for i := range r.xattrs {
		r.xattrs[i] = xattr{d.string(), d.string()}
		d.bad = d.bad || i > 0 && r.xattrs[i-1].key >= r.xattrs[i].key
	}
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for i, shift := 0, uint(0); i < len(d.rest) && i < binary.MaxVarintLen64; i, shift = i+1, shift+7 {
		c := d.rest[i]
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if i > 0 && c == 0 || i == binary.MaxVarintLen64-1 && c > 1 {
				break // not the shortest form, or more than 64 bits
			}
			d.rest = d.rest[i+1:]
			return v
		}
	}
	d.bad = true
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) int63() int64 {
	v := d.uvarint()
	d.bad = d.bad || v > math.MaxInt64
	return int64(v)
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	d.bad = d.bad || v > math.MaxUint32
	return uint32(v)
}

func (d *decoder) bytes(n int) string {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) string() string {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return ""
	}
	return d.bytes(int(n))
}
