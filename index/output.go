package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteLayout writes the result as an OCI layout into dir, which is made when it
// does not exist. In an existing layout the blobs stay and are shared, and
// index.json is replaced. Blobs are complete when they appear under their name,
// and index.json comes last: what was readable before stays so on any failure.
func (x *Index) WriteLayout(ctx context.Context, dir string, names []string) error {
	if err := x.writeLayout(ctx, dir, names); err != nil {
		return fmt.Errorf("write oci layout %s: %w", dir, err)
	}
	return nil
}

func (x *Index) writeLayout(ctx context.Context, dir string, names []string) error {
	indexJSON, err := x.indexJSON(names)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, b := range append(x.content(), x.documents()...) {
		if err := addBlob(ctx, root, b); err != nil {
			return err
		}
	}
	if err := addFile(ctx, root, bytesFile(ocispec.ImageLayoutFile, layoutJSON)); err != nil {
		return err
	}
	return addFile(ctx, root, bytesFile(ocispec.ImageIndexFile, indexJSON))
}

// layoutJSON is the content of oci-layout.
var layoutJSON = []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)

// indexJSON is the content of index.json: the result, once for each name.
func (x *Index) indexJSON(names []string) ([]byte, error) {
	parsed, err := parseOutputNames(names)
	if err != nil {
		return nil, err
	}
	doc := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, n := range parsed {
		d := x.top
		d.Annotations = maps.Clone(d.Annotations)
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[annotationImageName] = n.String()
		d.Annotations[ocispec.AnnotationRefName] = n.tag
		doc.Manifests = append(doc.Manifests, d)
	}
	if len(names) == 0 {
		doc.Manifests = append(doc.Manifests, x.top)
	}
	return json.Marshal(doc)
}

// file is a file of a layout.
type file struct {
	name string
	size int64
	open func(context.Context) (io.ReadCloser, error)
}

func blobFile(b blob) file { return file{blobPath(b.desc.Digest), b.desc.Size, b.open} }

func bytesFile(name string, data []byte) file {
	return file{name, int64(len(data)), bytesBlob(data, "").open}
}

// addBlob writes b unless a whole copy is there.
func addBlob(ctx context.Context, root *os.Root, b blob) error {
	f := blobFile(b)
	if info, err := root.Lstat(f.name); err == nil && info.Mode().IsRegular() && info.Size() == f.size {
		if have, err := root.Open(f.name); err == nil {
			_, err = io.Copy(io.Discard, withContext(ctx, verified(have, b.desc)))
			have.Close()
			if err == nil {
				return nil
			}
		}
	}
	return addFile(ctx, root, f)
}

// addFile writes f under a temporary name beside its own and renames it.
func addFile(ctx context.Context, root *os.Root, f file) (err error) {
	if err := root.MkdirAll(path.Dir(f.name), 0o755); err != nil {
		return err
	}
	temp := path.Join(path.Dir(f.name), ".tmp-"+strconv.FormatUint(rand.Uint64(), 36))
	out, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(root.Remove(temp)))
		}
	}()
	if err := copyFile(ctx, out, f); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return root.Rename(temp, f.name)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copyFile copies all of f and checks its length.
func copyFile(ctx context.Context, w io.Writer, f file) error {
	rc, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer rc.Close()
	n, err := io.Copy(w, withContext(ctx, rc))
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if n != f.size {
		return fmt.Errorf("%s: got %d bytes, want %d", f.name, n, f.size)
	}
	return nil
}

// withContext is r until ctx ends.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
