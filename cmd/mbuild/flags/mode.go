package flags

import (
	"slices"
	"strings"
)

// Entitlements are what a build is allowed beyond the usual.
type Entitlements struct {
	HostNetwork bool // network.host
	Insecure    bool // security.insecure
}

// Allow parses --allow.
func Allow(values []string) (Entitlements, error) {
	f := flag{"--allow", "network.host"}
	var e Entitlements
	for _, value := range values {
		name, _, _ := strings.Cut(value, "=")
		switch {
		case value == "network.host":
			e.HostNetwork = true
		case value == "security.insecure":
			e.Insecure = true
		case slices.Contains([]string{"device", "buildx.local.delete", "fs", "fs.read", "fs.write", "ssh"}, name):
			return Entitlements{}, f.errorf(value, "entitlement %s is not supported", name)
		default:
			return Entitlements{}, f.errorf(value, "unknown entitlement: want network.host or security.insecure")
		}
	}
	return e, nil
}

// Network parses --network: "default" (also when empty), "none" or "host".
func Network(value string) (string, error) {
	switch value {
	case "":
		return "default", nil
	case "default", "none", "host":
		return value, nil
	}
	return "", flag{"--network", "none"}.errorf(value, "unknown network: want default, none or host")
}

// Progress parses --progress; empty, it is BUILDKIT_PROGRESS, and if that is empty or unset, "auto".
func Progress(value string, lookup Lookup) (string, error) {
	const variable = "BUILDKIT_PROGRESS"
	f := flag{"--progress", "plain"}
	if value == "" {
		f.name = variable
		value, _ = lookup(variable)
	}
	switch value {
	case "":
		return "auto", nil
	case "auto", "plain", "tty", "quiet", "none", "rawjson":
		return value, nil
	}
	return "", f.errorf(value, "unknown display: want auto, plain, tty, quiet, none or rawjson")
}
