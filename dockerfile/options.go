package dockerfile

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images answers what the planner has to know of an image that FROM, COPY --from or a mount names.
type Images interface {
	// Image returns the image's configuration for platform. ref is as written in the Dockerfile after
	// expansion, or the Image of a Context. The planner asks once per reference and platform.
	Image(ctx context.Context, ref string, platform ocispec.Platform) (BaseImage, error)
}

// BaseImage is an image that a build starts from or copies from.
type BaseImage struct {
	Ref    string // canonical name for display and keys: name:tag@sha256:… of the platform's manifest
	Config []byte // the config JSON of that platform's image, verbatim
}

// Context is what a name given with --build-context stands for: exactly one of Image and Local is set.
type Context struct {
	Image string // FROM name and --from=name mean this image, passed to Images.Image as it is ("docker-image://…", "oci-layout://…")
	Local string // name of a local directory context, as it appears in Local.Name
}

// Options say what to build of a Dockerfile. Platforms and Images are required; Images is
// not asked anything when the target needs nothing but scratch.
type Options struct {
	Platforms     []ocispec.Platform // targets in order; at least one, normalised
	BuildPlatform ocispec.Platform   // BUILDPLATFORM; the first target when empty
	Target        string             // stage name or number; empty: the last stage
	BuildArgs     map[string]string  // --build-arg, also the control arguments BUILDKIT_*
	Labels        map[string]string  // --label, set after everything the Dockerfile says
	Images        Images
	Contexts      map[string]Context // named contexts; a name may end in ::PLATFORM
	Ignore        *Ignore            // rules of the main context, only for the check CopyIgnoredFile; may be nil

	Network          string   // --network: "", "default", "none" or "host"
	AllowInsecure    bool     // entitlement security.insecure
	AllowHostNetwork bool     // entitlement network.host
	ExtraHosts       []string // "name=ip"
	Hostname         string
	ShmSize          int64    // bytes; 0: the executor's choice
	Ulimits          []string // "name=soft:hard"

	NoCache       bool     // for all stages
	NoCacheStages []string // for the stages of these names

	// Epoch (SOURCE_DATE_EPOCH) is the creation time of the image and of every line of history that the
	// build adds. Lines of a base image keep theirs.
	Epoch *time.Time
}

// check refuses options that no Dockerfile can be planned with, and fills in defaults.
func (o *Options) check() error {
	if len(o.Platforms) == 0 {
		return fmt.Errorf("no target platform")
	}
	for i, p := range o.Platforms {
		if p.OS == "" || p.Architecture == "" {
			return fmt.Errorf("target platform %d has no operating system or no architecture", i+1)
		}
		if p.OS == "windows" {
			return fmt.Errorf("target platform %s: images for windows are not supported", platforms.FormatAll(p))
		}
	}
	if o.BuildPlatform.OS == "" {
		o.BuildPlatform = o.Platforms[0]
	}
	switch o.Network {
	case "", "default", "none":
	case "host":
		if !o.AllowHostNetwork {
			return fmt.Errorf("--network=host needs the entitlement network.host (--allow network.host)")
		}
	default:
		return fmt.Errorf("unknown network mode %q, want default, none or host", o.Network)
	}
	for _, h := range o.ExtraHosts {
		name, ip, ok := strings.Cut(h, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\n") || net.ParseIP(strings.Trim(ip, "[]")) == nil {
			return fmt.Errorf("extra host %q: want NAME=IP", h)
		}
	}
	if ref, ok := o.BuildArgs["BUILDKIT_SYNTAX"]; ok && ref != "" {
		first, _, _ := strings.Cut(ref, " ")
		if msg := checkFrontend(first); msg != "" {
			return fmt.Errorf("build argument BUILDKIT_SYNTAX: %s", msg)
		}
	}
	return nil
}

// contexts are the named contexts under their normalised names.
type contexts map[string]Context

func normaliseContexts(named map[string]Context) (contexts, error) {
	out := contexts{}
	for name, c := range named {
		if (c.Image == "") == (c.Local == "") {
			return nil, fmt.Errorf("build context %q: want either an image or a local directory", name)
		}
		base, platform, ok := strings.Cut(name, "::")
		key, err := contextName(base)
		if err != nil {
			return nil, fmt.Errorf("build context %q: invalid name: %v", name, err)
		}
		if ok {
			p, err := platforms.Parse(platform)
			if err != nil {
				return nil, fmt.Errorf("build context %q: %v", name, err)
			}
			key += "::" + platforms.FormatAll(platforms.Normalize(p))
		}
		out[key] = c
	}
	return out, nil
}

// contextName is the familiar form of a name, without the tag latest: alpine for
// docker.io/library/alpine:latest.
func contextName(name string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(reference.FamiliarString(ref), ":latest"), nil
}

// find looks a name up, with the platform first.
func (c contexts) find(name string, p ocispec.Platform) *Context {
	if strings.EqualFold(name, "scratch") || strings.EqualFold(name, "context") {
		return nil
	}
	key, err := contextName(name)
	if err != nil {
		return nil
	}
	for _, k := range []string{key + "::" + platforms.FormatAll(platforms.Normalize(p)), key} {
		if x, ok := c[k]; ok {
			return &x
		}
	}
	return nil
}
