package flags

import (
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// ContextKind says where a build context comes from.
type ContextKind string

// The kinds of contexts.
const (
	ContextLocal  ContextKind = "local"        // a directory
	ContextImage  ContextKind = "docker-image" // an image in a registry
	ContextLayout ContextKind = "oci-layout"   // an image in an OCI layout: DIR[:TAG][@DIGEST]
	ContextGit    ContextKind = "git"          // a git repository
	ContextHTTP   ContextKind = "http"         // a file or archive on a web server
	ContextStdin  ContextKind = "stdin"        // "-", only as main context
)

// Context is where a build context comes from.
type Context struct {
	Kind ContextKind
	// Value is the directory, the URL of the repository or file, or what follows docker-image:// and oci-layout://.
	Value string
}

// MainContext classifies the one positional argument: PATH, URL or "-". It never fails: what is no URL is a directory.
func MainContext(value string) Context {
	if value == "-" {
		return Context{ContextStdin, value}
	}
	if kind, ok := remote(value); ok {
		return Context{kind, value}
	}
	return Context{ContextLocal, value}
}

// BuildContexts parses --build-context: NAME=VALUE where VALUE is a directory, docker-image://REF, oci-layout://DIR[:TAG][@DIGEST] or the URL of
// a git repository, a file or an archive. Names are normalised as image names are, without ":latest", so that they match FROM. The
// last value of a name counts.
func BuildContexts(values []string) (map[string]Context, error) {
	f := flag{"--build-context", "alpine=docker-image://alpine:3.21"}
	contexts := make(map[string]Context, len(values))
	for _, value := range values {
		name, v, ok := strings.Cut(value, "=")
		if !ok || v == "" {
			return nil, f.errorf(value, "want NAME=VALUE")
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, f.errorf(value, "%q cannot name a context: %v", name, err)
		}
		name = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
		if name == "scratch" || name == "context" {
			return nil, f.errorf(value, "the name %q is reserved", name)
		}
		c, err := f.context(value, v)
		if err != nil {
			return nil, err
		}
		contexts[name] = c
	}
	return contexts, nil
}

func (f flag) context(value, v string) (Context, error) {
	scheme, rest, ok := strings.Cut(v, "://")
	if ok && scheme == string(ContextImage) {
		if _, err := reference.ParseNormalizedNamed(rest); err != nil {
			return Context{}, f.errorf(value, "%q is not an image reference: %v", rest, err)
		}
		return Context{ContextImage, rest}, nil
	}
	if ok && scheme == string(ContextLayout) {
		if rest == "" {
			return Context{}, f.errorf(value, "oci-layout:// names no directory")
		}
		return Context{ContextLayout, rest}, nil
	}
	if kind, ok := remote(v); ok {
		return Context{kind, v}, nil
	}
	switch {
	case ok && !strings.Contains(scheme, "/"):
		return Context{}, f.errorf(value, "unknown scheme %s://", scheme)
	case strings.HasPrefix(v, "target:"), strings.HasPrefix(v, "input:"):
		return Context{}, f.errorf(value, "%s exists in bake files only", v[:strings.IndexByte(v, ':')+1])
	case v == "-":
		return Context{}, f.errorf(value, "standard input can only be the main context")
	}
	return Context{ContextLocal, v}, nil
}

// gitPath matches a path that ends a repository's name, with or without a fragment (#ref:subdir) or query.
var gitPath = regexp.MustCompile(`\.git(?:[?#].*)?$`)

// scpLike matches user@host:path.
var scpLike = regexp.MustCompile(`^[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.`)

// remote classifies URLs of repositories and web servers.
func remote(v string) (ContextKind, bool) {
	switch {
	case strings.HasPrefix(v, "git://"), strings.HasPrefix(v, "ssh://"), strings.HasPrefix(v, "github.com/"), scpLike.MatchString(v):
		return ContextGit, true
	case strings.HasPrefix(v, "http://"), strings.HasPrefix(v, "https://"):
		if gitPath.MatchString(v) {
			return ContextGit, true
		}
		return ContextHTTP, true
	}
	return "", false
}
