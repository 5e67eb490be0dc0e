package index

import (
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// dockerHub is the host part of names without one; its registry has another address.
const (
	dockerHub        = "docker.io"
	dockerHubAddress = "registry-1.docker.io"
)

// imageName is a normalised reference, for example
// docker.io/library/busybox:latest.
type imageName struct {
	host, repository string
	tag              string        // empty only when there is a digest
	digest           digest.Digest // or empty
}

// parseName normalises s as Docker does. Without tag and digest the tag is
// "latest".
func parseName(s string) (imageName, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return imageName{}, fmt.Errorf("image name %q: %w", s, err)
	}
	named = reference.TagNameOnly(named)
	n := imageName{host: reference.Domain(named), repository: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		n.tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		n.digest = d.Digest()
		if err := n.digest.Validate(); err != nil {
			return imageName{}, fmt.Errorf("image name %q: %w", s, err)
		}
	}
	return n, nil
}

// parseOutputNames normalises where an image goes, each name once. A digest makes
// no sense there.
func parseOutputNames(names []string) ([]imageName, error) {
	var list []imageName
	for _, s := range names {
		n, err := parseName(s)
		if err != nil {
			return nil, err
		}
		if n.digest != "" {
			return nil, fmt.Errorf("image name %q: an output cannot be named by digest", s)
		}
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list, nil
}

// repo is the name without tag and digest.
func (n imageName) repo() string { return n.host + "/" + n.repository }

// withDigest is the full name with d in place of any digest.
func (n imageName) withDigest(d digest.Digest) string {
	n.digest = d
	return n.String()
}

func (n imageName) String() string {
	s := n.repo()
	if n.tag != "" {
		s += ":" + n.tag
	}
	if n.digest != "" {
		s += "@" + n.digest.String()
	}
	return s
}

// manifest is what the registry is asked for.
func (n imageName) manifest() string {
	if n.digest != "" {
		return n.digest.String()
	}
	return n.tag
}

// familiar is the name as Docker shows it: docker.io/library/busybox:1 is busybox:1.
func (n imageName) familiar() string {
	repository := n.repo()
	if rest, ok := strings.CutPrefix(repository, dockerHub+"/"); ok {
		repository = strings.TrimPrefix(rest, "library/")
	}
	return repository + ":" + n.tag
}
