package index

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ComposeOptions shape an index. The zero value gives OCI media types and an
// index only when there is more than one image.
type ComposeOptions struct {
	DockerTypes bool // Docker's media types throughout (oci-mediatypes=false)
	ForceIndex  bool // an index also for one image

	IndexAnnotations map[string]string // of the index document
	// DescriptorAnnotations are put on the descriptor that names the index in
	// index.json. Without an index there is Image.DescriptorAnnotations.
	DescriptorAnnotations map[string]string
}

// Index is the images of one build, ready to be written: one manifest for each,
// and the index over them if there is one. It does not change.
type Index struct {
	images []composed
	list   *blob // the index; nil: a bare manifest
	top    ocispec.Descriptor
}

// composed is an image and the documents made for it.
type composed struct {
	platform ocispec.Platform
	manifest blob
	config   blob
	layers   []blob
}

// blob is content with its descriptor. open gives it verified.
type blob struct {
	desc ocispec.Descriptor
	open func(context.Context) (io.ReadCloser, error)
	from string // repository it can be mounted from
}

// Compose makes the manifests of images, in the given order, and the index over
// them; with one image and no reason for an index a bare manifest. Media types
// are consistent: those of base layers are converted. The same input gives the
// same bytes, JSON being indented as BuildKit does it.
//
// It refuses two images for one platform, configs that contradict the image
// (platform, number and digests of layers), annotations where there is no place
// for them, and layers that Docker's media types cannot express.
func Compose(images []Image, o ComposeOptions) (*Index, error) {
	x := &Index{}
	if len(images) == 0 {
		return nil, errors.New("compose: no image")
	}
	if err := checkAnnotations(images, o); err != nil {
		return nil, err
	}
	for _, image := range images {
		c, err := compose(image, o.DockerTypes)
		if err != nil {
			return nil, fmt.Errorf("compose %s: %w", platforms.Format(image.Platform), err)
		}
		for _, other := range x.images {
			if samePlatform(other.platform, c.platform) {
				return nil, fmt.Errorf("compose: two images for platform %s", platforms.Format(c.platform))
			}
		}
		x.images = append(x.images, c)
	}
	if len(images) == 1 && !o.ForceIndex {
		x.top = x.images[0].manifest.desc
		return x, nil
	}
	return x, x.addList(o)
}

func checkAnnotations(images []Image, o ComposeOptions) error {
	bare := len(images) == 1 && !o.ForceIndex
	if bare && len(o.IndexAnnotations)+len(o.DescriptorAnnotations) > 0 {
		return errors.New("compose: index annotations, but the result is a single manifest without an index")
	}
	if !o.DockerTypes {
		return nil
	}
	count := len(o.IndexAnnotations)
	for _, image := range images {
		count += len(image.Annotations)
	}
	if count > 0 {
		return errors.New("compose: annotations need OCI media types (oci-mediatypes=true)")
	}
	return nil
}

// addList makes the index document.
func (x *Index) addList(o ComposeOptions) error {
	doc := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   choose(o.DockerTypes, dockerIndex, ocispec.MediaTypeImageIndex),
		Annotations: o.IndexAnnotations,
	}
	for _, c := range x.images {
		doc.Manifests = append(doc.Manifests, c.manifest.desc)
	}
	list, err := jsonBlob(doc, doc.MediaType)
	if err != nil {
		return err
	}
	list.desc.Annotations = maps.Clone(o.DescriptorAnnotations)
	x.list, x.top = &list, list.desc
	return nil
}

