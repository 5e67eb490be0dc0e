package flags

import (
	"net/url"
	"regexp"
	"strings"
)

// Mirror is where the images of a registry are pulled from.
type Mirror struct {
	Host string // of the registry: "docker.io", "registry.example.com:5000"
	URL  string // of the mirror: scheme, host, path prefix or none, no slash at the end
}

// Certificate is a file of PEM certificates that a registry's are signed by.
type Certificate struct {
	Host string
	Path string
}

// registryHost matches HOST[:PORT] with the host in brackets if it is an IPv6 address.
var registryHost = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)

// registry checks and normalises a registry's name.
func (f flag) registry(value, name string) (string, error) {
	if !registryHost.MatchString(name) {
		return "", f.errorf(value, "%q is not a registry's host name", name)
	}
	name = strings.ToLower(name)
	if name == "index.docker.io" || name == "registry-1.docker.io" {
		name = "docker.io"
	}
	return name, nil
}

// RegistryMirrors parses --registry-mirror: HOST=URL, or URL alone for a mirror of docker.io. A URL without scheme is https. The mirrors of a host
// are in the order in which they are to be tried.
func RegistryMirrors(values []string) ([]Mirror, error) {
	f := flag{"--registry-mirror", "docker.io=https://mirror.example.com"}
	var list []Mirror
	for _, value := range values {
		name, location, ok := strings.Cut(value, "=")
		if !ok {
			name, location = "docker.io", value
		}
		name, err := f.registry(value, name)
		if err != nil {
			return nil, err
		}
		location, err = f.mirrorURL(value, location)
		if err != nil {
			return nil, err
		}
		list = append(list, Mirror{name, location})
	}
	return list, nil
}

func (f flag) mirrorURL(value, location string) (string, error) {
	if !strings.Contains(location, "://") {
		location = "https://" + location
	}
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return "", f.errorf(value, "not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", f.errorf(value, "the scheme is %q, want http or https", u.Scheme)
	case !registryHost.MatchString(u.Host):
		return "", f.errorf(value, "%q is not a host name", u.Host)
	case u.User != nil:
		return "", f.errorf(withoutUser(value), "credentials belong into the registry login, not into the URL")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", f.errorf(value, "a mirror has no query and no fragment")
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), nil
}

// withoutUser hides the credentials of the URL in value, so that they reach no log.
func withoutUser(value string) string {
	from, to := max(strings.Index(value, "=")+1, 0), strings.LastIndex(value, "@")
	if i := strings.Index(value, "://"); i >= 0 {
		from = i + len("://")
	}
	if from >= to {
		return value
	}
	return value[:from] + "***" + value[to:]
}

// RegistryCertificates parses --registry-certificate: HOST=PATH. A host may occur more than once.
func RegistryCertificates(values []string) ([]Certificate, error) {
	f := flag{"--registry-certificate", "registry.example.com=/etc/ssl/registry.pem"}
	var list []Certificate
	for _, value := range values {
		name, path, ok := strings.Cut(value, "=")
		if !ok || path == "" {
			return nil, f.errorf(value, "want HOST=PATH")
		}
		name, err := f.registry(value, name)
		if err != nil {
			return nil, err
		}
		list = append(list, Certificate{name, path})
	}
	return list, nil
}
