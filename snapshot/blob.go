package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// recordedBlob is an element of blobs.json: a blob of the layer that is, or
// once was, in blobs/.
type recordedBlob struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	Level     int           `json:"level,omitempty"` // 0: made elsewhere
}

func (b recordedBlob) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// source is a place a layer's tar can be read from.
type source struct {
	blob   ocispec.Descriptor
	open   Opener
	file   string // where it is on disk, "" when it comes from elsewhere
	remote bool
}

// recorded lists the blobs known of a layer. A missing or damaged list is
// empty: blobs can be made again.
func (s *Store) recorded(diffID digest.Digest) []recordedBlob {
	dir, err := s.layerDir(diffID)
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "blobs.json"))
	if err != nil {
		return nil
	}
	var list []recordedBlob
	if json.Unmarshal(data, &list) != nil {
		return nil
	}
	return list
}

// record adds a blob to a layer's list. Two processes that do so at the same
// time may lose one of the two, which costs making it again.
func (s *Store) record(diffID digest.Digest, b recordedBlob) error {
	list := s.recorded(diffID)
	for _, have := range list {
		if have == b {
			return nil
		}
	}
	data, err := json.Marshal(append(list, b))
	if err != nil {
		return err
	}
	dir, err := s.layerDir(diffID)
	if err != nil {
		return err
	}
	return s.writeFile(filepath.Join(dir, "blobs.json"), append(data, '\n'))
}

// onDisk reports whether a blob is in blobs/ and whole: a crash of the machine
// can leave a file that is too short.
func (s *Store) onDisk(blob ocispec.Descriptor) (file string, ok bool) {
	file, err := s.blobPath(blob.Digest)
	if err != nil {
		return "", false
	}
	info, err := os.Stat(file)
	return file, err == nil && info.Mode().IsRegular() && info.Size() == blob.Size
}

// local finds the layer's content on disk: the plain tar rather than a blob.
func (s *Store) local(diffID digest.Digest) (source, bool) {
	dir, err := s.layerDir(diffID)
	if err != nil {
		return source{}, false
	}
	file := filepath.Join(dir, "tar")
	if info, err := os.Stat(file); err == nil {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: info.Size()}
		return source{blob: d, file: file, open: fileOpener(file)}, true
	}
	candidates := s.recorded(diffID)
	if r, ok := s.registration(diffID); ok {
		candidates = append(candidates, recordedBlob{MediaType: r.blob.MediaType, Digest: r.blob.Digest, Size: r.blob.Size})
	}
	for _, b := range candidates {
		if file, ok := s.onDisk(b.descriptor()); ok {
			return source{blob: b.descriptor(), file: file, open: fileOpener(file)}, true
		}
	}
	return source{}, false
}

// source finds the layer's content, on disk if possible.
func (s *Store) source(diffID digest.Digest) (source, error) {
	if src, ok := s.local(diffID); ok {
		return src, nil
	}
	r, ok := s.registration(diffID)
	if !ok {
		return source{}, fmt.Errorf("layer %s: %w", diffID, ErrNotFound)
	}
	if err := r.blob.Digest.Validate(); err != nil {
		return source{}, fmt.Errorf("layer %s: blob digest %q: %w", diffID, r.blob.Digest, err)
	}
	return source{blob: r.blob, open: r.open, remote: true}, nil
}

func fileOpener(name string) Opener {
	return func(context.Context) (io.ReadCloser, error) { return os.Open(name) }
}

// OpenBlob streams a blob that Blob told of, from disk or else from where it
// was registered. The reader ends with io.EOF only when size and digest are
// right, otherwise with an error that wraps ErrCorrupt; the caller closes it.
func (s *Store) OpenBlob(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	file, ok := s.onDisk(blob)
	if !ok {
		if dir, err := s.layerDir(blob.Digest); err == nil { // an uncompressed blob is the tar itself
			file = filepath.Join(dir, "tar")
			info, err := os.Stat(file)
			ok = err == nil && info.Size() == blob.Size
		}
	}
	open := fileOpener(file)
	if !ok {
		s.mu.Lock()
		r, registered := s.openers[blob.Digest]
		s.mu.Unlock()
		if !registered {
			return nil, fmt.Errorf("blob %s: %w", blob.Digest, ErrNotFound)
		}
		open = r.open
	}
	if err := blob.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("blob digest %q: %w", blob.Digest, err)
	}
	raw, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", blob.Digest, err)
	}
	return readCloser{newVerified(cancellable{ctx, raw}, "blob "+blob.Digest.String(), blob.Digest, blob.Size), raw}, nil
}

