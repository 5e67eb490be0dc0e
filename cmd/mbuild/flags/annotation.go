package flags

import (
	"regexp"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AnnotationTarget is the object an annotation is put on.
type AnnotationTarget string

// What can carry an annotation. A descriptor's annotations stand in the object that points to it: a manifest's in the index, the
// index's in the layout's index.json.
const (
	OnManifest           AnnotationTarget = "manifest"
	OnManifestDescriptor AnnotationTarget = "manifest-descriptor"
	OnIndex              AnnotationTarget = "index"
	OnIndexDescriptor    AnnotationTarget = "index-descriptor"
)

// Annotation is one key and value for one target.
type Annotation struct {
	Target   AnnotationTarget
	Platform *ocispec.Platform // the only platform whose manifest is meant, normalised; nil: every platform's
	Key      string
	Value    string
}

// Annotations parses --annotation: [TARGET[PLATFORM][,TARGET…]:]KEY=VALUE, where [PLATFORM] stands in brackets. Without a target the
// manifests are meant. The list has one entry per target, in order; of two for the same target, platform and key the later counts.
func Annotations(values []string) ([]Annotation, error) {
	f := flag{"--annotation", "'manifest[linux/arm64],index:org.opencontainers.image.title=app'"}
	var list []Annotation
	for _, value := range values {
		key, v, ok := strings.Cut(value, "=")
		if !ok {
			return nil, f.errorf(value, "want KEY=VALUE")
		}
		targets := string(OnManifest)
		if head, tail, ok := strings.Cut(key, ":"); ok {
			targets, key = head, tail
		}
		if key == "" {
			return nil, f.errorf(value, "the annotation has no key")
		}
		for target := range strings.SplitSeq(targets, ",") {
			a, err := f.annotation(value, strings.TrimSpace(target))
			if err != nil {
				return nil, err
			}
			a.Key, a.Value = key, v
			list = append(list, a)
		}
	}
	return list, nil
}

var annotationTarget = regexp.MustCompile(`^([a-z-]+)(?:\[([^\[\]]+)\])?$`)

// annotation parses TARGET or TARGET[PLATFORM].
func (f flag) annotation(value, target string) (Annotation, error) {
	m := annotationTarget.FindStringSubmatch(target)
	if m == nil {
		return Annotation{}, f.errorf(value, "%q is not a target: want one of manifest, manifest-descriptor, index, index-descriptor, with [os/arch] or not", target)
	}
	a := Annotation{Target: AnnotationTarget(m[1])}
	switch a.Target {
	case OnManifest, OnManifestDescriptor:
	case OnIndex, OnIndexDescriptor:
		if m[2] != "" {
			return Annotation{}, f.errorf(value, "the index belongs to no platform, %s cannot have one", a.Target)
		}
	default:
		return Annotation{}, f.errorf(value, "unknown target %q: want manifest, manifest-descriptor, index or index-descriptor", m[1])
	}
	if m[2] == "" {
		return a, nil
	}
	p, err := platforms.Parse(m[2])
	if err != nil {
		return Annotation{}, f.errorf(value, "%q is not a platform", m[2])
	}
	p = platforms.Normalize(p)
	a.Platform = &p
	return a, nil
}

// annotationAttribute matches the attribute of an output that sets an annotation: annotation[-TARGET][[PLATFORM]].KEY.
var annotationAttribute = regexp.MustCompile(`^annotation(?:-([a-z-]+))?(\[[^\[\]]+\])?\.(\S+)$`)

// annotationOf parses an output's annotation attribute. It reports false when name is not one.
func (f flag) annotationOf(value, name, v string) (Annotation, bool, error) {
	m := annotationAttribute.FindStringSubmatch(name)
	if m == nil {
		return Annotation{}, false, nil
	}
	target := m[1]
	if target == "" {
		target = string(OnManifest)
	}
	a, err := f.annotation(value, target+m[2])
	a.Key, a.Value = m[3], v
	return a, true, err
}
