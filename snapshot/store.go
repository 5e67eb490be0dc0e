package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"weak"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer names an immutable filesystem change.
type Layer struct {
	DiffID digest.Digest // of the uncompressed tar; SHA-256
	Size   int64         // bytes of the uncompressed tar; 0 when not known yet
}

// Opener opens a blob for one reading from its start. The caller closes it.
type Opener func(ctx context.Context) (io.ReadCloser, error)

// Errors callers branch on.
var (
	// ErrFormat is wrapped by Open when a newer mbuild made the store.
	ErrFormat = errors.New("unknown store format")
	// ErrNotFound is wrapped when a layer or blob is neither on disk nor registered.
	ErrNotFound = errors.New("not in the store and not registered")
)

// Store keeps layers and makes trees of them, below one directory. All methods
// may be called concurrently, and by several processes on the same directory.
type Store struct {
	dir    string
	diff   string // name of unpacked layers, for the id map this process runs under
	limits limits

	mu         sync.Mutex
	registered map[digest.Digest]registration      // by diffID
	openers    map[digest.Digest]registration      // by blob digest
	tocs       map[digest.Digest]weak.Pointer[TOC] // tables somebody still uses
	views      []*View                             // recent ones, see recentViews
	busy       map[digest.Digest]chan struct{}     // held while a layer is brought in
	tmp        *owned                              // nil until something is written
}

// registration is where the blob of a layer made elsewhere can be had.
type registration struct {
	layer Layer
	blob  ocispec.Descriptor
	open  Opener
}

// limits keep decompression bombs from filling the disk: a layer may have
// floor bytes, or ratio times the size of its blob when that is more, but
// never more than most.
type limits struct{ floor, ratio, most int64 }

var defaultLimits = limits{floor: 16 << 30, ratio: 200, most: 1 << 40}

func (l limits) of(blobSize int64) int64 {
	if blobSize > l.most/l.ratio {
		return l.most
	}
	return min(l.most, max(l.floor, blobSize*l.ratio))
}

// formatVersion is the version of the layout doc.go describes.
const formatVersion = 1

// Open opens the store in dir and makes it if there is none. What dead
// processes left behind is removed, as far as this process may. A directory
// that a newer mbuild made is refused with ErrFormat.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Unpacked layers contain set-user-ID programs: nobody else may get at them.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, sub := range []string{"blobs", "layers", "trees", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	s := &Store{
		dir: dir, limits: defaultLimits,
		registered: make(map[digest.Digest]registration),
		openers:    make(map[digest.Digest]registration),
		tocs:       make(map[digest.Digest]weak.Pointer[TOC]),
		busy:       make(map[digest.Digest]chan struct{}),
	}
	if s.diff, err = diffName(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.checkFormat(); err != nil {
		return nil, err
	}
	if err := s.Sweep(); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return s, nil
}

// checkFormat compares the version file with what this code knows, and writes
// it into a new store.
func (s *Store) checkFormat() error {
	file := filepath.Join(s.dir, "format")
	for range 2 {
		text, err := os.ReadFile(file)
		if err == nil {
			var version int
			if _, err := fmt.Sscanf(string(text), "mbuild store %d\n", &version); err != nil || version < 1 {
				return fmt.Errorf("%s: %w: got %.40q, want %q", file, ErrFormat, text, formatText())
			}
			if version > formatVersion {
				return fmt.Errorf("%s: %w: got version %d, this mbuild knows up to %d; use the newer mbuild or another directory", file, ErrFormat, version, formatVersion)
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open store: %w", err)
		}
		if err := s.writeFile(file, []byte(formatText())); err != nil {
			return fmt.Errorf("open store: %w", err)
		}
	}
	return fmt.Errorf("%s: vanished", file)
}

func formatText() string { return fmt.Sprintf("mbuild store %d\n", formatVersion) }

// diffName is the name of unpacked layers. Owners on disk are ids of the outer
// namespace, so a layer unpacked under one id map is wrong under another.
func diffName() (string, error) {
	h := sha256.New()
	for _, name := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, field := range bytes.Fields(text) {
			h.Write(append(field, ' '))
		}
		h.Write([]byte{'\n'})
	}
	return "diff-" + hex.EncodeToString(h.Sum(nil)[:4]), nil
}

