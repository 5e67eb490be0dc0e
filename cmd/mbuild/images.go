package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/dockerfile"
	"mbuild/executor"
	"mbuild/index"
)

// The schemes of images that are named with --build-context.
const (
	imageScheme  = "docker-image://"
	layoutScheme = "oci-layout://"
)

// images finds base images for the planner and for the executor: in registries and in
// OCI layouts. An image is looked up once per build.
type images struct {
	registry *index.Registry

	mu      sync.Mutex
	pulled  map[string]*index.Pulled // by canonical reference and platform
	origins map[digest.Digest]string // where a blob can be mounted from
}

func newImages(r *index.Registry) *images {
	return &images{registry: r, pulled: map[string]*index.Pulled{}, origins: map[digest.Digest]string{}}
}

// Image implements dockerfile.Images.
func (i *images) Image(ctx context.Context, ref string, p ocispec.Platform) (dockerfile.BaseImage, error) {
	got, err := i.pull(ctx, ref, p)
	if err != nil {
		return dockerfile.BaseImage{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulled[imageKey(got.Ref, p)] = got
	for _, l := range got.Layers {
		if l.From != "" {
			i.origins[l.Digest] = l.From
		}
	}
	return dockerfile.BaseImage{Ref: got.Ref, Config: got.Config}, nil
}

func (i *images) pull(ctx context.Context, ref string, p ocispec.Platform) (*index.Pulled, error) {
	if dir, ok := strings.CutPrefix(ref, layoutScheme); ok {
		dir, name := splitLayout(dir)
		return index.PullLayout(dir, name, p)
	}
	return i.registry.Pull(ctx, strings.TrimPrefix(ref, imageScheme), p)
}

// splitLayout takes DIR[:TAG][@DIGEST] apart.
func splitLayout(s string) (dir, tagOrDigest string) {
	if dir, d, ok := strings.Cut(s, "@"); ok {
		if at := strings.LastIndexByte(dir, ':'); at > strings.LastIndexByte(dir, '/') {
			dir = dir[:at]
		}
		return dir, d
	}
	if at := strings.LastIndexByte(s, ':'); at > strings.LastIndexByte(s, '/') {
		return s[:at], s[at+1:]
	}
	return s, ""
}

// Layers implements executor.Images.
func (i *images) Layers(_ context.Context, op *dockerfile.Image) ([]executor.BaseLayer, error) {
	i.mu.Lock()
	got, ok := i.pulled[imageKey(op.Ref, op.Platform)]
	i.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("bug: image %s was never looked up", op.Ref)
	}
	layers := make([]executor.BaseLayer, len(got.Layers))
	for n, l := range got.Layers {
		layers[n] = executor.BaseLayer{
			DiffID: l.DiffID,
			Blob:   l.Descriptor,
			Open:   func(ctx context.Context) (io.ReadCloser, error) { return l.Open(ctx) },
		}
	}
	return layers, nil
}

// origin is the repository that a blob was pulled from, "" when it was made here.
func (i *images) origin(blob digest.Digest) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.origins[blob]
}

func imageKey(ref string, p ocispec.Platform) string { return ref + " " + platformName(p) }
