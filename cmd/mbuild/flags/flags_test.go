package flags

import (
	"net/netip"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestErrorNamesFlagValueAndExample(t *testing.T) {
	_, err := Network("bridge")
	want := `--network "bridge": unknown network: want default, none or host (example: --network none)`
	if err == nil || err.Error() != want {
		t.Fatalf("got %v\nwant %s", err, want)
	}
	_, err = Progress("", environment("BUILDKIT_PROGRESS=loud"))
	want = `BUILDKIT_PROGRESS "loud": unknown display: want auto, plain, tty, quiet, none or rawjson (example: BUILDKIT_PROGRESS=plain)`
	if err == nil || err.Error() != want {
		t.Fatalf("got %v\nwant %s", err, want)
	}
	_, err = Network(strings.Repeat("é", 1000))
	if len(err.Error()) > 400 {
		t.Fatalf("error of %d bytes for a long value", len(err.Error()))
	}
}

var host = ocispec.Platform{OS: "linux", Architecture: "x86_64"}

type platformsResult struct {
	List       []ocispec.Platform
	Duplicates []string
}

func parsePlatforms(lookup Lookup) func([]string) (platformsResult, error) {
	return func(values []string) (platformsResult, error) {
		list, duplicates, err := Platforms(values, lookup, host)
		return platformsResult{list, duplicates}, err
	}
}

func TestPlatforms(t *testing.T) {
	amd64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	armv7 := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	list := func(p ...ocispec.Platform) platformsResult { return platformsResult{List: p} }
	check(t, "--platform", parsePlatforms(environment("DOCKER_DEFAULT_PLATFORM=linux/s390x")), []row[platformsResult]{
		{"commas and repeats add up in order", []string{"linux/arm64,linux/amd64", "linux/arm/v7"}, list(arm64, amd64, armv7), ""},
		{"aliases are normalised", []string{"linux/aarch64, linux/x86_64"}, list(arm64, amd64), ""},
		{"arm has variant v7 if none is given", []string{"linux/arm"}, list(armv7), ""},
		{"local is the host", []string{"local"}, list(amd64), ""},
		{"duplicates are reported as written", []string{"linux/arm64,linux/arm64/v8", "local,linux/amd64"},
			platformsResult{[]ocispec.Platform{arm64, amd64}, []string{"linux/arm64/v8", "linux/amd64"}}, ""},
		{"the flag goes before the variable", []string{"linux/arm64"}, list(arm64), ""},
		{"the variable counts without a flag", nil, list(ocispec.Platform{OS: "linux", Architecture: "s390x"}), ""},
		{"an empty item is an error", []string{"linux/arm64,"}, platformsResult{}, "a platform is missing"},
		{"garbage is an error", []string{"linux/a/b/c/d"}, platformsResult{}, "not a platform"},
	})
	check(t, "DOCKER_DEFAULT_PLATFORM", parsePlatforms(environment("DOCKER_DEFAULT_PLATFORM=a/b/c/d")), []row[platformsResult]{
		{"the variable's error names the variable", nil, platformsResult{}, "not a platform"},
	})
	check(t, "--platform", parsePlatforms(environment()), []row[platformsResult]{
		{"without anything it is the host", nil, list(amd64), ""},
	})
}

func TestBuildArgs(t *testing.T) {
	parse := func(values []string) (map[string]string, error) {
		return BuildArgs(values, environment("HOME=/root", "EMPTY="))
	}
	check(t, "--build-arg", parse, []row[map[string]string]{
		{"the value may hold anything", []string{"A=b=c,d e"}, map[string]string{"A": "b=c,d e"}, ""},
		{"the last one counts", []string{"A=1", "A=2"}, map[string]string{"A": "2"}, ""},
		{"a bare name takes the variable", []string{"HOME", "EMPTY"}, map[string]string{"HOME": "/root", "EMPTY": ""}, ""},
		{"a bare name without variable is dropped", []string{"NOPE"}, map[string]string{}, ""},
		{"an empty value stays", []string{"A="}, map[string]string{"A": ""}, ""},
		{"a name is needed", []string{"=x"}, nil, "has no name"},
	})
}

func TestLabels(t *testing.T) {
	check(t, "--label", Labels, []row[map[string]string]{
		{"a bare key is empty", []string{"a", "b=c"}, map[string]string{"a": "", "b": "c"}, ""},
		{"a key is needed", []string{"=c"}, nil, "has no key"},
	})
}

func TestAnnotations(t *testing.T) {
	arm64 := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	check(t, "--annotation", Annotations, []row[[]Annotation]{
		{"without target it is the manifest's", []string{"k=v=w"}, []Annotation{{OnManifest, nil, "k", "v=w"}}, ""},
		{"a colon in the value is no target", []string{"url=https://x"}, []Annotation{{OnManifest, nil, "url", "https://x"}}, ""},
		{"several targets", []string{"index,manifest-descriptor:k=v"}, []Annotation{{OnIndex, nil, "k", "v"}, {OnManifestDescriptor, nil, "k", "v"}}, ""},
		{"a target's platform", []string{"manifest[linux/arm64/v8],index-descriptor:k="}, []Annotation{{OnManifest, arm64, "k", ""}, {OnIndexDescriptor, nil, "k", ""}}, ""},
		{"a value is needed", []string{"k"}, nil, "want KEY=VALUE"},
		{"a key is needed", []string{"index:=v"}, nil, "has no key"},
		{"unknown targets are named", []string{"layer:k=v"}, nil, `unknown target "layer"`},
		{"an index has no platform", []string{"index[linux/arm64]:k=v"}, nil, "the index belongs to no platform"},
		{"a platform must be one", []string{"manifest[a/b/c/d]:k=v"}, nil, "not a platform"},
		{"brackets must close", []string{"manifest[linux:k=v"}, nil, "is not a target"},
	})
}

func TestBuildContexts(t *testing.T) {
	type m = map[string]Context
	check(t, "--build-context", BuildContexts, []row[m]{
		{"a directory", []string{"src=../src"}, m{"src": {ContextLocal, "../src"}}, ""},
		{"an image, under a normalised name", []string{"docker.io/library/alpine:latest=docker-image://alpine:3.21"}, m{"alpine": {ContextImage, "alpine:3.21"}}, ""},
		{"a tag that is not latest stays in the name", []string{"alpine:3=docker-image://x@sha256:" + strings.Repeat("0", 64)}, m{"alpine:3": {ContextImage, "x@sha256:" + strings.Repeat("0", 64)}}, ""},
		{"a layout", []string{"b=oci-layout://./dir:tag"}, m{"b": {ContextLayout, "./dir:tag"}}, ""},
		{"git by suffix", []string{"g=https://h/r.git#v1:sub"}, m{"g": {ContextGit, "https://h/r.git#v1:sub"}}, ""},
		{"git by scheme, by user and by GitHub's name", []string{"a=git://h/r", "b=git@h:r", "c=github.com/u/r"}, m{"a": {ContextGit, "git://h/r"}, "b": {ContextGit, "git@h:r"}, "c": {ContextGit, "github.com/u/r"}}, ""},
		{"a web server", []string{"w=https://h/x.tar.gz"}, m{"w": {ContextHTTP, "https://h/x.tar.gz"}}, ""},
		{"the last one counts", []string{"a=x", "a=y"}, m{"a": {ContextLocal, "y"}}, ""},
		{"a value is needed", []string{"a"}, nil, "want NAME=VALUE"},
		{"a value must not be empty", []string{"a="}, nil, "want NAME=VALUE"},
		{"a name must look like an image's", []string{"a b=c"}, nil, "cannot name a context"},
		{"scratch is reserved", []string{"scratch=x"}, nil, "reserved"},
		{"context is reserved", []string{"context=x"}, nil, "reserved"},
		{"image references are checked", []string{"a=docker-image://A B"}, nil, "not an image reference"},
		{"unknown schemes are named", []string{"a=s3://b"}, nil, "unknown scheme s3://"},
		{"targets are for bake", []string{"a=target:b"}, nil, "bake files"},
		{"stdin is refused", []string{"a=-"}, nil, "standard input"},
	})
}

func TestMainContext(t *testing.T) {
	for value, kind := range map[string]ContextKind{
		".": ContextLocal, "-": ContextStdin, "/a:b/c": ContextLocal, "https://h/r.git": ContextGit, "https://h/r.git?ref=x": ContextGit,
		"http://h/Dockerfile": ContextHTTP, "ssh://git@h/r": ContextGit, "C:x": ContextLocal, "github.com": ContextLocal,
	} {
		if got := MainContext(value); got != (Context{kind, value}) {
			t.Errorf("%q: got %v, want %s", value, got, kind)
		}
	}
}

func TestSecrets(t *testing.T) {
	parse := func(values []string) ([]Secret, error) { return Secrets(values, environment("TOKEN=x")) }
	check(t, "--secret", parse, []row[[]Secret]{
		{"a file", []string{"id=a,src=f"}, []Secret{{"a", "f", ""}}, ""},
		{"source is src", []string{"ID=a,Source=f"}, []Secret{{"a", "f", ""}}, ""},
		{"a quoted path with a comma", []string{`id=a,"src=f,g"`}, []Secret{{"a", "f,g", ""}}, ""},
		{"a variable", []string{"id=a,env=B"}, []Secret{{"a", "", "B"}}, ""},
		{"type=env makes src a variable", []string{"type=env,id=a,src=B"}, []Secret{{"a", "", "B"}}, ""},
		{"type=env alone is the id's variable", []string{"type=env,id=a"}, []Secret{{"a", "", "a"}}, ""},
		{"an id that is a variable is that", []string{"id=TOKEN"}, []Secret{{"TOKEN", "", "TOKEN"}}, ""},
		{"an id that is no variable is a file", []string{"id=f.txt"}, []Secret{{"f.txt", "f.txt", ""}}, ""},
		{"type=file looks at no variable", []string{"type=file,id=TOKEN"}, []Secret{{"TOKEN", "TOKEN", ""}}, ""},
		{"an id is needed", []string{"src=f"}, nil, "id is missing"},
		{"both is too much", []string{"id=a,src=f,env=E"}, nil, "not both"},
		{"a file is no variable", []string{"id=a,type=file,env=E"}, nil, "not both"},
		{"unknown attributes are named", []string{"id=a,mode=0400"}, nil, `unknown attribute "mode"`},
		{"unknown types are named", []string{"id=a,type=vault"}, nil, `unknown type "vault"`},
		{"a bare field is an error", []string{"a"}, nil, "key=value"},
		{"ids differ", []string{"id=a,src=f", "id=a,src=g"}, nil, "given twice"},
		{"attributes differ", []string{"id=a,id=b"}, nil, "id is given twice"},
		{"quotes must close", []string{`id=a,"src=f`}, nil, "comma-separated"},
	})
}

func TestSSHs(t *testing.T) {
	parse := func(values []string) ([]SSH, error) { return SSHs(values, environment("SSH_AUTH_SOCK=/agent")) }
	check(t, "--ssh", parse, []row[[]SSH]{
		{"default is the agent", []string{"default"}, []SSH{{"default", []string{"/agent"}}}, ""},
		{"keys", []string{"k=a.pem,b.pem", "s=/sock"}, []SSH{{"k", []string{"a.pem", "b.pem"}}, {"s", []string{"/sock"}}}, ""},
		{"an id is needed", []string{"=x"}, nil, "want an id"},
		{"ids differ", []string{"a=x", "a=y"}, nil, "given twice"},
		{"no path is empty", []string{"a=x,"}, nil, "path is empty"},
	})
	check(t, "--ssh", func(v []string) ([]SSH, error) { return SSHs(v, environment()) }, []row[[]SSH]{
		{"without an agent default is an error", []string{"default"}, nil, "SSH_AUTH_SOCK is not set"},
	})
}

func TestAddHosts(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fe80::1")
	check(t, "--add-host", AddHosts, []row[[]Host]{
		{"colon and equals sign", []string{"a:10.0.0.7", "b=10.0.0.7"}, []Host{{"a", v4, false}, {"b", v4, false}}, ""},
		{"IPv6 with and without brackets", []string{"a:fe80::1", "b=[fe80::1]", "c:[fe80::1]"}, []Host{{"a", v6, false}, {"b", v6, false}, {"c", v6, false}}, ""},
		{"several addresses", []string{"a=10.0.0.7,fe80::1"}, []Host{{"a", v4, false}, {"a", v6, false}}, ""},
		{"the gateway", []string{"host.docker.internal:host-gateway"}, []Host{{"host.docker.internal", netip.Addr{}, true}}, ""},
		{"an address is needed", []string{"a"}, nil, "want NAME=ADDRESS"},
		{"an address must be one", []string{"a=b"}, nil, `"b" is not an IP address`},
		{"a zone is no address", []string{"a=fe80::1%eth0"}, nil, "not an IP address"},
		{"a name cannot smuggle a line into /etc/hosts", []string{"a\n10.0.0.1 b=10.0.0.7"}, nil, "not a host name"},
		{"a name cannot be a comment", []string{"#=10.0.0.7"}, nil, "not a host name"},
	})
}

func TestUlimits(t *testing.T) {
	check(t, "--ulimit", Ulimits, []row[[]Ulimit]{
		{"soft and hard", []string{"nofile=1:2", "core=0"}, []Ulimit{{"nofile", 1, 2}, {"core", 0, 0}}, ""},
		{"the last one counts", []string{"nofile=1", "core=0", "nofile=3"}, []Ulimit{{"nofile", 3, 3}, {"core", 0, 0}}, ""},
		{"-1 is no limit", []string{"memlock=-1"}, []Ulimit{{"memlock", -1, -1}}, ""},
		{"names are checked", []string{"files=1"}, nil, "files"},
		{"soft is not above hard", []string{"nofile=2:1"}, nil, "2"},
		{"less than -1 is nothing", []string{"nofile=-2:5"}, nil, "negative"},
	})
}

func TestShmSize(t *testing.T) {
	check(t, "--shm-size", one(ShmSize), []row[int64]{
		{"units are binary", []string{"64m"}, 64 << 20, ""},
		{"bytes", []string{"4096"}, 4096, ""},
		{"empty is the default", []string{""}, 0, ""},
		{"negative is an error", []string{"-1"}, 0, "not a size"},
		{"garbage is an error", []string{"big"}, 0, "not a size"},
	})
}

func TestRegistryCertificates(t *testing.T) {
	check(t, "--registry-certificate", RegistryCertificates, []row[[]Certificate]{
		{"host and path", []string{"h:5000=/a=b.pem"}, []Certificate{{"h:5000", "/a=b.pem"}}, ""},
		{"a path is needed", []string{"h="}, nil, "want HOST=PATH"},
		{"a host is needed", []string{"=/a"}, nil, "not a registry's host name"},
	})
}

func TestAllow(t *testing.T) {
	check(t, "--allow", Allow, []row[Entitlements]{
		{"both", []string{"network.host", "security.insecure"}, Entitlements{true, true}, ""},
		{"none", nil, Entitlements{}, ""},
		{"devices are refused by name", []string{"device=nvidia"}, Entitlements{}, "entitlement device is not supported"},
		{"unknown ones are errors", []string{"root"}, Entitlements{}, "unknown entitlement"},
		{"no value where none belongs", []string{"network.host=x"}, Entitlements{}, "unknown entitlement"},
	})
}

func TestProgress(t *testing.T) {
	parse := func(value string) (string, error) { return Progress(value, environment("BUILDKIT_PROGRESS=tty")) }
	check(t, "--progress", one(parse), []row[string]{
		{"the flag goes first", []string{"plain"}, "plain", ""},
		{"the variable is next", []string{""}, "tty", ""},
		{"unknown is an error", []string{"fancy"}, "", "unknown display"},
	})
	if got, err := Progress("", environment()); got != "auto" || err != nil {
		t.Errorf("got %q, %v, want auto", got, err)
	}
}

func TestTags(t *testing.T) {
	check(t, "--tag", Tags, []row[[]string]{
		{"names are completed", []string{"app", "h:5000/a/b:1"}, []string{"docker.io/library/app:latest", "h:5000/a/b:1"}, ""},
		{"the same name counts once", []string{"app", "docker.io/library/app:latest"}, []string{"docker.io/library/app:latest"}, ""},
		{"a digest is refused", []string{"a@sha256:" + strings.Repeat("0", 64)}, nil, "cannot have a digest"},
		{"capitals get a hint", []string{"Reg/App:V1"}, nil, `try "reg/app:v1"`},
		{"garbage is an error", []string{"a b"}, nil, "not an image name"},
	})
}
