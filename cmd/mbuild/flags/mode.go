package flags

import (
	"slices"
	"strconv"
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

// PullPolicy says when the registry is asked what a base image's tag stands for.
type PullPolicy string

// The policies.
const (
	PullMissing PullPolicy = "missing" // when no earlier answer is at hand
	PullAlways  PullPolicy = "always"  // in every build
)

// Pull parses --pull: a switch, or "always" and "missing". Empty is PullMissing.
func Pull(value string) (PullPolicy, error) {
	f := flag{"--pull", "always"}
	switch value {
	case "", "missing":
		return PullMissing, nil
	case "always":
		return PullAlways, nil
	case "never", "newer":
		return "", f.errorf(value, "policy %s is not supported: want always or missing", value)
	}
	on, err := strconv.ParseBool(value)
	switch {
	case err != nil:
		return "", f.errorf(value, "unknown policy: want always or missing")
	case on:
		return PullAlways, nil
	}
	return PullMissing, nil
}
