package index

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"

	"mbuild/index/transport"
)

// RegistryOptions say how registries are reached. The zero value works: Docker's
// and Podman's credential files, TLS except for loopback hosts, no mirrors.
type RegistryOptions struct {
	Mirrors      []Mirror          // tried in order before the registry itself
	Insecure     []string          // hosts that may speak plain HTTP or have any certificate
	Certificates map[string]string // per host a PEM file of certificate authorities to trust as well
	Keychain     authn.Keychain    // nil: transport.DefaultFiles
	UserAgent    string            // empty: "mbuild"
	Retry        transport.Retry
	Parallel     int // blobs pushed to one host at a time; 0 stands for 4
}

// Mirror is another place for what belongs to a host. It is used for pulls only.
type Mirror struct {
	Host string // as in image names: "docker.io"
	URL  string // host[:port] or http(s)://host[:port], either with an optional path that goes before the repository
}

// ParseMirror reads HOST=URL. Without HOST= it is docker.io that is mirrored.
func ParseMirror(s string) (Mirror, error) {
	host, address, found := strings.Cut(s, "=")
	if !found {
		host, address = dockerHub, s
	}
	m := Mirror{Host: hostName(host), URL: address}
	if m.Host == "" {
		return m, fmt.Errorf("mirror %q: want HOST=URL", s)
	}
	_, err := m.origin()
	return m, err
}

// hostName gives the Docker Hub the name it has in normalised references.
func hostName(host string) string {
	switch host {
	case "index.docker.io", dockerHubAddress:
		return dockerHub
	}
	return host
}

// mirrorOrigin is where a mirror's URL points to.
type mirrorOrigin struct{ scheme, host, prefix string }

func (m Mirror) origin() (mirrorOrigin, error) {
	bad := func(why string) (mirrorOrigin, error) {
		return mirrorOrigin{}, fmt.Errorf("mirror %q of %s: %s", m.URL, m.Host, why)
	}
	address := m.URL
	if !strings.Contains(address, "://") {
		address = "//" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return bad("want [http[s]://]HOST[:PORT][/PATH]")
	case u.User != nil:
		return mirrorOrigin{}, fmt.Errorf("mirror %s of %s: credentials do not belong in its URL but in Docker's configuration", u.Host, m.Host)
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return bad("want http or https")
	}
	prefix := strings.Trim(strings.TrimPrefix(strings.Trim(u.Path, "/")+"/", "v2/"), "/")
	if prefix != "" {
		if _, err := reference.WithName(prefix); err != nil {
			return bad("its path is no repository path")
		}
	}
	return mirrorOrigin{u.Scheme, u.Host, prefix}, nil
}

// Registry pulls from and pushes to registries. It remembers what it has pulled
// and pushed as long as it lives, and may be used from several goroutines.
type Registry struct {
	options RegistryOptions

	mu      sync.Mutex
	clients map[string]*transport.Client // by scheme and host

	pulls memo[*pulledDocument] // by name as pulled
	known memo[*document]       // by repository and digest
	confs memo[[]byte]          // by repository and digest
	blobs memo[struct{}]        // by target repository and digest: is there
}

// NewRegistry prepares a Registry; nothing is sent and no file read yet.
func NewRegistry(o RegistryOptions) *Registry {
	if o.Keychain == nil {
		o.Keychain = transport.DefaultFiles(os.Getenv)
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	return &Registry{options: o, clients: map[string]*transport.Client{}}
}

// client returns the one client for a host. scheme is empty except for a mirror
// whose URL states it.
func (r *Registry) client(host, scheme string) (*transport.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := scheme + "://" + host
	if c := r.clients[key]; c != nil {
		return c, nil
	}
	e := transport.Endpoint{
		Name: host, Scheme: scheme, CA: r.options.Certificates[host],
		Insecure: slices.Contains(r.options.Insecure, host),
	}
	if host == dockerHub {
		e.Address = dockerHubAddress
	}
	c, err := transport.New(e, transport.Options{
		Keychain: r.options.Keychain, UserAgent: r.options.UserAgent, Retry: r.options.Retry,
	})
	if err != nil {
		return nil, err
	}
	r.clients[key] = c
	return c, nil
}

// origin is one place where a repository can be had.
type origin struct {
	client     *transport.Client
	repository string
}

func (o origin) String() string { return o.client.Name() + "/" + o.repository }

// origins lists the mirrors of n's host and then the host itself.
func (r *Registry) origins(n imageName) ([]origin, error) {
	var list []origin
	for _, m := range r.options.Mirrors {
		if hostName(m.Host) != n.host {
			continue
		}
		at, err := m.origin()
		if err != nil {
			return nil, err
		}
		c, err := r.client(at.host, at.scheme)
		if err != nil {
			return nil, err
		}
		list = append(list, origin{c, strings.TrimPrefix(at.prefix+"/"+n.repository, "/")})
	}
	c, err := r.client(n.host, "")
	if err != nil {
		return nil, err
	}
	return append(list, origin{c, n.repository}), nil
}
