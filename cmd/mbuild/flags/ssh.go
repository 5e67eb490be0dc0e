package flags

import "strings"

// SSH is what a RUN --mount=type=ssh with this id can use: the agent that listens on a socket, or private keys.
type SSH struct {
	ID    string
	Paths []string // one socket, or one or more PEM keys; never empty
}

// SSHs parses --ssh: ID[=PATH[,PATH…]], usually "default". Without a path it is the agent of SSH_AUTH_SOCK, which then has to be set. No id occurs
// twice.
func SSHs(values []string, lookup Lookup) ([]SSH, error) {
	f := flag{"--ssh", "default=$SSH_AUTH_SOCK"}
	seen := map[string]bool{}
	var list []SSH
	for _, value := range values {
		id, paths, _ := strings.Cut(value, "=")
		switch {
		case id == "":
			return nil, f.errorf(value, "want an id, usually default")
		case seen[id]:
			return nil, f.errorf(value, "the id %q is given twice", id)
		}
		seen[id] = true
		if paths == "" {
			if paths, _ = lookup("SSH_AUTH_SOCK"); paths == "" {
				return nil, f.errorf(value, "SSH_AUTH_SOCK is not set: start an agent, or name its socket or a key")
			}
			list = append(list, SSH{id, []string{paths}})
			continue
		}
		s := SSH{ID: id, Paths: strings.Split(paths, ",")}
		for _, path := range s.Paths {
			if path == "" {
				return nil, f.errorf(value, "a path is empty")
			}
		}
		list = append(list, s)
	}
	return list, nil
}
