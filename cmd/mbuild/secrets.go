package main

import (
	"fmt"
	"io"
	"os"

	"mbuild/cmd/mbuild/flags"
)

// maxSecret is the size limit of a secret, BuildKit's.
const maxSecret = 500 << 10

// secrets gives RUN steps the values of --secret and the sockets of --ssh. Values are
// read when a step asks for them, so that an unused one needs not exist; files are
// checked before the build starts.
type secrets struct {
	byID map[string]flags.Secret
	ssh  map[string]string // id -> socket
}

// Secret reads a secret. Values never appear in an error.
func (s *secrets) Secret(id string) ([]byte, bool, error) {
	secret, ok := s.byID[id]
	if !ok {
		return nil, false, nil
	}
	if secret.Env != "" {
		v, ok := os.LookupEnv(secret.Env)
		if len(v) > maxSecret {
			return nil, false, fmt.Errorf("the secret %q is larger than %d KiB", id, maxSecret>>10)
		}
		return []byte(v), ok, nil
	}
	f, err := os.Open(secret.File)
	if err != nil {
		return nil, false, fmt.Errorf("the secret %q: %w", id, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, false, fmt.Errorf("the secret %q: %w", id, err)
	}
	if len(data) > maxSecret {
		return nil, false, fmt.Errorf("the secret %q is larger than %d KiB", id, maxSecret>>10)
	}
	return data, true, nil
}

// SSH returns the socket of an agent.
func (s *secrets) SSH(id string) (string, bool, error) {
	socket, ok := s.ssh[id]
	return socket, ok, nil
}
