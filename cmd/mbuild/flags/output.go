package flags

import (
	"regexp"
	"strings"
	"time"

	"github.com/tonistiigi/go-csvvalue"
)

// OutputType says what an Output makes.
type OutputType string

// The types of outputs. On the command line "registry" is OutputImage with Push set.
const (
	OutputImage     OutputType = "image"     // an image by name, pushed when Push is set
	OutputOCI       OutputType = "oci"       // an OCI layout, as a tar or a directory
	OutputDocker    OutputType = "docker"    // a tar for docker load
	OutputLocal     OutputType = "local"     // the files, in a directory
	OutputTar       OutputType = "tar"       // the files, in a tar
	OutputCacheOnly OutputType = "cacheonly" // nothing: the build fills the cache
)

// Stdout as destination means standard output.
const Stdout = "-"

// Output is where the result of a build goes. Image counts for image, oci and docker, Files for local and tar.
type Output struct {
	Type OutputType
	// Dest is a path, or Stdout. Empty for image and cacheonly, and for docker when the image is meant to be loaded into an engine.
	Dest string
	// Directory: Dest is a directory (local; oci and docker with tar=false).
	Directory bool
	// Names are the image's names, normalised: registry, repository and tag (no tag with push-by-digest). May be empty.
	Names []string
	Image ImageOptions
	Files FilesOptions
}

// ImageOptions shape an image and its way to a registry.
type ImageOptions struct {
	Push          bool
	PushByDigest  bool // push without a tag; Names have none
	NameCanonical bool // also report name@digest
	Insecure      bool // registry.insecure: plain HTTP or unverified TLS
	DockerTypes   bool // oci-mediatypes=false: Docker's media types

	Compression      string // gzip, zstd, uncompressed; empty: not said
	CompressionLevel *int   // gzip 0 to 9, zstd 0 to 22
	ForceCompression bool   // recompress the base's layers too

	RewriteTimestamp bool // no file of a new layer is younger than the source date
	Epoch            Epoch
	Annotations      []Annotation
}

// Epoch is the source-date-epoch attribute.
type Epoch struct {
	Given bool       // false: the build's own
	Time  *time.Time // UTC; nil with Given: none, whatever the build says
}

// FilesOptions shape files taken out of the result.
type FilesOptions struct {
	Split *bool // platform-split: a directory per platform; nil: when there are several
	Epoch Epoch
}

// Outputs parses -o/--output: type=TYPE,key=value,… as one line of CSV, PATH for type=local,dest=PATH, or "-" for a tar of the files on
// standard output. More than one output on standard output is an error.
func Outputs(values []string) ([]Output, error) {
	f := flag{"--output", "type=oci,dest=image.tar"}
	var list []Output
	var toStdout bool
	for _, value := range values {
		o, err := f.output(value)
		if err != nil {
			return nil, err
		}
		if o.Dest == Stdout {
			if toStdout {
				return nil, f.errorf(value, "only one output can go to standard output")
			}
			toStdout = true
		}
		list = append(list, o)
	}
	return list, nil
}

func (f flag) output(value string) (Output, error) {
	if o, ok, err := f.shorthand(value); ok || err != nil {
		return o, err
	}
	list, err := f.pairs(value)
	if err != nil {
		return Output{}, err
	}
	p := outputParser{flag: f, value: value}
	for _, a := range list {
		if a.key == "type" {
			p.typ = a.value
		}
	}
	if err := p.begin(); err != nil {
		return Output{}, err
	}
	for _, a := range list {
		if err := p.set(a.key, a.value); err != nil {
			return Output{}, err
		}
	}
	return p.end()
}

// forgottenType matches what is rather a list of attributes than the path of a directory.
var forgottenType = regexp.MustCompile(`^(type|dest|name|push)=`)

// shorthand parses PATH and "-".
func (f flag) shorthand(value string) (Output, bool, error) {
	if strings.TrimSpace(value) == "" {
		return Output{}, false, f.errorf(value, "want a path or type=TYPE")
	}
	fields, err := csvvalue.Fields(value, nil)
	switch {
	case err != nil:
		return Output{}, false, f.errorf(value, "not a list of comma-separated fields: %v", err)
	case len(fields) != 1 || fields[0] != value || forgottenType.MatchString(value):
		return Output{}, false, nil
	case value == Stdout:
		return Output{Type: OutputTar, Dest: Stdout}, true, nil
	}
	return Output{Type: OutputLocal, Dest: value, Directory: true}, true, nil
}

// Push is the output that --push stands for: -o type=registry.
func Push() Output { return Output{Type: OutputImage, Image: ImageOptions{Push: true}} }
