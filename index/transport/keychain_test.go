package transport

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func auths(entries ...string) string {
	var parts []string
	for i := 0; i < len(entries); i += 2 {
		parts = append(parts, `"`+entries[i]+`":{"auth":"`+base64.StdEncoding.EncodeToString([]byte(entries[i+1]))+`"}`)
	}
	return `{"auths":{` + strings.Join(parts, ",") + `}}`
}

func TestFilesFindTheMostSpecificEntryOfTheFirstFileThatHasOne(t *testing.T) {
	t.Setenv("DOCKER_AUTH_CONFIG", "")
	docker := write(t, auths("registry.example", "host:h", "registry.example:5000", "port:p", "https://index.docker.io/v1/", "hub:h"))
	podman := write(t, auths("registry.example", "second:s", "quay.io/team", "team:t", "quay.io/team/app", "app:a", "docker.io", "other:o"))
	for name, test := range map[string]struct {
		files            Files
		host, repository string
		want             string
	}{
		"host":                     {Files{docker}, "registry.example", "a/b", "host"},
		"host with port":           {Files{docker}, "registry.example:5000", "a", "port"},
		"docker hub":               {Files{docker}, "docker.io", "library/busybox", "hub"},
		"podman's name of the hub": {Files{podman}, "docker.io", "library/busybox", "other"},
		"first file wins":          {Files{docker, podman}, "registry.example", "a", "host"},
		"later file has it":        {Files{docker, podman}, "quay.io", "team/tool", "team"},
		"most specific path":       {Files{podman}, "quay.io", "team/app", "app"},
		"path of somebody else":    {Files{podman}, "quay.io", "teammate/app", ""},
		"missing file":             {Files{"/nonexistent/x.json", docker}, "registry.example", "a", "host"},
		"nobody":                   {Files{docker}, "unknown.example", "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			auth, err := test.files.Resolve(resource{test.host, test.repository})
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := auth.Authorization()
			if err != nil || cfg.Username != test.want {
				t.Errorf("got user %q (%v), want %q", cfg.Username, err, test.want)
			}
		})
	}
}

func TestFilesAskCredentialHelpers(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nread host\nif [ \"$host\" = registry.example ]; then echo '{\"Username\":\"helped\",\"Secret\":\"s\"}'; else echo 'credentials not found in native keychain'; exit 1; fi\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-mine"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_AUTH_CONFIG", "")
	files := Files{write(t, `{"credsStore":"mine"}`)}
	for host, want := range map[string]string{"registry.example": "helped", "other.example": ""} {
		auth, err := files.Resolve(resource{host, "a"})
		if err != nil {
			t.Fatal(err)
		}
		if cfg, err := auth.Authorization(); err != nil || cfg.Username != want {
			t.Errorf("%s: got user %q (%v), want %q", host, cfg.Username, err, want)
		}
	}
}

func TestDamagedFileIsAnErrorThatDoesNotQuoteIt(t *testing.T) {
	_, err := Files{write(t, `{"auths":{"x":{"auth":"hunter2hunter2"}}`)}.Resolve(resource{"x", "a"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestDefaultFiles(t *testing.T) {
	env := map[string]string{"HOME": "/home/u", "REGISTRY_AUTH_FILE": "/r.json", "XDG_RUNTIME_DIR": "/run/u"}
	get := func(k string) string { return env[k] }
	want := Files{"/r.json", "/home/u/.docker/config.json", "/run/u/containers/auth.json", "/home/u/.config/containers/auth.json"}
	if got := DefaultFiles(get); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	env["DOCKER_CONFIG"] = "/kaniko/.docker"
	if got := DefaultFiles(get); got[1] != "/kaniko/.docker/config.json" {
		t.Errorf("with DOCKER_CONFIG: got %v", got)
	}
	if got := DefaultFiles(func(string) string { return "" }); got != nil {
		t.Errorf("empty environment: got %v, want nothing", got)
	}
}

var _ authn.ContextKeychain = Files(nil)