func compose(image Image, docker bool) (composed, error) {
	c := composed{platform: platforms.Normalize(image.Platform)}
	facts, err := parseConfig(image.Config)
	if err != nil {
		return c, err
	}
	if f := facts.platform; f.OS != c.platform.OS || f.Architecture != c.platform.Architecture || f.Variant != c.platform.Variant {
		return c, fmt.Errorf("its config says platform %s", platforms.Format(f))
	}
	if len(facts.diffIDs) != len(image.Layers) {
		return c, fmt.Errorf("%d layers, but %d diff_ids in its config", len(image.Layers), len(facts.diffIDs))
	}
	c.config = bytesBlob(image.Config, choose(docker, dockerConfig, ocispec.MediaTypeImageConfig))
	doc := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   choose(docker, dockerManifest, ocispec.MediaTypeImageManifest),
		Config:      c.config.desc,
		Layers:      []ocispec.Descriptor{},
		Annotations: image.Annotations,
	}
	for i, l := range image.Layers {
		if l.DiffID != facts.diffIDs[i] {
			return c, fmt.Errorf("layer %d has diffID %s, its config says %s", i, l.DiffID, facts.diffIDs[i])
		}
		if l.Open == nil {
			return c, fmt.Errorf("layer %d cannot be opened: a bug in mbuild", i)
		}
		desc, err := layerDescriptor(l.Descriptor, docker)
		if err != nil {
			return c, fmt.Errorf("layer %d: %w", i, err)
		}
		doc.Layers = append(doc.Layers, desc)
		c.layers = append(c.layers, layerBlob(l, desc))
	}
	if c.manifest, err = jsonBlob(doc, doc.MediaType); err != nil {
		return c, err
	}
	c.manifest.desc.Platform = &c.platform
	c.manifest.desc.Annotations = maps.Clone(image.DescriptorAnnotations)
	return c, nil
}

// layerDescriptor is d as our manifests have it.
func layerDescriptor(d ocispec.Descriptor, docker bool) (ocispec.Descriptor, error) {
	if err := checkDescriptor(d); err != nil {
		return d, err
	}
	mediaType, err := ociLayerType(d.MediaType)
	if err != nil {
		return d, err
	}
	out := ocispec.Descriptor{MediaType: mediaType, Digest: d.Digest, Size: d.Size}
	if docker {
		out.MediaType, err = dockerLayerType(mediaType)
		return out, err
	}
	for k, v := range d.Annotations {
		if !strings.HasPrefix(k, "containerd.io/distribution.source.") && k != "containerd.io/uncompressed" && k != "buildkit/createdat" {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[k] = v
		}
	}
	return out, nil
}

// layerBlob checks what l.Open gives once more: the Index answers for its blobs.
func layerBlob(l Layer, desc ocispec.Descriptor) blob {
	return blob{desc: desc, from: l.From, open: func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := l.Open(ctx)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		return verified(rc, desc), nil
	}}
}

func jsonBlob(doc any, mediaType string) (blob, error) {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return blob{}, err
	}
	return bytesBlob(data, mediaType), nil
}

func bytesBlob(data []byte, mediaType string) blob {
	return blob{
		desc: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))},
		open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

func choose[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

// Descriptor names the result: the index, or the manifest when it is bare (then
// with its platform).
func (x *Index) Descriptor() ocispec.Descriptor { return x.top }

// IsIndex reports whether the result is an index and not a bare manifest.
func (x *Index) IsIndex() bool { return x.list != nil }

// Manifests lists the images' manifests, with platforms, in order.
func (x *Index) Manifests() []ocispec.Descriptor {
	return x.collect(func(c composed) ocispec.Descriptor { return c.manifest.desc })
}

// Configs lists the images' configs, in the order of Manifests.
func (x *Index) Configs() []ocispec.Descriptor {
	return x.collect(func(c composed) ocispec.Descriptor { return c.config.desc })
}

func (x *Index) collect(of func(composed) ocispec.Descriptor) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, c := range x.images {
		list = append(list, of(c))
	}
	return list
}

// content lists every config and layer once, in order of first use.
func (x *Index) content() []blob {
	var list []blob
	seen := map[digest.Digest]bool{}
	for _, c := range x.images {
		for _, b := range append([]blob{c.config}, c.layers...) {
			if !seen[b.desc.Digest] {
				seen[b.desc.Digest] = true
				list = append(list, b)
			}
		}
	}
	return list
}

// documents lists the manifests and, after them, the index.
func (x *Index) documents() []blob {
	var list []blob
	for _, c := range x.images {
		list = append(list, c.manifest)
	}
	if x.list != nil {
		list = append(list, *x.list)
	}
	return list
}