// Blob returns the layer as a blob. What is registered or recorded is returned
// as it is, media type included, when c is CompressionAny or names the same
// algorithm (the level counts for blobs made here only); otherwise the blob is
// made now and recorded. With CompressionAny and nothing known, it is gzip.
func (s *Store) Blob(ctx context.Context, l Layer, c Compression) (ocispec.Descriptor, error) {
	if err := c.Validate(); err != nil {
		return ocispec.Descriptor{}, err
	}
	if d, ok := s.knownBlob(l.DiffID, c); ok {
		return d, nil
	}
	unlock, err := s.lockLayer(ctx, l.DiffID)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer unlock()
	if d, ok := s.knownBlob(l.DiffID, c); ok {
		return d, nil
	}
	if c.Algorithm == "" {
		c.Algorithm = Gzip
	}
	return s.makeBlob(ctx, l, c)
}

// knownBlob finds a blob that need not be made.
func (s *Store) knownBlob(diffID digest.Digest, c Compression) (ocispec.Descriptor, bool) {
	fits := func(mediaType string, level int) bool {
		return c.Algorithm == "" || algorithmOf(mediaType) == c.Algorithm && (level == 0 || level == c.normal().Level)
	}
	if r, ok := s.registration(diffID); ok && fits(r.blob.MediaType, 0) {
		return r.blob, true
	}
	for _, b := range s.recorded(diffID) {
		if !fits(b.MediaType, b.Level) {
			continue
		}
		if _, ok := s.onDisk(b.descriptor()); ok {
			return b.descriptor(), true
		}
	}
	return ocispec.Descriptor{}, false
}

// makeBlob compresses the layer. The caller holds it.
func (s *Store) makeBlob(ctx context.Context, l Layer, c Compression) (ocispec.Descriptor, error) {
	if c.Algorithm == Uncompressed {
		file, err := s.tarLocked(ctx, l)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		info, err := os.Stat(file)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return ocispec.Descriptor{MediaType: c.mediaType(), Digest: l.DiffID, Size: info.Size()}, nil
	}
	if _, err := s.tocLocked(ctx, l); err != nil { // brings the blob to disk
		return ocispec.Descriptor{}, err
	}
	out, err := s.rewrite(ctx, l, c)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := s.installLayerFile(out, l.DiffID); err != nil {
		return ocispec.Descriptor{}, err
	}
	return out.blob, nil
}

// rewrite makes another form of the layer's tar, verified against the diffID
// and finished but not installed.
func (s *Store) rewrite(ctx context.Context, l Layer, c Compression) (out *layerFile, err error) {
	err = s.withSource(l.DiffID, func(src source) error {
		in, err := s.openTar(ctx, src)
		if err != nil {
			return err
		}
		defer in.Close()
		if out, err = s.newLayerFile(c); err != nil {
			return err
		}
		if _, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, readaheadBlock)); err != nil {
			err = in.cause(err)
		} else if err = in.finish(l.DiffID); err == nil {
			err = out.finish()
		}
		if err != nil {
			out.abort()
			return fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		return nil
	})
	return out, err
}

// tarLocked returns the file with the layer's tar, made now if need be. The
// caller holds the layer.
func (s *Store) tarLocked(ctx context.Context, l Layer) (string, error) {
	dir, err := s.layerDir(l.DiffID)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "tar")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if _, err := s.tocLocked(ctx, l); err != nil {
		return "", err
	}
	out, err := s.rewrite(ctx, l, Compression{Algorithm: Uncompressed})
	if err != nil {
		return "", err
	}
	return name, s.installLayerFile(out, l.DiffID)
}

// withSource runs f on the layer's content. When what is on disk turns out to
// be damaged it is dropped, and f runs again, from scratch, on the next best
// source.
func (s *Store) withSource(diffID digest.Digest, f func(source) error) error {
	for {
		src, err := s.source(diffID)
		if err != nil {
			return err
		}
		err = f(src)
		if err == nil || src.remote || !errors.Is(err, ErrCorrupt) {
			return err
		}
		if rmErr := os.Remove(src.file); rmErr != nil {
			return errors.Join(err, rmErr)
		}
		if _, again := s.source(diffID); again != nil {
			return err
		}
	}
}
