package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// tarReader is the uncompressed tar of a layer on its way in. Everything is
// verified while it passes; finish is the verdict. A blob that comes from
// elsewhere is kept in blobs/ on the way.
type tarReader struct {
	s     *Store
	src   source
	raw   io.Closer
	save  *os.File  // copy of the blob; nil when there is none to be made
	blob  *verified // the blob's own bytes
	ahead *readahead
	plain io.ReadCloser
	lim   limited
	hash  hash.Hash // of the tar; nil when the blob is the tar, which blob verifies
}

// openTar opens src.
func (s *Store) openTar(ctx context.Context, src source) (*tarReader, error) {
	raw, err := src.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", src.blob.Digest, err)
	}
	t := &tarReader{s: s, src: src, raw: raw}
	t.blob = newVerified(cancellable{ctx, raw}, "blob "+src.blob.Digest.String(), src.blob.Digest, src.blob.Size)
	var in io.Reader = t.blob
	if src.remote {
		if t.save, err = s.createTemp("blob-*"); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		in = io.TeeReader(in, t.save)
	}
	t.ahead = newReadahead(in, nil)
	t.plain = io.NopCloser(t.ahead)
	plain, compressed, err := decompressor(t.ahead)
	if err != nil {
		err = t.cause(err)
		return nil, errors.Join(err, t.Close())
	}
	t.plain = plain
	if compressed || src.blob.Digest.Algorithm() != digest.SHA256 {
		t.hash = sha256.New()
	}
	t.lim = limited{t.plain, s.limits.of(src.blob.Size)}
	return t, nil
}

func (t *tarReader) Read(p []byte) (int, error) {
	n, err := t.lim.Read(p)
	if t.hash != nil {
		t.hash.Write(p[:n])
	}
	return n, err
}

// cause finds the reason behind an error met while reading: when the blob
// itself is damaged, that explains everything that went wrong after it.
func (t *tarReader) cause(err error) error {
	var local *localError
	if errors.Is(err, errTooBig) || errors.As(err, &local) {
		return fmt.Errorf("blob %s: %w", t.src.blob.Digest, err)
	}
	t.plain.Close()
	_, _ = io.Copy(io.Discard, t.ahead)
	if bad := t.blob.failed(); bad != nil {
		return bad
	}
	return fmt.Errorf("blob %s: %w", t.src.blob.Digest, err)
}

// finish reads what comes after the tar's end marker, and says whether
// everything was as promised. After a nil error the blob is in the store.
func (t *tarReader) finish(diffID digest.Digest) error {
	if _, err := io.Copy(io.Discard, t); err != nil {
		return t.cause(err)
	}
	if _, err := io.Copy(io.Discard, t.ahead); err != nil {
		return err
	}
	blob := t.src.blob
	got := blob.Digest
	if t.hash != nil {
		got = digest.NewDigest(digest.SHA256, t.hash)
	}
	if got != diffID {
		return fmt.Errorf("blob %s: %w: got diffID %s, want %s", blob.Digest, ErrCorrupt, got, diffID)
	}
	if t.save == nil {
		return nil
	}
	name, err := t.s.blobPath(blob.Digest)
	if err != nil {
		return err
	}
	save := t.save
	t.save = nil
	if err := install(save, name); err != nil {
		return err
	}
	return t.s.recordForeign(diffID, recordedBlob{MediaType: blob.MediaType, Digest: blob.Digest, Size: blob.Size})
}

// Close ends reading, at any point.
func (t *tarReader) Close() error {
	err := errors.Join(t.plain.Close(), t.ahead.Close(), t.raw.Close())
	if t.save != nil {
		err = errors.Join(err, discard(t.save))
		t.save = nil
	}
	return err
}

// localError is a failure to write here, which says nothing about the blob.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// fetch reads the layer's blob once: to blobs/ when it comes from elsewhere and
// into a table of contents. The caller holds the layer.
func (s *Store) fetch(ctx context.Context, l Layer) (*TOC, error) {
	return s.ingest(ctx, l, nil, func() (unpackSink, error) { return newHashSink(), nil })
}

// fetchUnpacked is fetch that also unpacks the layer in the same pass. known
// is the layer's table if there is one already.
func (s *Store) fetchUnpacked(ctx context.Context, l Layer, known *TOC) (*TOC, error) {
	tmp, err := s.tmpDir()
	if err != nil {
		return nil, err
	}
	dir, err := s.layerDir(l.DiffID)
	if err != nil {
		return nil, err
	}
	return s.ingest(ctx, l, known, func() (unpackSink, error) {
		return newUnpacker(ctx, tmp, filepath.Join(dir, s.diff), known == nil)
	})
}

// unpackSink is a sink that has something to do at the end.
type unpackSink interface {
	sink
	wait() error                   // until node.sum of every file is set
	finish(records []record) error // with the table in normal form, after the layer was verified
	abort()                        // always called; drops what was not finished
}

func (s *Store) ingest(ctx context.Context, l Layer, known *TOC, newSink func() (unpackSink, error)) (toc *TOC, err error) {
	err = s.withSource(l.DiffID, func(src source) error {
		out, err := newSink()
		if err != nil {
			return err
		}
		defer out.abort()
		toc, err = s.ingestFrom(ctx, l, known, src, out)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.DiffID, err)
	}
	s.cacheTOC(toc)
	return toc, nil
}

func (s *Store) ingestFrom(ctx context.Context, l Layer, known *TOC, src source, out unpackSink) (*TOC, error) {
	in, err := s.openTar(ctx, src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b := newBuilder(false)
	size := &counter{r: in}
	if err := scan(size, b, out, s.limits.of(src.blob.Size)); err != nil {
		return nil, in.cause(err)
	}
	if _, err := io.Copy(io.Discard, size); err != nil {
		return nil, in.cause(err)
	}
	if err := in.finish(l.DiffID); err != nil {
		return nil, err
	}
	if err := out.wait(); err != nil {
		return nil, err
	}
	if known != nil {
		return known, out.finish(known.records)
	}
	table := (&TOC{DiffID: l.DiffID, Size: size.n, records: b.records()}).encode()
	b = nil                      // large, and not needed any more
	toc, err := decodeTOC(table) // one block of memory instead of a string per name
	if err != nil {
		return nil, err
	}
	if err := out.finish(toc.records); err != nil {
		return nil, err
	}
	return toc, s.writeTOC(l.DiffID, table)
}

// writeTOC makes the layer known on disk.
func (s *Store) writeTOC(diffID digest.Digest, table []byte) error {
	dir, err := s.layerDir(diffID)
	if err != nil {
		return err
	}
	return s.writeFile(filepath.Join(dir, "toc"), table)
}

// recordForeign records a blob unless it is known already, maybe as one made here.
func (s *Store) recordForeign(diffID digest.Digest, b recordedBlob) error {
	for _, have := range s.recorded(diffID) {
		if have.Digest == b.Digest {
			return nil
		}
	}
	return s.record(diffID, b)
}
