package flags

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func FuzzOutputs(f *testing.F) {
	fuzz(f, "--output", Outputs, func(t *testing.T, list []Output) {
		o := list[0]
		if o.Type == "" || o.Directory && (o.Dest == "" || o.Dest == Stdout) {
			t.Fatalf("impossible output %+v", o)
		}
		for _, name := range o.Names {
			if _, err := reference.ParseNamed(name); err != nil {
				t.Fatalf("name %q is not canonical: %v", name, err)
			}
		}
	}, "-", "out", "type=oci,dest=a,tar=false", `type=image,"name=a,b",push=true`, "type=image,annotation-index.a=b", "type=tar,source-date-epoch=")
}

func FuzzSecrets(f *testing.F) {
	parse := func(v []string) ([]Secret, error) { return Secrets(v, environment("A=b")) }
	fuzz(f, "--secret", parse, func(t *testing.T, list []Secret) {
		if s := list[0]; s.ID == "" || (s.File == "") == (s.Env == "") {
			t.Fatalf("impossible secret %+v", s)
		}
	}, "id=a", "id=a,src=b", "id=a,env=B", "type=env,id=a")
}

func FuzzAnnotations(f *testing.F) {
	fuzz(f, "--annotation", Annotations, func(t *testing.T, list []Annotation) {
		for _, a := range list {
			if a.Key == "" || a.Target == "" || a.Platform != nil && strings.HasPrefix(string(a.Target), "index") {
				t.Fatalf("impossible annotation %+v", a)
			}
		}
	}, "a=b", "index,manifest[linux/arm64]:a=b", "manifest-descriptor:a=")
}

func FuzzAddHosts(f *testing.F) {
	fuzz(f, "--add-host", AddHosts, func(t *testing.T, list []Host) {
		for _, h := range list {
			if strings.ContainsAny(h.Name, " \t\r\n#") || !h.Gateway && !h.Address.IsValid() {
				t.Fatalf("impossible host %+v", h)
			}
		}
	}, "a=1.2.3.4", "a:[::1]", "a=host-gateway", "a=1.1.1.1,::2")
}

func FuzzBuildContexts(f *testing.F) {
	fuzz(f, "--build-context", BuildContexts, func(t *testing.T, m map[string]Context) {
		for name, c := range m {
			if name == "" || c.Kind == "" || c.Value == "" {
				t.Fatalf("impossible context %q %+v", name, c)
			}
		}
	}, "a=b", "a=docker-image://b", "a=oci-layout://b", "a=https://h/r.git#x:y", "a=git@h:r")
}

func FuzzPlatforms(f *testing.F) {
	fuzz(f, "--platform", parsePlatforms(environment()), func(t *testing.T, r platformsResult) {
		for _, p := range r.List {
			if p.OS == "" || p.Architecture == "" {
				t.Fatalf("impossible platform %+v", p)
			}
		}
	}, "linux/amd64,linux/arm64", "local", "arm", "windows(10.0)/amd64")
}

func FuzzTags(f *testing.F) {
	fuzz(f, "--tag", Tags, func(t *testing.T, names []string) {
		again, err := Tags(names)
		if err != nil || again[0] != names[0] {
			t.Fatalf("%q is not canonical: %q, %v", names[0], again, err)
		}
	}, "a", "h:5000/a:b", "A")
}

// FuzzSmall holds the parsers of one value and of simple pairs to their errors.
func FuzzSmall(f *testing.F) {
	for _, s := range []string{"", "a=b", "=", "nofile=1:2", "64m", "arm64=/q", "default=/sock", "network.host", "true"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		v := []string{value}
		for name, parse := range map[string]func() error{
			"--build-arg":            func() error { _, err := BuildArgs(v, environment()); return err },
			"--label":                func() error { _, err := Labels(v); return err },
			"--ulimit":               func() error { _, err := Ulimits(v); return err },
			"--shm-size":             func() error { _, err := ShmSize(value); return err },
			"--ssh":                  func() error { _, err := SSHs(v, environment()); return err },
			"--allow":                func() error { _, err := Allow(v); return err },
			"--network":              func() error { _, err := Network(value); return err },
			"--registry-certificate": func() error { _, err := RegistryCertificates(v); return err },
		} {
			if err := parse(); err != nil && !strings.HasPrefix(err.Error(), name+" ") {
				t.Fatalf("%q: error %v does not begin with %s", value, err, name)
			}
		}
	})
}
