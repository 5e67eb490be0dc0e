package flags

import (
	"regexp"
	"strings"
)

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
