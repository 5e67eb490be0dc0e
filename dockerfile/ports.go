package dockerfile

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// maxPorts is how many ports one EXPOSE may list: every one there is.
const maxPorts = 1 << 16

// ports is one argument of EXPOSE.
type ports struct {
	first, last int
	proto       string // as written
	mapped      bool   // an address or a port of the host was given, which EXPOSE has no use for
}

func (p ports) list() []string {
	var out []string
	for n := p.first; n <= p.last; n++ {
		out = append(out, strconv.Itoa(n)+"/"+strings.ToLower(p.proto))
	}
	return out
}

// parsePorts reads [[IP:]HOST:]PORT[-PORT][/PROTOCOL].
func parsePorts(spec string) (ports, error) {
	parts := strings.Split(spec, ":")
	n := len(parts)
	port, proto, ok := strings.Cut(parts[n-1], "/")
	if !ok || proto == "" {
		proto = "tcp"
	}
	switch strings.ToLower(proto) {
	case "tcp", "udp", "sctp":
	default:
		return ports{}, fmt.Errorf("invalid port %q: unknown protocol %q", spec, proto)
	}
	p := ports{proto: proto, mapped: strings.Join(parts[:n-1], "") != ""}
	var err error
	if p.first, p.last, err = portRange(port); err != nil {
		return ports{}, fmt.Errorf("invalid port %q: %v", spec, err)
	}
	if n > 1 && parts[n-2] != "" {
		first, last, err := portRange(parts[n-2])
		if err != nil {
			return ports{}, fmt.Errorf("invalid port %q: host port: %v", spec, err)
		}
		if last-first != p.last-p.first && p.first != p.last {
			return ports{}, fmt.Errorf("invalid port %q: the ranges differ in length", spec)
		}
	}
	if n > 2 {
		ip := strings.Trim(strings.Join(parts[:n-2], ":"), "[]")
		if ip != "" && net.ParseIP(ip) == nil {
			return ports{}, fmt.Errorf("invalid port %q: invalid address %q", spec, ip)
		}
	}
	return p, nil
}

func portRange(text string) (first, last int, err error) {
	a, b, isRange := strings.Cut(text, "-")
	if first, err = portNumber(a); err != nil || !isRange {
		return first, first, err
	}
	if last, err = portNumber(b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("range %s runs backwards", text)
	}
	return first, last, nil
}

func portNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number between 0 and 65535", text)
	}
	return int(n), nil
}
