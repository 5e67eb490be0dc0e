package flags

import (
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestOutputs(t *testing.T) {
	arm64 := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	epoch := Epoch{true, ptr(time.Unix(1700000000, 0).UTC())}
	check(t, "--output", Outputs, []row[[]Output]{
		{"a path is a directory of files", []string{"out/x y"}, []Output{{Type: OutputLocal, Dest: "out/x y", Directory: true}}, ""},
		{"a dash is a tar on standard output", []string{"-"}, []Output{{Type: OutputTar, Dest: "-"}}, ""},
		{"local", []string{"type=local,dest=out,platform-split=false,mode=copy"},
			[]Output{{Type: OutputLocal, Dest: "out", Directory: true, Files: FilesOptions{Split: ptr(false)}}}, ""},
		{"tar", []string{"type=tar,dest=o.tar"}, []Output{{Type: OutputTar, Dest: "o.tar"}}, ""},
		{"oci as a tar on standard output", []string{"type=oci"}, []Output{{Type: OutputOCI, Dest: "-"}}, ""},
		{"oci as a directory", []string{"type=oci,dest=d,tar=false,name=a"},
			[]Output{{Type: OutputOCI, Dest: "d", Directory: true, Names: []string{"docker.io/library/a:latest"}}}, ""},
		{"docker without destination is for an engine", []string{"type=docker"}, []Output{{Type: OutputDocker}}, ""},
		{"registry is image with push", []string{"type=registry"}, []Output{Push()}, ""},
		{"push can be taken back", []string{"type=registry,push=false"}, []Output{{Type: OutputImage}}, ""},
		{"BuildKit's spelling of push", []string{"type=image,push=true,unpack=false"}, []Output{Push()}, ""},
		{"several names are quoted", []string{`type=image,"name=a:1,h.io/b",push=true`},
			[]Output{{Type: OutputImage, Names: []string{"docker.io/library/a:1", "h.io/b:latest"}, Image: ImageOptions{Push: true}}}, ""},
		{"push by digest has no tag", []string{"type=image,name=h.io/b,push-by-digest=true,name-canonical=true,push=true,registry.insecure=true"},
			[]Output{{Type: OutputImage, Names: []string{"h.io/b"}, Image: ImageOptions{Push: true, PushByDigest: true, NameCanonical: true, Insecure: true}}}, ""},
		{"compression", []string{"type=image,compression=zstd,compression-level=22,force-compression=true"},
			[]Output{{Type: OutputImage, Image: ImageOptions{Compression: "zstd", CompressionLevel: ptr(22), ForceCompression: true}}}, ""},
		{"dates", []string{"type=oci,rewrite-timestamp=true,source-date-epoch=1700000000"},
			[]Output{{Type: OutputOCI, Dest: "-", Image: ImageOptions{RewriteTimestamp: true, Epoch: epoch}}}, ""},
		{"an empty date is none", []string{"type=tar,source-date-epoch="}, []Output{{Type: OutputTar, Dest: "-", Files: FilesOptions{Epoch: Epoch{Given: true}}}}, ""},
		{"annotations keep the case of their key", []string{"type=image,annotation.K.x=v,annotation-index.b=w,annotation-manifest[linux/arm64].c=z"},
			[]Output{{Type: OutputImage, Image: ImageOptions{Annotations: []Annotation{
				{OnManifest, nil, "K.x", "v"}, {OnIndex, nil, "b", "w"}, {OnManifest, arm64, "c", "z"}}}}}, ""},
		{"media types", []string{"type=image,oci-mediatypes=false"}, []Output{{Type: OutputImage, Image: ImageOptions{DockerTypes: true}}}, ""},
		{"cacheonly", []string{"type=cacheonly"}, []Output{{Type: OutputCacheOnly}}, ""},
		{"several outputs", []string{"a", "b"}, []Output{{Type: OutputLocal, Dest: "a", Directory: true}, {Type: OutputLocal, Dest: "b", Directory: true}}, ""},

		{"one standard output", []string{"-", "type=oci"}, nil, "only one output"},
		{"an empty value", []string{""}, nil, "want a path"},
		{"a type is needed", []string{"dest=x"}, nil, "type is missing"},
		{"a path with a comma needs its type", []string{"a,b"}, nil, "key=value"},
		{"unknown types are named", []string{"type=rootfs"}, nil, `unknown type "rootfs"`},
		{"unknown attributes are named, with the choice", []string{"type=tar,dst=x"}, nil, `type tar has no attribute "dst": it has dest, platform-split`},
		{"attributes belong to types", []string{"type=oci,push=true"}, nil, `type oci has no attribute "push"`},
		{"cacheonly has none", []string{"type=cacheonly,dest=x"}, nil, `type cacheonly has no attribute "dest"`},
		{"files have no annotations", []string{"type=local,dest=x,annotation.a=b"}, nil, `no attribute "annotation.a"`},
		{"known but missing attributes are refused by name", []string{"type=image,dangling-name-prefix=x"}, nil, "attribute dangling-name-prefix is not supported"},
		{"known but missing values are refused by name", []string{"type=image,unpack=true"}, nil, "unpack=true is not supported"},
		{"known but missing modes are refused by name", []string{"type=local,dest=x,mode=delete"}, nil, "mode=delete is not supported"},
		{"known but missing compressions are refused by name", []string{"type=image,compression=estargz"}, nil, "compression estargz is not supported"},
		{"unknown compressions", []string{"type=image,compression=lzma"}, nil, `unknown compression "lzma"`},
		{"gzip levels go to 9", []string{"type=image,compression-level=10"}, nil, "want 0 to 9"},
		{"levels are numbers", []string{"type=image,compression-level=-1"}, nil, "want a number"},
		{"zstd is not for Docker's types", []string{"type=image,compression=zstd,oci-mediatypes=false"}, nil, "no zstd"},
		{"switches are checked", []string{"type=image,push=yes!"}, nil, "push is \"yes!\", want true or false"},
		{"dates are checked", []string{"type=oci,source-date-epoch=yesterday"}, nil, "want seconds"},
		{"dates have four digits of year", []string{"type=oci,source-date-epoch=99999999999999"}, nil, "want seconds"},
		{"a directory needs a destination", []string{"type=local"}, nil, "needs dest=DIRECTORY"},
		{"a layout directory needs a destination", []string{"type=oci,tar=false"}, nil, "needs dest=DIRECTORY"},
		{"a directory is no stream", []string{"type=oci,tar=false,dest=-"}, nil, "cannot go to standard output"},
		{"push by digest refuses tags", []string{"type=image,name=a:1,push-by-digest=true"}, nil, "has a tag"},
		{"names are checked", []string{"type=image,name=a b"}, nil, "not an image name"},
		{"attributes differ", []string{"type=image,name=a,name=b"}, nil, "name is given twice"},
		{"annotation targets are checked", []string{"type=image,annotation-layer.a=b"}, nil, `unknown target "layer"`},
	})
}
