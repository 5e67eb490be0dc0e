package flags

import (
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultPlatform is the environment variable that Platforms falls back to.
const DefaultPlatform = "DOCKER_DEFAULT_PLATFORM"

// Platforms parses --platform: os/arch[/variant] or an architecture alone, several separated by commas, "local" for host. Without
// values DOCKER_DEFAULT_PLATFORM counts, and without that host alone. The list is normalised, in the order given, without duplicates;
// those are returned apart, as written.
func Platforms(values []string, lookup Lookup, host ocispec.Platform) (list []ocispec.Platform, duplicates []string, err error) {
	f := flag{"--platform", "linux/amd64,linux/arm64"}
	if len(values) == 0 {
		if v, _ := lookup(DefaultPlatform); v != "" {
			f.name, values = DefaultPlatform, []string{v}
		}
	}
	if len(values) == 0 {
		return []ocispec.Platform{platforms.Normalize(host)}, nil, nil
	}
	seen := map[string]bool{}
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			p, err := f.platform(value, strings.TrimSpace(item), host)
			if err != nil {
				return nil, nil, err
			}
			if name := platforms.FormatAll(p); seen[name] {
				duplicates = append(duplicates, strings.TrimSpace(item))
				continue
			} else {
				seen[name] = true
			}
			list = append(list, p)
		}
	}
	return list, duplicates, nil
}

func (f flag) platform(value, item string, host ocispec.Platform) (ocispec.Platform, error) {
	if item == "" {
		return ocispec.Platform{}, f.errorf(value, "a platform is missing")
	}
	if strings.EqualFold(item, "local") {
		return platforms.Normalize(host), nil
	}
	p, err := platforms.Parse(item)
	if err != nil {
		return ocispec.Platform{}, f.errorf(value, "%q is not a platform: want os/arch or os/arch/variant", item)
	}
	return platforms.Normalize(p), nil
}