// Close gives back what the store holds outside of layers. Layers stay; open
// trees and writers must be closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp == nil {
		return nil
	}
	err := s.tmp.remove()
	s.tmp = nil
	return err
}

// Register tells the store where the blob of a layer made elsewhere can be
// had. Nothing is read until somebody needs it; then size, digest and diffID
// are verified. Registering a layer again replaces where it comes from.
func (s *Store) Register(l Layer, blob ocispec.Descriptor, open Opener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := registration{l, blob, open}
	s.registered[l.DiffID] = r
	s.openers[blob.Digest] = r
}

func (s *Store) registration(diffID digest.Digest) (registration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.registered[diffID]
	return r, ok
}

// Has reports whether the store can produce the layer's content: it is on
// disk, whole, or registered.
func (s *Store) Has(l Layer) bool {
	dir, err := s.layerDir(l.DiffID)
	if err != nil {
		return false
	}
	if _, ok := s.registration(l.DiffID); ok {
		return true
	}
	if _, err := os.Stat(filepath.Join(dir, "toc")); err != nil {
		return false
	}
	_, ok := s.local(l.DiffID)
	return ok
}

// layerDir refuses anything but SHA-256, and with it anything that could be a
// path.
func (s *Store) layerDir(diffID digest.Digest) (string, error) {
	if err := diffID.Validate(); err != nil {
		return "", fmt.Errorf("diffID %q: %w", diffID, err)
	}
	if diffID.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("diffID %s: only sha256 is supported", diffID)
	}
	return filepath.Join(s.dir, "layers", diffID.Encoded()), nil
}

func (s *Store) blobPath(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("blob digest %q: %w", d, err)
	}
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded()), nil
}

// lockLayer waits until nobody else in this process brings that layer in.
func (s *Store) lockLayer(ctx context.Context, diffID digest.Digest) (unlock func(), err error) {
	s.mu.Lock()
	busy := s.busy[diffID]
	if busy == nil {
		busy = make(chan struct{}, 1)
		s.busy[diffID] = busy
	}
	s.mu.Unlock()
	select {
	case busy <- struct{}{}:
		return func() { <-busy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TOC is the layer's table of contents. Unless it is on disk already, the blob
// is fetched and verified: size, digest, diffID. A layer is fetched once at a
// time in a process; others wait for it.
func (s *Store) TOC(ctx context.Context, l Layer) (*TOC, error) {
	if t := s.cachedTOC(l.DiffID); t != nil {
		return t, nil
	}
	unlock, err := s.lockLayer(ctx, l.DiffID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.tocLocked(ctx, l)
}

// tocLocked is TOC for a caller that holds the layer.
func (s *Store) tocLocked(ctx context.Context, l Layer) (*TOC, error) {
	if t := s.cachedTOC(l.DiffID); t != nil {
		return t, nil
	}
	t, err := s.readTOC(l.DiffID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return s.fetch(ctx, l)
	}
	s.cacheTOC(t)
	return t, nil
}

func (s *Store) cachedTOC(diffID digest.Digest) *TOC {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tocs[diffID].Value()
}

func (s *Store) cacheTOC(t *TOC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tocs[t.DiffID] = weak.Make(t)
}

// readTOC reads a table from disk. A missing or damaged one gives nil: it can
// be made again from the blob.
func (s *Store) readTOC(diffID digest.Digest) (*TOC, error) {
	dir, err := s.layerDir(diffID)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "toc"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := decodeTOC(data)
	if err != nil || t.DiffID != diffID {
		return nil, nil
	}
	return t, nil
}
