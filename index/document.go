package index

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on what is read into memory.
const (
	maxManifest = 4 << 20
	maxConfig   = 16 << 20
)

// document is a manifest or an index: exactly one of them is set.
type document struct {
	raw      []byte
	desc     ocispec.Descriptor // media type, digest and size of raw
	index    *ocispec.Index
	manifest *ocispec.Manifest
}

// parseDocument reads a manifest or an index. mediaType is what the place it
// came from calls it, empty when unknown; the document's own word counts more. A
// document that could be read as either is refused (CVE-2021-41190).
func parseDocument(raw []byte, mediaType string) (*document, error) {
	var head struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("manifest is not valid JSON: %v", err)
	}
	if head.MediaType != "" {
		mediaType = head.MediaType
	}
	d := &document{raw: raw, desc: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	switch {
	case mediaType == dockerSchema1 || mediaType == dockerSchema1Signed || head.SchemaVersion == 1 || head.FSLayers != nil:
		return nil, errors.New("manifest has the obsolete schema version 1: push the image anew with a current tool")
	case head.SchemaVersion != 2:
		return nil, fmt.Errorf("manifest has schema version %d, want 2", head.SchemaVersion)
	case head.Manifests != nil && (head.Config != nil || head.Layers != nil):
		return nil, errors.New("manifest claims to be an image and an index at once")
	case isIndexType(mediaType) != (head.Manifests != nil) && (isIndexType(mediaType) || isManifestType(mediaType)):
		return nil, fmt.Errorf("manifest says media type %s, but does not look like one", mediaType)
	case head.Manifests != nil:
		return d, d.parseIndex()
	case head.Config != nil:
		return d, d.parseManifest()
	}
	return nil, errors.New("manifest is neither an image nor an index")
}

func (d *document) parseIndex() error {
	d.index = new(ocispec.Index)
	if err := json.Unmarshal(d.raw, d.index); err != nil {
		return fmt.Errorf("index: %v", err)
	}
	for _, m := range d.index.Manifests {
		if err := checkDescriptor(m); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

func (d *document) parseManifest() error {
	d.manifest = new(ocispec.Manifest)
	if err := json.Unmarshal(d.raw, d.manifest); err != nil {
		return fmt.Errorf("manifest: %v", err)
	}
	if t := d.manifest.Config.MediaType; t != ocispec.MediaTypeImageConfig && t != dockerConfig {
		return fmt.Errorf("not a container image: its config has media type %q", t)
	}
	if err := checkDescriptor(d.manifest.Config); err != nil {
		return fmt.Errorf("manifest: config: %w", err)
	}
	for i, l := range d.manifest.Layers {
		if err := checkDescriptor(l); err != nil {
			return fmt.Errorf("manifest: layer %d: %w", i, err)
		}
		if _, err := ociLayerType(l.MediaType); err != nil {
			return fmt.Errorf("manifest: layer %d: %w", i, err)
		}
	}
	return nil
}

// configFacts is what this package has to know of a config.
type configFacts struct {
	platform ocispec.Platform // normalised
	variant  bool             // whether the config states a variant
	diffIDs  []digest.Digest
}

func parseConfig(raw []byte) (configFacts, error) {
	var c struct {
		ocispec.Platform
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return configFacts{}, fmt.Errorf("image config: %v", err)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return configFacts{}, fmt.Errorf("image config: diff_ids[%d] = %q: %w", i, d, err)
		}
	}
	return configFacts{platforms.Normalize(c.Platform), c.Variant != "", c.RootFS.DiffIDs}, nil
}
