package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// Files is a keychain that looks into the credential files of Docker and of
// Podman, in order, and into the credential helpers they name. The first entry
// that fits wins. A missing file is no error, a damaged one is.
type Files []string

// DefaultFiles lists where credentials are looked for, given the environment:
// $REGISTRY_AUTH_FILE, Docker's config.json ($DOCKER_CONFIG or ~/.docker),
// Podman's auth.json ($XDG_RUNTIME_DIR, then $XDG_CONFIG_HOME or ~/.config).
func DefaultFiles(getenv func(string) string) Files {
	var files Files
	add := func(dir string, rest ...string) {
		if dir != "" {
			files = append(files, filepath.Join(append([]string{dir}, rest...)...))
		}
	}
	home := getenv("HOME")
	add(getenv("REGISTRY_AUTH_FILE"))
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	add(getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	return files
}

// String lists the files, for messages.
func (f Files) String() string { return strings.Join(f, ", ") }

// Resolve returns the credentials for target, or authn.Anonymous.
func (f Files) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return f.ResolveContext(context.Background(), target)
}

// ResolveContext is Resolve; helpers are run anew each time, so that credentials
// they renew are seen.
func (f Files) ResolveContext(_ context.Context, target authn.Resource) (authn.Authenticator, error) {
	loaded := 0
	for _, name := range f {
		cfg, err := load(name)
		if err != nil {
			return nil, err
		}
		if cfg == nil {
			continue
		}
		loaded++
		if found, err := lookup(cfg, target); err != nil || found != nil {
			return found, err
		}
	}
	if loaded > 0 {
		return authn.Anonymous, nil
	}
	// Without any file, Docker's own lookup still honours $DOCKER_AUTH_CONFIG.
	found, err := lookup(configfile.New(""), target)
	if err != nil || found != nil {
		return found, err
	}
	return authn.Anonymous, nil
}

func load(name string) (*configfile.ConfigFile, error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	defer file.Close()
	cfg, err := config.LoadFromReader(file)
	if err != nil {
		return nil, fmt.Errorf("credentials: %s: not a Docker config file", name) // the cause may quote secrets
	}
	return cfg, nil
}

// lookup asks for the most specific entry first: Podman keys entries by
// repository and by any path above it, Docker by host or by the address of an
// API on it.
func lookup(cfg *configfile.ConfigFile, target authn.Resource) (authn.Authenticator, error) {
	host := target.RegistryStr()
	for key := target.String(); ; key = key[:strings.LastIndex(key, "/")] {
		if found := authenticator(cfg.AuthConfigs[key]); found != nil {
			return found, nil
		}
		if !strings.Contains(key, "/") {
			break
		}
	}
	// Docker's lookup takes any entry whose address begins with the host.
	maps.DeleteFunc(cfg.AuthConfigs, func(key string, _ types.AuthConfig) bool { return isPath(key) })
	key := host
	if host == hub {
		key = authn.DefaultAuthKey
	}
	entry, err := cfg.GetAuthConfig(key)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %s", host, clean(err.Error()))
	}
	return authenticator(entry), nil
}

// isPath reports whether a key stands for a part of a host only.
func isPath(key string) bool {
	if _, after, ok := strings.Cut(key, "://"); ok {
		key = after
	}
	_, path, _ := strings.Cut(strings.Trim(key, "/"), "/")
	return path != "" && path != "v1" && path != "v2"
}

// authenticator is nil for an empty entry.
func authenticator(entry types.AuthConfig) authn.Authenticator {
	entry.ServerAddress = ""
	if entry == (types.AuthConfig{}) {
		return nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username:      entry.Username,
		Password:      entry.Password,
		Auth:          entry.Auth,
		IdentityToken: entry.IdentityToken,
		RegistryToken: entry.RegistryToken,
	})
}

// hub is the name Docker Hub goes by in references.
const hub = "docker.io"

// resource is a repository as keychains want it.
type resource struct{ host, repository string }

func (r resource) RegistryStr() string { return r.host }
func (r resource) String() string      { return r.host + "/" + r.repository }
