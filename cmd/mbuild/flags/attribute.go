package flags

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// outputParser collects the attributes of one output. Its first argument to errors is always the whole value.
type outputParser struct {
	flag  flag
	value string
	typ   string // as written
	known map[string]setter
	tar   bool // tar=true: a tar, not a directory
	names string
	out   Output
}

// setter puts an attribute's value into the output.
type setter func(p *outputParser, key, value string) error

// begin looks the type up, and which attributes it knows.
func (p *outputParser) begin() error {
	p.tar = true
	p.out.Type = OutputType(p.typ)
	switch p.typ {
	case "":
		return p.errorf("type is missing")
	case "image", "registry":
		p.out.Type = OutputImage
		p.out.Image.Push = p.typ == "registry"
		p.known = imageAttributes
	case "oci", "docker":
		p.known = archiveAttributes
	case "local":
		p.known = localAttributes
	case "tar":
		p.known = tarAttributes
	case "cacheonly":
	default:
		return p.errorf("unknown type %q: want image, registry, oci, docker, local, tar or cacheonly", p.typ)
	}
	return nil
}

func (p *outputParser) set(key, value string) error {
	if key == "type" {
		return nil
	}
	if set, ok := p.known[key]; ok {
		return set(p, key, value)
	}
	if p.out.ofImage() {
		a, ok, err := p.flag.annotationOf(p.value, key, value)
		if ok && err == nil {
			p.out.Image.Annotations = append(p.out.Image.Annotations, a)
		}
		if ok {
			return err
		}
	}
	if why, ok := unsupported[key]; ok {
		return p.errorf("attribute %s is not supported: %s", key, why)
	}
	return p.errorf("type %s has no attribute %q%s", p.typ, key, p.choices())
}

func (o *Output) ofImage() bool {
	return o.Type == OutputImage || o.Type == OutputOCI || o.Type == OutputDocker
}

// choices lists the attributes of the type.
func (p *outputParser) choices() string {
	var names []string
	for name := range p.known {
		names = append(names, name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ": it has " + strings.Join(names, ", ")
}

func (p *outputParser) errorf(format string, args ...any) error {
	return p.flag.errorf(p.value, format, args...)
}

// end checks what concerns several attributes.
func (p *outputParser) end() (Output, error) {
	if err := p.setNames(); err != nil {
		return Output{}, err
	}
	if err := p.checkCompression(); err != nil {
		return Output{}, err
	}
	o := &p.out
	switch o.Type {
	case OutputLocal:
		o.Directory = true
	case OutputOCI, OutputDocker:
		o.Directory = !p.tar
	}
	switch {
	case o.Directory && o.Dest == "":
		return Output{}, p.errorf("type %s needs dest=DIRECTORY here", p.typ)
	case o.Directory && o.Dest == Stdout:
		return Output{}, p.errorf("a directory cannot go to standard output")
	case o.Dest == "" && (o.Type == OutputOCI || o.Type == OutputTar):
		o.Dest = Stdout
	}
	return *o, nil
}

// setNames normalises the names, which is possible only when it is known whether they need a tag.
func (p *outputParser) setNames() error {
	if p.names == "" {
		return nil
	}
	for name := range strings.SplitSeq(p.names, ",") {
		normal, err := normalize(strings.TrimSpace(name), !p.out.Image.PushByDigest)
		if err != nil {
			return p.errorf("name: %v", err)
		}
		p.out.Names = append(p.out.Names, normal)
	}
	return nil
}

func (p *outputParser) checkCompression() error {
	o := p.out.Image
	if o.Compression == "zstd" && o.DockerTypes {
		return p.errorf("Docker's media types know no zstd: leave oci-mediatypes=false out")
	}
	if o.CompressionLevel == nil {
		return nil
	}
	highest := map[string]int{"": 9, "gzip": 9, "zstd": 22, "uncompressed": 0}[o.Compression]
	if *o.CompressionLevel > highest {
		return p.errorf("compression-level is %d, want 0 to %d", *o.CompressionLevel, highest)
	}
	return nil
}

// boolean makes a setter for a switch.
func boolean(field func(*outputParser) *bool) setter {
	return func(p *outputParser, key, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return p.errorf("%s is %q, want true or false", key, value)
		}
		*field(p) = b
		return nil
	}
}

// only makes a setter that takes nothing but what mbuild does anyway.
func only(want bool, why string) setter {
	return func(p *outputParser, key, value string) error {
		var got bool
		if err := boolean(func(*outputParser) *bool { return &got })(p, key, value); err != nil {
			return err
		}
		if got != want {
			return p.errorf("%s=%t is not supported: %s", key, got, why)
		}
		return nil
	}
}

func setDest(p *outputParser, key, value string) error {
	if value == "" {
		return p.errorf("dest is empty")
	}
	p.out.Dest = value
	return nil
}

func setName(p *outputParser, key, value string) error {
	if value == "" {
		return p.errorf("name is empty")
	}
	p.names = value
	return nil
}

func setCompression(p *outputParser, key, value string) error {
	switch value {
	case "gzip", "zstd", "uncompressed":
		p.out.Image.Compression = value
		return nil
	case "estargz", "nydus":
		return p.errorf("compression %s is not supported: want gzip, zstd or uncompressed", value)
	}
	return p.errorf("unknown compression %q: want gzip, zstd or uncompressed", value)
}

func setLevel(p *outputParser, key, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return p.errorf("%s is %q, want a number from 0", key, value)
	}
	p.out.Image.CompressionLevel = &n
	return nil
}

