package bases

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Tag is the name every base has in its layout.
const Tag = "latest"

const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// platformImage is one platform's filesystem on its way into a layout.
type platformImage struct {
	arch    string // as Go spells it
	variant string
	rootfs  func() (io.ReadCloser, error) // an uncompressed tar
	cmd     []string
}

// writeLayout puts an index of one-layer images into dir. The same images give
// the same bytes.
func writeLayout(dir string, images []platformImage) error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, im := range images {
		img, err := im.image()
		if err != nil {
			return fmt.Errorf("image for %s: %w", im.arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: plain{img}, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1,
			Platform:  &v1.Platform{OS: "linux", Architecture: im.arch, Variant: im.variant},
		}})
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return p.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": Tag}))
}

// plain keeps go-containerregistry from writing an artifactType into the index,
// which no published image has.
type plain struct{ v1.Image }

// ArtifactType is asked for by go-containerregistry's partial package.
func (plain) ArtifactType() (string, error) { return "", nil }

func (im platformImage) image() (v1.Image, error) {
	epoch := v1.Time{Time: time.Unix(0, 0).UTC()}
	layer, err := tarball.LayerFromOpener(im.rootfs, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: epoch, CreatedBy: "test base"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.Created = "linux", im.arch, im.variant, epoch
	config.Config = v1.Config{Env: []string{pathEnv}, Cmd: im.cmd}
	return mutate.ConfigFile(img, config)
}

// tarEntry is a file of a base that we make ourselves.
type tarEntry struct {
	name string
	mode int64
	body []byte
	link string // symlink when not empty
	dir  bool
}

// tarOf writes entries as a deterministic tar.
func tarOf(entries []tarEntry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), Typeflag: tar.TypeReg,
			ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		switch {
		case e.dir:
			h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
