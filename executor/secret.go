package executor

import (
	"fmt"

	"mbuild/dockerfile"
	"mbuild/executor/sandbox"
)

// Secrets are what RUN steps may see but no layer, key, log or record may hold.
type Secrets interface {
	// Secret returns the secret of that id; ok is false when there is none.
	Secret(id string) (data []byte, ok bool, err error)
	// SSH returns the path of an agent's socket; ok is false when there is none.
	SSH(id string) (socket string, ok bool, err error)
}

// secret shows a secret as a file in memory, as a variable, or both.
func (m *mounting) secret(mount dockerfile.Mount) error {
	data, ok, err := m.Secrets.Secret(mount.ID)
	if err != nil {
		return err
	}
	if !ok {
		if mount.Required {
			return fmt.Errorf("the secret %q is required but was not given (--secret id=%s,src=FILE)", mount.ID, mount.ID)
		}
		return nil
	}
	if mount.Env != "" {
		m.setEnv(mount.Env, string(data))
	}
	if mount.Target != "" {
		m.spec.Files = append(m.spec.Files, sandbox.File{
			Path: mount.Target, Data: data, Mode: orDefault(mount.Mode, 0o400),
			UID: orDefault(mount.UID, 0), GID: orDefault(mount.GID, 0),
		})
	}
	return nil
}

// ssh shows the socket of an agent: one of our own, with the owner and mode that the
// step asked for, that passes everything on.
func (m *mounting) ssh(mount dockerfile.Mount) error {
	agent, ok, err := m.Secrets.SSH(mount.ID)
	if err != nil {
		return err
	}
	if !ok {
		if mount.Required {
			return fmt.Errorf("the SSH agent %q is required but was not given (--ssh %s)", mount.ID, mount.ID)
		}
		return nil
	}
	target := mount.Target
	if target == "" {
		target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", m.sockets)
	}
	m.sockets++
	relay, err := newRelay(m.tempDir(), agent, mount)
	if err != nil {
		return err
	}
	m.undo = append(m.undo, relay.Close)
	m.spec.Mounts = append(m.spec.Mounts, sandbox.Bind{Source: relay.path(), Target: target})
	m.setEnv("SSH_AUTH_SOCK", target)
	return nil
}

func orDefault[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
