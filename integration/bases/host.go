package bases

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// adminPath is where Debian keeps administrators' programs, which are not on an
// ordinary user's PATH.
const adminPath = "/usr/sbin:/sbin"

// lookPath finds a program on PATH or among administrators' programs.
func lookPath(program string) (string, error) {
	if p, err := exec.LookPath(program); err == nil {
		return p, nil
	}
	for _, dir := range strings.Split(adminPath, ":") {
		if p, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", program, os.ErrNotExist)
}

// tail is the end of what a failed program said.
func tail(said []byte) []byte {
	const keep = 4 << 10
	if len(said) > keep {
		return said[len(said)-keep:]
	}
	return said
}

// firstImage is the first image in an index, however deep.
func firstImage(index v1.ImageIndex) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsImage():
			return index.Image(d.Digest)
		case d.MediaType.IsIndex():
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			return firstImage(child)
		}
	}
	return nil, errors.New("no image in the index")
}
