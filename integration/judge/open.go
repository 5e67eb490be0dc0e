// Package judge reads images without any of mbuild's code and says what is in
// them and what is wrong with them.
package judge

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// ErrNotFound means that no image of the wanted platform is there.
var ErrNotFound = errors.New("no such image")

// Open returns the image for platform ("linux/arm64") that ref names:
// HOST:PORT/REPO:TAG in a registry, oci:DIR in a layout directory,
// oci-archive:FILE in a layout's tar. An index with two images for the platform
// is an error. Close removes what Open unpacked.
func Open(ref, platform string) (img v1.Image, close func() error, err error) {
	close = func() error { return nil }
	want, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, close, err
	}
	if file, ok := strings.CutPrefix(ref, "oci-archive:"); ok {
		dir, err := os.MkdirTemp("", "judge-")
		if err != nil {
			return nil, close, err
		}
		close = func() error { return os.RemoveAll(dir) }
		if err := untar(file, dir); err != nil {
			return nil, close, err
		}
		ref = "oci:" + dir
	}
	if dir, ok := strings.CutPrefix(ref, "oci:"); ok {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			return nil, close, err
		}
		img, err = pick(index, *want)
		return img, close, err
	}
	img, err = fromRegistry(ref, *want)
	return img, close, err
}

func fromRegistry(ref string, want v1.Platform) (v1.Image, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	d, err := remote.Get(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotFound, err)
	}
	if !d.MediaType.IsIndex() {
		img, err := d.Image()
		if err != nil {
			return nil, err
		}
		return img, checkPlatform(img, want)
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	return pick(index, want)
}

// pick finds the one image for want in index, at any depth, and checks that its
// config agrees with its descriptor.
func pick(index v1.ImageIndex, want v1.Platform) (v1.Image, error) {
	found, err := collect(index, want)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: for %s", ErrNotFound, want)
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("%d images for %s in one index", len(found), want)
	}
	return found[0], checkPlatform(found[0], want)
}

func collect(index v1.ImageIndex, want v1.Platform) ([]v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []v1.Image
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsIndex():
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := collect(child, want)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		case d.Platform == nil || d.Platform.Satisfies(want):
			img, err := index.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			if d.Platform == nil && checkPlatform(img, want) != nil {
				continue
			}
			found = append(found, img)
		}
	}
	return found, nil
}

func checkPlatform(img v1.Image, want v1.Platform) error {
	c, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if got := c.Platform(); got == nil || got.OS != want.OS || got.Architecture != want.Architecture {
		return fmt.Errorf("the image's config says %v, want %v", got, want)
	}
	return nil
}

// untar unpacks a layout's tar, which holds only directories and plain files.
func untar(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("read %s: entry %q leaves the archive", file, h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(filepath.Join(dir, h.Name), 0o755)
		case tar.TypeReg:
			err = writeFile(filepath.Join(dir, h.Name), tr)
		default:
			err = fmt.Errorf("read %s: entry %q has type %q", file, h.Name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(name string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
