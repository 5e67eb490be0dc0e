package executor

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

// Key identifies everything that can change what a step makes. Equal keys mean equal
// results; the same function computes it for reading and for writing a record.
type Key string

// keyVersion is part of every key. It changes when the meaning of any field does.
const keyVersion = "mbuild-key-1"

// encoder hashes a sequence of fields. Every field is preceded by its length, so
// that no two different sequences encode to the same bytes.
type encoder struct{ h hash.Hash }

func newEncoder(purpose string) *encoder {
	e := &encoder{sha256.New()}
	e.str(keyVersion)
	e.str(purpose)
	return e
}

func (e *encoder) bytes(b []byte) {
	e.num(int64(len(b)))
	e.h.Write(b)
}

func (e *encoder) str(s string) { e.bytes([]byte(s)) }

func (e *encoder) num(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	e.h.Write(b[:])
}

func (e *encoder) sum() Key { return Key(hex.EncodeToString(e.h.Sum(nil))) }

// layers adds a stack of layers: how many there are and each by its content.
func (e *encoder) layers(layers []snapshot.Layer) {
	e.num(int64(len(layers)))
	for _, l := range layers {
		e.str(l.DiffID.String())
	}
}

// entry adds what of a file counts as content: all but its modification time, its
// place among hard links being given by link.
func (e *encoder) entry(name string, f snapshot.Entry, link string) {
	e.str(name)
	e.num(int64(f.Type))
	for _, n := range []int64{int64(f.Mode), int64(f.UID), int64(f.GID), f.Size, f.DevMajor, f.DevMinor} {
		e.num(n)
	}
	e.str(link)
	e.str(f.Digest.String())
	e.num(int64(len(f.Xattrs)))
	for _, k := range slices.Sorted(maps.Keys(f.Xattrs)) {
		e.str(k)
		e.str(f.Xattrs[k])
	}
}

// stepKey is the key of a step: what it does, for which platform, on top of which
// layers, with which content of its other inputs. A step that does not read what is
// below it (COPY --link) is given no parent layers.
func stepKey(s *dockerfile.Step, parent []snapshot.Layer, inputs []digest.Digest) Key {
	e := newEncoder("step")
	e.bytes(s.Op.Definition())
	if s.Platform != nil {
		e.str(platforms.FormatAll(*s.Platform))
	} else {
		e.str("")
	}
	e.layers(parent)
	e.num(int64(len(inputs)))
	for _, d := range inputs {
		e.str(d.String())
	}
	return e.sum()
}
