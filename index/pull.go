package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/index/transport"
)

// Pull finds the image ref for platform p: of an index the best match by
// containerd's rules, of a bare manifest the image itself, whose Platform may
// then be another one (the caller warns). Only manifests and the config are
// fetched; layers are streamed when they are opened. What ref stands for is
// asked once in the life of r.
//
// Errors: *PlatformError, ErrCorrupt, and the sentinels of package transport.
func (r *Registry) Pull(ctx context.Context, ref string, p ocispec.Platform) (*Pulled, error) {
	n, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	pulled, err := r.pull(ctx, n, p)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", n, err)
	}
	return pulled, nil
}

func (r *Registry) pull(ctx context.Context, n imageName, p ocispec.Platform) (*Pulled, error) {
	top, err := r.pulls.do(ctx, n.String(), func() (*pulledDocument, error) { return r.top(ctx, n) })
	if err != nil {
		return nil, err
	}
	image, chosen, err := pick(ctx, repository{r, top.origins}, top.document, p, n.String())
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: *image, Ref: n.withDigest(chosen)}, nil
}

// pulledDocument is what a name stands for and where the rest of it is, best
// place first.
type pulledDocument struct {
	*document
	origins []origin
}

// top fetches the manifest or index that n names from the first origin that has it.
func (r *Registry) top(ctx context.Context, n imageName) (*pulledDocument, error) {
	origins, err := r.origins(n)
	if err != nil {
		return nil, err
	}
	var d *document
	at, err := first(origins, func(o origin) error {
		d, err = fetchDocument(ctx, o, n.manifest(), n.digest)
		return err
	})
	if err != nil {
		return nil, err
	}
	// What answered goes first from now on, so that an image comes from one place.
	rest := slices.Delete(slices.Clone(origins), at, at+1)
	return &pulledDocument{d, append([]origin{origins[at]}, rest...)}, nil
}

// first tries do on each origin until one succeeds, and returns its position.
// When none does, the error has every reason.
func first(origins []origin, do func(origin) error) (int, error) {
	var errs []error
	for i, o := range origins {
		err := do(o)
		if err == nil {
			return i, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return 0, errs[0]
	}
	return 0, &originsError{errs}
}

// originsError is errors.Join on one line.
type originsError struct{ errs []error }

func (e *originsError) Unwrap() []error { return e.errs }
func (e *originsError) Error() string {
	var parts []string
	for _, err := range e.errs {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

// Hint is the advice about the last origin that has any: the registry itself,
// if possible, and not one of its mirrors.
func (e *originsError) Hint() string {
	for _, err := range slices.Backward(e.errs) {
		var h interface{ Hint() string }
		if errors.As(err, &h) && h.Hint() != "" {
			return h.Hint()
		}
	}
	return ""
}

// fetchDocument gets a manifest by tag or digest. want is its digest when known.
func fetchDocument(ctx context.Context, o origin, tagOrDigest string, want digest.Digest) (*document, error) {
	resp, err := o.client.Do(ctx, transport.Request{
		Method: http.MethodGet, Repository: o.repository, Path: "manifests/" + tagOrDigest,
		Header: http.Header{"Accept": {acceptManifests}},
	})
	if err != nil {
		return nil, err
	}
	raw, err := readLimited(resp.Body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: manifest %s: %w", o, tagOrDigest, err)
	}
	if told := digest.Digest(resp.Header.Get("Docker-Content-Digest")); want == "" && told.Validate() == nil {
		want = told
	}
	if want != "" {
		if err := verify(raw, ocispec.Descriptor{Digest: want, Size: int64(len(raw))}); err != nil {
			return nil, fmt.Errorf("%s: manifest %w", o, err)
		}
	}
	contentType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // a bad one is as good as none
	d, err := parseDocument(raw, contentType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	if want != "" {
		d.desc.Digest = want // may be another algorithm than ours
	}
	return d, nil
}

// repository is a source: one repository and its mirrors.
type repository struct {
	registry *Registry
	origins  []origin
}

func (s repository) key(d ocispec.Descriptor) string {
	return s.origins[0].String() + "@" + d.Digest.String()
}

func (s repository) document(ctx context.Context, desc ocispec.Descriptor) (*document, error) {
	if err := checkSize(desc, "manifest", maxManifest); err != nil {
		return nil, err
	}
	return s.registry.known.do(ctx, s.key(desc), func() (d *document, err error) {
		_, err = first(s.origins, func(o origin) error {
			if d, err = fetchDocument(ctx, o, desc.Digest.String(), desc.Digest); err == nil {
				err = verify(d.raw, desc)
			}
			return err
		})
		return d, err
	})
}

func (s repository) config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := checkSize(desc, "image config", maxConfig); err != nil {
		return nil, err
	}
	return s.registry.confs.do(ctx, s.key(desc), func() ([]byte, error) {
		rc, err := s.open(ctx, desc)
		if err != nil {
			return nil, err
		}
		data, err := readLimited(rc, maxConfig)
		if err != nil {
			return nil, fmt.Errorf("image config: %w", err)
		}
		return data, nil
	})
}

func (s repository) layer(desc ocispec.Descriptor, diffID digest.Digest) Layer {
	foreign := isForeign(desc.MediaType)
	return Layer{
		Descriptor: desc, DiffID: diffID, From: s.origins[0].String(),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			rc, err := s.open(ctx, desc)
			if foreign && errors.Is(err, transport.ErrNotFound) {
				return nil, fmt.Errorf("layer %s is kept outside of its registry (media type %s), which is not supported: %w", desc.Digest, desc.MediaType, err)
			}
			return rc, err
		},
	}
}

// open streams a blob, verified and resumed when the connection breaks.
func (s repository) open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b := &blobReader{ctx: ctx, origins: s.origins, desc: desc}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return verified(b, desc), nil
}
