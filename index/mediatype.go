package index

//lint:file-ignore SA1019 non-distributable layers are deprecated, and still found

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types (Image Manifest Version 2, Schema 2).
const (
	dockerIndex         = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	dockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	dockerConfig        = "application/vnd.docker.container.image.v1+json"
	dockerLayer         = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip     = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd     = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	dockerForeign       = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	dockerForeignGzip   = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// acceptManifests is what we ask a registry for.
var acceptManifests = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerIndex, dockerManifest,
}, ", ")

func isIndexType(t string) bool    { return t == ocispec.MediaTypeImageIndex || t == dockerIndex }
func isManifestType(t string) bool { return t == ocispec.MediaTypeImageManifest || t == dockerManifest }

// ociLayerType maps every layer media type we can handle to its OCI equivalent.
// Non-distributable layers become ordinary ones: whoever builds on them makes
// an image that must be complete where it is pushed.
func ociLayerType(t string) (string, error) {
	switch t {
	case ocispec.MediaTypeImageLayer, dockerLayer, dockerForeign,
		ocispec.MediaTypeImageLayerNonDistributable:
		return ocispec.MediaTypeImageLayer, nil
	case ocispec.MediaTypeImageLayerGzip, dockerLayerGzip, dockerForeignGzip,
		ocispec.MediaTypeImageLayerNonDistributableGzip:
		return ocispec.MediaTypeImageLayerGzip, nil
	case ocispec.MediaTypeImageLayerZstd, dockerLayerZstd,
		ocispec.MediaTypeImageLayerNonDistributableZstd:
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return "", fmt.Errorf("layers of media type %q are not supported", t)
}

// dockerLayerType maps an OCI layer media type to Docker's.
func dockerLayerType(oci string) (string, error) {
	switch oci {
	case ocispec.MediaTypeImageLayer:
		return dockerLayer, nil
	case ocispec.MediaTypeImageLayerGzip:
		return dockerLayerGzip, nil
	}
	return "", fmt.Errorf("layers of media type %q need OCI media types (oci-mediatypes=true)", oci)
}

// isForeign reports that a layer need not be in the registry that names it.
func isForeign(t string) bool {
	return t == dockerForeign || t == dockerForeignGzip || strings.Contains(t, ".layer.nondistributable.")
}
