package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// maxResolvConf bounds the host's resolver configuration.
const maxResolvConf = 1 << 20

// resolvConf is the resolver configuration for a network. With the host's network the host's file is right as it is, also when
// it names a resolver on 127.0.0.53: that is reachable.
func resolvConf(n Network) ([]byte, error) {
	if n == None {
		return nil, nil
	}
	f, err := os.Open("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxResolvConf))
}

// hostsFile is the content of /etc/hosts. entries are "name ip" or "name=ip".
func hostsFile(hostname string, entries []string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname)
	for _, e := range entries {
		name, address, ok := strings.Cut(e, "=")
		if !ok {
			name, address, ok = strings.Cut(e, " ")
		}
		address = strings.TrimSpace(address)
		if !ok || name == "" || strings.ContainsAny(name, " \t\r\n#") {
			return nil, fmt.Errorf("entry %q is not of the form name=ip", e)
		}
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", e, err)
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return b.Bytes(), nil
}
