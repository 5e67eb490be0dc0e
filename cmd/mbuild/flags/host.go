package flags

import (
	"net/netip"
	"regexp"
	"strings"
)

// Host is a line for /etc/hosts: one name and one address.
type Host struct {
	Name    string
	Address netip.Addr // zero with Gateway
	Gateway bool       // host-gateway: the machine that builds
}

// hostName is what /etc/hosts can hold without starting another field, line or comment.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$`)

// AddHosts parses --add-host: NAME=ADDRESS or NAME:ADDRESS, several addresses separated by commas, IPv6 addresses in brackets or not,
// "host-gateway" for the machine that builds. The list has one entry per address, in order.
func AddHosts(values []string) ([]Host, error) {
	f := flag{"--add-host", "db.local=10.0.0.7"}
	var list []Host
	for _, value := range values {
		name, addresses, ok := strings.Cut(value, "=")
		if !ok {
			name, addresses, ok = strings.Cut(value, ":")
		}
		if !ok || addresses == "" {
			return nil, f.errorf(value, "want NAME=ADDRESS")
		}
		if len(name) > 253 || !hostName.MatchString(name) {
			return nil, f.errorf(value, "%q is not a host name", name)
		}
		for address := range strings.SplitSeq(addresses, ",") {
			h, err := f.host(value, name, address)
			if err != nil {
				return nil, err
			}
			list = append(list, h)
		}
	}
	return list, nil
}

func (f flag) host(value, name, address string) (Host, error) {
	if address == "host-gateway" {
		return Host{Name: name, Gateway: true}, nil
	}
	bare := address
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return Host{}, f.errorf(value, "%q is not an IP address", address)
	}
	return Host{Name: name, Address: ip}, nil
}
