package index

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteTar writes the result as a tar of an OCI layout. Its members are sorted by
// name and without times and owners, so that the same result gives the same
// bytes. A failure leaves w with an incomplete tar; w is not closed.
func (x *Index) WriteTar(ctx context.Context, w io.Writer, names []string) error {
	files, err := x.layoutFiles(names)
	if err != nil {
		return fmt.Errorf("write oci archive: %w", err)
	}
	if err := writeTar(ctx, w, files); err != nil {
		return fmt.Errorf("write oci archive: %w", err)
	}
	return nil
}

// WriteDockerArchive writes the result so that docker load takes it: the tar of
// WriteTar with a manifest.json in it. There must be a single image: such an
// archive cannot hold a multi-platform one.
func (x *Index) WriteDockerArchive(ctx context.Context, w io.Writer, names []string) error {
	files, err := x.dockerFiles(names)
	if err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	if err := writeTar(ctx, w, files); err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	return nil
}

func (x *Index) layoutFiles(names []string) ([]file, error) {
	indexJSON, err := x.indexJSON(names)
	if err != nil {
		return nil, err
	}
	files := []file{bytesFile(ocispec.ImageLayoutFile, layoutJSON), bytesFile(ocispec.ImageIndexFile, indexJSON)}
	for _, b := range append(x.content(), x.documents()...) {
		files = append(files, blobFile(b))
	}
	return files, nil
}

func (x *Index) dockerFiles(names []string) ([]file, error) {
	if len(x.images) > 1 {
		return nil, errors.New("it cannot hold images for several platforms; type=oci can, or build for one --platform")
	}
	files, err := x.layoutFiles(names)
	if err != nil {
		return nil, err
	}
	entry := struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{Config: blobPath(x.images[0].config.desc.Digest), Layers: []string{}}
	parsed, err := parseOutputNames(names)
	if err != nil {
		return nil, err
	}
	for _, n := range parsed {
		entry.RepoTags = append(entry.RepoTags, n.familiar())
	}
	for _, l := range x.images[0].layers {
		entry.Layers = append(entry.Layers, blobPath(l.desc.Digest))
	}
	data, err := json.Marshal([]any{entry})
	if err != nil {
		return nil, err
	}
	return append(files, bytesFile("manifest.json", data)), nil
}

func writeTar(ctx context.Context, w io.Writer, files []file) error {
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	out := tar.NewWriter(w)
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := addParents(out, path.Dir(f.name), made); err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: f.size, Mode: 0o444, ModTime: time.Unix(0, 0)}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if err := copyFile(ctx, out, f); err != nil {
			return err
		}
	}
	return out.Close()
}

func addParents(out *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := addParents(out, path.Dir(dir), made); err != nil {
		return err
	}
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
}