// latest is the last second whose year has four digits: what comes later has no RFC 3339 form.
const latest = 253402300799

func setEpoch(field func(*outputParser) *Epoch) setter {
	return func(p *outputParser, key, value string) error {
		if value == "" {
			*field(p) = Epoch{Given: true}
			return nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 || n > latest {
			return p.errorf("%s is %q, want seconds since 1970", key, value)
		}
		t := time.Unix(n, 0).UTC()
		*field(p) = Epoch{Given: true, Time: &t}
		return nil
	}
}

func setSplit(p *outputParser, key, value string) error {
	p.out.Files.Split = new(bool)
	return boolean(func(p *outputParser) *bool { return p.out.Files.Split })(p, key, value)
}

func setMode(p *outputParser, key, value string) error {
	switch value {
	case "copy":
		return nil
	case "delete":
		return p.errorf("mode=delete is not supported: empty the directory before the build")
	}
	return p.errorf("unknown mode %q: want copy", value)
}

// with is a plus b.
func with(a, b map[string]setter) map[string]setter {
	all := make(map[string]setter, len(a)+len(b))
	for _, m := range []map[string]setter{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// What each type of output knows.
var (
	anyImageAttributes = map[string]setter{
		"name":              setName,
		"name-canonical":    boolean(func(p *outputParser) *bool { return &p.out.Image.NameCanonical }),
		"oci-mediatypes":    setMediaTypes,
		"compression":       setCompression,
		"compression-level": setLevel,
		"force-compression": boolean(func(p *outputParser) *bool { return &p.out.Image.ForceCompression }),
		"rewrite-timestamp": boolean(func(p *outputParser) *bool { return &p.out.Image.RewriteTimestamp }),
		"source-date-epoch": setEpoch(func(p *outputParser) *Epoch { return &p.out.Image.Epoch }),
		"unpack":            only(false, "mbuild keeps no unpacked images"),
		"store":             only(false, "mbuild keeps no images"),

		"prefer-nondist-layers": only(false, "layers are always distributable"),
	}
	imageAttributes = with(anyImageAttributes, map[string]setter{
		"push":              boolean(func(p *outputParser) *bool { return &p.out.Image.Push }),
		"push-by-digest":    boolean(func(p *outputParser) *bool { return &p.out.Image.PushByDigest }),
		"registry.insecure": boolean(func(p *outputParser) *bool { return &p.out.Image.Insecure }),
	})
	archiveAttributes = with(anyImageAttributes, map[string]setter{
		"dest": setDest,
		"tar":  boolean(func(p *outputParser) *bool { return &p.tar }),
	})
	tarAttributes = map[string]setter{
		"dest":              setDest,
		"platform-split":    setSplit,
		"source-date-epoch": setEpoch(func(p *outputParser) *Epoch { return &p.out.Files.Epoch }),
	}
	localAttributes = with(tarAttributes, map[string]setter{"mode": setMode})
)

func setMediaTypes(p *outputParser, key, value string) error {
	var oci bool
	err := boolean(func(*outputParser) *bool { return &oci })(p, key, value)
	p.out.Image.DockerTypes = !oci
	return err
}

// unsupported lists attributes that BuildKit knows and mbuild does not, and why.
var unsupported = map[string]string{
	"attestation-inline":      "attestations go into the index",
	"attestation-prefix":      "attestations are written with images only",
	"buildinfo":               "it was removed from BuildKit",
	"buildinfo-attrs":         "it was removed from BuildKit",
	"compatibility-version":   "mbuild has one way to assemble an image",
	"context":                 "mbuild knows no docker contexts",
	"danging-name-empty-only": "mbuild keeps no dangling images",
	"dangling-name-prefix":    "mbuild keeps no dangling images",
	"oci-artifact":            "attestations are plain image manifests",
}
