package flags

import (
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Cache is a place that cache records come from or go to.
type Cache struct {
	Type  string            // "registry", "local" or "inline"
	Attrs map[string]string // the other attributes, each known to the type; values of switches and levels are checked
}

// CacheFrom parses --cache-from: type=TYPE,key=value,… or image names alone for type=registry.
func CacheFrom(values []string) ([]Cache, error) {
	return flag{"--cache-from", "type=registry,ref=registry.example.com/app:cache"}.caches(values, cacheSources)
}

// CacheTo parses --cache-to, in the grammar of CacheFrom.
func CacheTo(values []string) ([]Cache, error) {
	return flag{"--cache-to", "type=registry,ref=registry.example.com/app:cache,mode=max"}.caches(values, cacheTargets)
}

// cacheType is what a type of cache takes.
type cacheType struct {
	required string                         // one attribute, "" for none
	attrs    map[string]func(string) string // name to check, which returns what is wrong or ""
}

func (f flag) caches(values []string, types map[string]cacheType) ([]Cache, error) {
	var list []Cache
	for _, value := range values {
		attrs, err := f.attributes(value)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(attrs, func(a attribute) bool { return !a.bare }) {
			refs, err := f.cacheRefs(value)
			if err != nil {
				return nil, err
			}
			list = append(list, refs...)
			continue
		}
		c, err := f.cache(value, types)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// cacheRefs parses the short form: image names and nothing else.
func (f flag) cacheRefs(value string) ([]Cache, error) {
	var list []Cache
	for ref := range strings.SplitSeq(value, ",") {
		ref = strings.TrimSpace(ref)
		if why := isRef(ref); why != "" {
			return nil, f.errorf(value, "%q %s", ref, why)
		}
		list = append(list, Cache{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	if list == nil {
		return nil, f.errorf(value, "want type=TYPE or an image name")
	}
	return list, nil
}

func (f flag) cache(value string, types map[string]cacheType) (Cache, error) {
	pairs, err := f.pairs(value)
	if err != nil {
		return Cache{}, err
	}
	c := Cache{Attrs: map[string]string{}}
	for _, a := range pairs {
		c.Attrs[a.key] = a.value
	}
	c.Type = c.Attrs["type"]
	delete(c.Attrs, "type")
	t, ok := types[c.Type]
	switch {
	case c.Type == "":
		return Cache{}, f.errorf(value, "type is missing")
	case !ok && unsupportedCaches[c.Type]:
		return Cache{}, f.errorf(value, "cache type %s is not supported: want registry, local or inline", c.Type)
	case !ok:
		return Cache{}, f.errorf(value, "unknown cache type %q: want registry, local or inline", c.Type)
	case t.required != "" && c.Attrs[t.required] == "":
		return Cache{}, f.errorf(value, "type %s needs %s", c.Type, t.required)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Attrs)) {
		check, ok := t.attrs[name]
		if !ok {
			return Cache{}, f.errorf(value, "type %s has no attribute %q", c.Type, name)
		}
		if why := check(c.Attrs[name]); why != "" {
			return Cache{}, f.errorf(value, "%s %s", name, why)
		}
	}
	if level := c.Attrs["compression-level"]; len(level) == 2 && level > "09" && c.Attrs["compression"] != "zstd" {
		return Cache{}, f.errorf(value, "compression-level is %s, gzip goes to 9", level)
	}
	return c, nil
}

func isAnything(string) string { return "" }

func isRef(v string) string {
	if _, err := reference.ParseNormalizedNamed(v); err != nil {
		return "is not an image name: " + err.Error()
	}
	return ""
}

func isBool(v string) string { return isOneOf("true", "false", "1", "0")(v) }

func isOneOf(choices ...string) func(string) string {
	return func(v string) string {
		if slices.Contains(choices, v) {
			return ""
		}
		return "is not one of " + strings.Join(choices, ", ")
	}
}

func isLevel(v string) string {
	if len(v) == 0 || len(v) > 2 || strings.Trim(v, "0123456789") != "" {
		return "is not a number from 0 to 22"
	}
	if len(v) == 2 && v > "22" {
		return "is more than 22"
	}
	return ""
}

// What each type of cache knows, as source and as target.
var (
	cacheSources = map[string]cacheType{
		"registry": {"ref", map[string]func(string) string{"ref": isRef, "registry.insecure": isBool}},
		"local":    {"src", map[string]func(string) string{"src": isAnything, "tag": isAnything, "digest": isAnything}},
	}
	cacheTargets = map[string]cacheType{
		"inline": {"", map[string]func(string) string{"mode": isOneOf("min")}},
		"registry": {"ref", map[string]func(string) string{
			"ref": isRef, "registry.insecure": isBool, "mode": isOneOf("min", "max"), "ignore-error": isBool,
			"image-manifest": isBool, "oci-mediatypes": isBool,
			"compression": isOneOf("gzip", "zstd", "uncompressed"), "compression-level": isLevel, "force-compression": isBool,
		}},
		"local": {"dest", map[string]func(string) string{
			"dest": isAnything, "tag": isAnything, "mode": isOneOf("min", "max"), "ignore-error": isBool,
			"image-manifest": isBool, "oci-mediatypes": isBool,
			"compression": isOneOf("gzip", "zstd", "uncompressed"), "compression-level": isLevel, "force-compression": isBool,
		}},
	}
	unsupportedCaches = map[string]bool{"gha": true, "s3": true, "azblob": true}
)
