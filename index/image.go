package index

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one platform's image: its config, verbatim, and its layers from the
// bottom up. Layers and the config's rootfs.diff_ids agree in number and order.
type Image struct {
	Platform    ocispec.Platform  // normalised
	Config      []byte            // the raw config JSON
	Layers      []Layer           // bottom first
	Annotations map[string]string // of the manifest

	// DescriptorAnnotations are put on the descriptor that names the manifest,
	// in the index or, without one, in index.json. Pull leaves them empty.
	DescriptorAnnotations map[string]string
}

// Layer is a layer's blob and where to get it.
type Layer struct {
	ocispec.Descriptor
	DiffID digest.Digest // digest of the uncompressed tar

	// Open streams the blob from its start. Reading gives an error in place of
	// io.EOF when the bytes are not those of Digest and Size. The caller closes
	// the reader, and ctx ends it.
	Open func(ctx context.Context) (io.ReadCloser, error)

	// From is the repository ("host/repository") where the blob was found and
	// from which a push to the same host may mount it. Empty: none.
	From string
}

// Pulled is an image that was read from a registry or a layout.
type Pulled struct {
	Image

	// Ref names exactly this image: the normalised name, the tag when there is
	// one, and the digest of the platform's manifest (never of an index).
	Ref string
}
