package index

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// These tests let other programs judge: the distribution project's registry and
// skopeo. They are skipped where those are not installed.

func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("needs one of %v in PATH", names)
	return ""
}

// distribution starts a real registry and returns its host:port.
func distribution(t *testing.T) string {
	t.Helper()
	path := program(t, "docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close() // the registry wants to listen itself
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "serve", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Skipf("%s does not start: %v", path, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Skipf("%s does not answer: %s", path, log.String())
		}
	}
}

func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	path := program(t, "skopeo")
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_RUNTIME_DIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// policyFree lets skopeo copy without a policy file.
const policyFree = "--insecure-policy"

func TestRealRegistryTakesAndReturnsWhatWePush(t *testing.T) {
	host := distribution(t)
	for name, docker := range map[string]bool{"oci": false, "docker": true} {
		t.Run(name, func(t *testing.T) {
			shared := testLayer(t, "shared", bytes.Repeat([]byte("shared"), 1<<16))
			x := compose2(t, ComposeOptions{DockerTypes: docker},
				testImage(t, "linux/amd64", shared, testLayer(t, "a", []byte(name))),
				testImage(t, "linux/arm/v7", shared))
			names := []string{host + "/" + name + "/app:1", host + "/" + name + "/app:latest", host + "/" + name + "/copy:1"}
			last := map[digest.Digest]State{}
			if err := registry(t, RegistryOptions{}).Push(t.Context(), x, names, states(last)); err != nil {
				t.Fatal(err)
			}
			if last[shared.Digest] != Mounted {
				t.Errorf("second repository: layer was %s, want mounted", last[shared.Digest])
			}
			for _, ref := range names {
				got, err := registry(t, RegistryOptions{}).Pull(t.Context(), ref, platform("linux/arm/v7"))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(got.Ref, x.Manifests()[1].Digest.String()) || digest.FromBytes(readAll(t, got.Layers[0].Open)) != shared.Digest {
					t.Errorf("%s: got %s", ref, got.Ref)
				}
			}
		})
	}
	_, err := registry(t, RegistryOptions{}).Pull(t.Context(), host+"/oci/app:2", platform("linux/amd64"))
	if err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
		t.Errorf("unknown tag: got %v", err)
	}
}

func TestRealRegistryAsMirrorOfDockerHub(t *testing.T) {
	host := distribution(t)
	x := twoPlatforms(t)
	if err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{host + "/library/busybox"}, nil); err != nil {
		t.Fatal(err)
	}
	m, err := ParseMirror("docker.io=http://" + host)
	if err != nil {
		t.Fatal(err)
	}
	got, err := registry(t, RegistryOptions{Mirrors: []Mirror{m}}).Pull(t.Context(), "busybox", platform("linux/arm64"))
	if err != nil || !strings.HasPrefix(got.Ref, "docker.io/library/busybox:latest@sha256:") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSkopeoReadsWhatWePush(t *testing.T) {
	program(t, "skopeo")
	host := distribution(t)
	x := twoPlatforms(t)
	if err := registry(t, RegistryOptions{}).Push(t.Context(), x, []string{host + "/app:1"}, nil); err != nil {
		t.Fatal(err)
	}
	raw := skopeo(t, "inspect", "--raw", "--tls-verify=false", "docker://"+host+"/app:1")
	if digest.FromBytes(raw) != x.Descriptor().Digest {
		t.Errorf("skopeo reads other bytes: %s", raw)
	}
	// Every blob of every platform, checked by skopeo on the way.
	skopeo(t, policyFree, "copy", "--all", "--src-tls-verify=false", "docker://"+host+"/app:1", "oci:"+filepath.Join(t.TempDir(), "out")+":1")
}

func TestSkopeoReadsLayoutsAndArchives(t *testing.T) {
	program(t, "skopeo")
	image := testImage(t, "linux/amd64", testLayer(t, "a", []byte("x")))
	x := compose2(t, ComposeOptions{}, image)
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	if err := twoPlatforms(t).WriteLayout(t.Context(), layout, []string{"example.com/app:v2"}); err != nil {
		t.Fatal(err)
	}
	skopeo(t, policyFree, "copy", "--all", "oci:"+layout+":v2", "oci:"+filepath.Join(dir, "copy")+":v2")
	for kind, write := range map[string]func(*os.File) error{
		"oci-archive":    func(f *os.File) error { return x.WriteTar(t.Context(), f, []string{"example.com/app:v2"}) },
		"docker-archive": func(f *os.File) error { return x.WriteDockerArchive(t.Context(), f, []string{"example.com/app:v2"}) },
	} {
		name := filepath.Join(dir, kind)
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		config := skopeo(t, "inspect", "--raw", "--config", kind+":"+name)
		if !bytes.Equal(config, image.Config) {
			t.Errorf("%s: config is %s", kind, config)
		}
		skopeo(t, policyFree, "copy", kind+":"+name, "oci:"+filepath.Join(dir, "from-"+kind))
	}
}

func TestWeReadWhatSkopeoWrites(t *testing.T) {
	program(t, "skopeo")
	x := twoPlatforms(t)
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	if err := x.WriteLayout(t.Context(), layout, nil); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copied")
	skopeo(t, policyFree, "copy", "--all", "oci:"+layout, "oci:"+copied+":some")
	archive := filepath.Join(dir, "copied.tar")
	skopeo(t, policyFree, "copy", "--all", "oci:"+layout, "oci-archive:"+archive+":some")
	for _, place := range []string{copied, archive} {
		for _, name := range []string{"", "some"} {
			got, err := PullLayout(place, name, platform("linux/arm64"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Platform.Architecture != "arm64" {
				t.Errorf("got %v", got.Platform)
			}
			readAll(t, got.Layers[1].Open)
		}
	}
	var top ocispec.Index
	data, err := os.ReadFile(filepath.Join(copied, "index.json"))
	if err != nil || json.Unmarshal(data, &top) != nil || top.Manifests[0].Digest != x.Descriptor().Digest {
		t.Errorf("the copy has another digest: %s", data)
	}
}
