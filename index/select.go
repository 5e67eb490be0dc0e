package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source is where an image's documents and blobs are: a repository or a layout.
// What document and config return has been verified.
type source interface {
	document(ctx context.Context, d ocispec.Descriptor) (*document, error)
	config(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
	layer(d ocispec.Descriptor, diffID digest.Digest) Layer
}

// ErrNoPlatform is in the chain of a *PlatformError.
var ErrNoPlatform = errors.New("no match for platform")

// PlatformError says that an index has no image for a platform.
type PlatformError struct {
	Ref  string
	Want ocispec.Platform
	Have []ocispec.Platform
}

func (e *PlatformError) Error() string {
	have := "it has no image at all"
	if len(e.Have) > 0 {
		names := make([]string, len(e.Have))
		for i, p := range e.Have {
			names[i] = platforms.Format(p)
		}
		have = "it has " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%v %s in %s; %s", ErrNoPlatform, platforms.Format(e.Want), e.Ref, have)
}

func (e *PlatformError) Unwrap() error { return ErrNoPlatform }

// Bounds on indexes within indexes.
const (
	maxDepth     = 4
	maxDocuments = 256
)

// pick returns the image for platform p below top: of an index the best match
// (the platform itself, then what it can run, as containerd and BuildKit have
// it), of a manifest the image itself, whatever its platform.
func pick(ctx context.Context, s source, top *document, p ocispec.Platform, ref string) (*Image, digest.Digest, error) {
	if top.manifest != nil {
		image, err := imageOf(ctx, s, top, nil)
		return image, top.desc.Digest, err
	}
	w := walk{source: s, left: maxDocuments}
	if err := w.index(ctx, top, 1); err != nil {
		return nil, "", err
	}
	matcher := platforms.Only(p)
	best := -1
	for i, c := range w.found {
		if matcher.Match(*c.Platform) && (best < 0 || matcher.Less(*c.Platform, *w.found[best].Platform)) {
			best = i
		}
	}
	if best < 0 {
		e := &PlatformError{Ref: ref, Want: p}
		for _, c := range w.found {
			e.Have = append(e.Have, *c.Platform)
		}
		return nil, "", e
	}
	chosen := w.found[best]
	doc, err := s.document(ctx, chosen)
	if err != nil {
		return nil, "", err
	}
	if doc.manifest == nil {
		return nil, "", fmt.Errorf("%s is listed as a manifest and is an index", chosen.Digest)
	}
	image, err := imageOf(ctx, s, doc, chosen.Platform)
	return image, chosen.Digest, err
}

// walk collects the images of an index and of those in it, in order.
type walk struct {
	source
	left  int                  // documents that may still be read
	found []ocispec.Descriptor // of manifests; Platform is set and normalised
}

func (w *walk) index(ctx context.Context, d *document, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("indexes are nested more than %d deep", maxDepth)
	}
	for _, m := range d.index.Manifests {
		if err := w.entry(ctx, m, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(ctx context.Context, m ocispec.Descriptor, depth int) error {
	switch {
	case m.Annotations["vnd.docker.reference.type"] != "" || m.ArtifactType != "":
		return nil // attestations and other artifacts
	case isManifestType(m.MediaType) && m.Platform != nil:
		if m.Platform.OS != "unknown" {
			p := platforms.Normalize(*m.Platform)
			m.Platform = &p
			w.found = append(w.found, m)
		}
		return nil
	case !isManifestType(m.MediaType) && !isIndexType(m.MediaType):
		return nil
	}
	if w.left--; w.left < 0 {
		return fmt.Errorf("index refers to more than %d documents", maxDocuments)
	}
	doc, err := w.document(ctx, m)
	if err != nil {
		return err
	}
	if doc.index != nil {
		return w.index(ctx, doc, depth+1)
	}
	raw, err := w.config(ctx, doc.manifest.Config)
	if err != nil {
		return err
	}
	facts, err := parseConfig(raw)
	if err != nil {
		return err
	}
	m.Platform = &facts.platform
	w.found = append(w.found, m)
	return nil
}

// imageOf reads the config of a manifest and joins the two. listed is the
// platform under which an index has it, or nil.
func imageOf(ctx context.Context, s source, d *document, listed *ocispec.Platform) (*Image, error) {
	raw, err := s.config(ctx, d.manifest.Config)
	if err != nil {
		return nil, err
	}
	facts, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	layers := d.manifest.Layers
	if len(layers) != len(facts.diffIDs) {
		return nil, fmt.Errorf("image %s: %w: %d layers, but %d diff_ids in its config", d.desc.Digest, ErrCorrupt, len(layers), len(facts.diffIDs))
	}
	image := &Image{Platform: facts.platform, Config: raw, Annotations: d.manifest.Annotations}
	// Many configs leave the variant out; the index knows better, as long as it
	// speaks of the same architecture.
	if listed != nil && listed.OS == facts.platform.OS && listed.Architecture == facts.platform.Architecture && !facts.variant {
		image.Platform.Variant = listed.Variant
	}
	for i, l := range layers {
		image.Layers = append(image.Layers, s.layer(l, facts.diffIDs[i]))
	}
	return image, nil
}

// readLimited reads all of rc, at most limit bytes of it, and closes it.
func readLimited(rc io.ReadCloser, limit int64) ([]byte, error) {
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than the limit of %d bytes", limit)
	}
	return data, err
}

// checkSize refuses what is too large to be read into memory.
func checkSize(d ocispec.Descriptor, what string, limit int64) error {
	if d.Size > limit {
		return fmt.Errorf("%s %s has %d bytes, more than the limit of %d", what, d.Digest, d.Size, limit)
	}
	return nil
}

// samePlatform compares normalised platforms.
func samePlatform(a, b ocispec.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant &&
		a.OSVersion == b.OSVersion && slices.Equal(a.OSFeatures, b.OSFeatures)
}
