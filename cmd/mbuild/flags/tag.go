package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Tags parses --tag: image names, [REGISTRY/]REPOSITORY[:TAG]. They come back in full ("docker.io/library/app:latest"), in order, each
// once. A digest is refused: it is what the build finds out.
func Tags(values []string) ([]string, error) {
	f := flag{"--tag", "registry.example.com/app:1.0"}
	seen := map[string]bool{}
	var names []string
	for _, value := range values {
		name, err := normalize(value, true)
		if err != nil {
			return nil, f.errorf(value, "%v", err)
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, nil
}

// normalize gives an image name its registry and, if tagged, its tag. If not tagged, a tag is an error.
func normalize(name string, tagged bool) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		if lower := strings.ToLower(name); lower != name {
			if _, err := reference.ParseNormalizedNamed(lower); err == nil {
				return "", fmt.Errorf("repository names are lower case, try %q", lower)
			}
		}
		return "", fmt.Errorf("%q is not an image name: %v", name, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", errors.New("a name cannot have a digest: that is what the build finds out")
	}
	_, hasTag := named.(reference.Tagged)
	switch {
	case tagged:
		return reference.TagNameOnly(named).String(), nil
	case hasTag:
		return "", fmt.Errorf("%q has a tag, which push-by-digest does not push", name)
	}
	return named.String(), nil
}
