package flags

import "strings"

// BuildArgs parses --build-arg: NAME=VALUE, or NAME alone for the value of the environment variable of that name; a variable that
// does not exist is dropped. The last value of a name counts.
func BuildArgs(values []string, lookup Lookup) (map[string]string, error) {
	f := flag{"--build-arg", "VERSION=1.2"}
	args := make(map[string]string, len(values))
	for _, value := range values {
		name, v, ok := strings.Cut(value, "=")
		if name == "" {
			return nil, f.errorf(value, "the argument has no name")
		}
		if !ok {
			if v, ok = lookup(name); !ok {
				continue
			}
		}
		args[name] = v
	}
	return args, nil
}

// Labels parses --label: KEY=VALUE, or KEY alone for an empty value. The last value of a key counts.
func Labels(values []string) (map[string]string, error) {
	f := flag{"--label", "org.opencontainers.image.version=1.2"}
	labels := make(map[string]string, len(values))
	for _, value := range values {
		key, v, _ := strings.Cut(value, "=")
		if key == "" {
			return nil, f.errorf(value, "the label has no key")
		}
		labels[key] = v
	}
	return labels, nil
}
