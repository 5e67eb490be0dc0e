package emulation

import (
	"errors"
	"fmt"
	"io"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MissingError says that a platform's programs do not run here.
type MissingError struct {
	Platform string
	Way      Way // with Reason and Hint
	Err      error
}

// Error names the platform and the reason.
func (e *MissingError) Error() string {
	return fmt.Sprintf("cannot run %s programs here: %s", e.Platform, e.Way.Reason)
}

// Unwrap is the cause, such as a *TableError; it may be nil.
func (e *MissingError) Unwrap() error { return e.Err }

// need is an architecture that has to run.
type need struct {
	*arch
	platform string // the first that asks for it, for messages
	way      Way
}

// Register makes the programs of the platforms run, in the user namespace of this process and for all processes in it, until the Closer is closed.
// It must be called in the build namespace, once at a time: a user namespace has one table. dir must exist on a file system that programs can be run from; it has things of Register in it while that
// runs and nothing afterwards, and no mount namespace made later shows the table.
//
// A nil error means that a program of every platform has been run, in a root filesystem without anything else. When the kernel gives us no table and the host's handlers run all that is needed, they
// are used, and Way says so from then on. Otherwise the error is a *MissingError for a platform that does not run; it is
// ErrNoOwnBinfmt when the table is what is missing.
func (s *Set) Register(dir string, platforms []ocispec.Platform) (io.Closer, error) {
	needs, err := s.needs(platforms)
	if err != nil {
		return nil, err
	}
	if !anyKind(needs, QEMU) || anyKind(needs, HostHandler) {
		// Our own table would hide the host's handlers; what depends on one of them decides for all.
		return s.useHost(dir, needs, nil)
	}
	t, err := newTable(dir, s.release, func(t *table) error { return s.fill(t, needs) })
	if errors.Is(err, ErrNoOwnBinfmt) {
		return s.useHost(dir, needs, err)
	}
	if err != nil {
		return nil, err
	}
	if err := proveAll(dir, needs); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// needs are the architectures of ps besides our own, once each.
func (s *Set) needs(ps []ocispec.Platform) (needs []need, err error) {
	seen := map[string]bool{}
	for _, p := range ps {
		p = platforms.Normalize(p)
		w := s.Way(p)
		if w.Kind == Missing {
			return nil, &MissingError{Platform: platforms.Format(p), Way: w}
		}
		if a := archByName(p.Architecture); !a.isHost() && !seen[a.name] {
			seen[a.name] = true
			needs = append(needs, need{arch: a, platform: platforms.Format(p), way: w})
		}
	}
	return needs, nil
}

// fill registers what needs an emulator. What ran without one may have done so by a handler of the host, which our table hides: it gets
// its emulator now.
func (s *Set) fill(t *table, needs []need) error {
	for _, n := range needs {
		w := n.way
		if w.Kind == Native {
			if n.prove() == nil {
				continue
			}
			path, err := s.options.emulator(n.arch)
			if err != nil {
				return &MissingError{Platform: n.platform, Err: err, Way: Way{Reason: "the processor does not run them, and there is no emulator", Hint: n.hint()}}
			}
			w = Way{Kind: QEMU, Emulator: path}
			s.arranged(n.arch, w)
		}
		if err := t.register(n.arch, w.Emulator); err != nil {
			return &MissingError{Platform: n.platform, Err: err, Way: Way{Reason: err.Error(), Hint: n.hint()}}
		}
	}
	return nil
}

// useHost makes do with the host's handlers. cause is why it must be so.
func (s *Set) useHost(dir string, needs []need, cause error) (io.Closer, error) {
	for _, n := range needs {
		proof := n.proveInRoot(dir)
		if proof != nil && !errors.Is(proof, errLosesArgv0) {
			w := Way{Reason: "a table of our own would hide the host's handlers, which other platforms need: " + proof.Error(), Hint: n.hint()}
			var e *TableError
			if errors.As(cause, &e) {
				w = Way{Reason: e.Error() + "; and no handler of the host works: " + proof.Error(), Hint: e.Hint}
			}
			return nil, &MissingError{Platform: n.platform, Way: w, Err: errors.Join(cause, proof)}
		}
		if n.way.Kind != QEMU {
			continue
		}
		w := Way{Kind: HostHandler}
		if proof != nil {
			w.Reason = proof.Error()
		}
		s.arranged(n.arch, w)
	}
	return nothing{}, nil
}

func proveAll(dir string, needs []need) error {
	for _, n := range needs {
		if err := n.proveInRoot(dir); err != nil {
			w := Way{Reason: err.Error(), Hint: "another QEMU, 6.0 or later: " + n.hint()}
			if n.way.Emulator != "" {
				w.Reason = n.way.Emulator + " is registered, but " + w.Reason
			}
			return &MissingError{Platform: n.platform, Way: w, Err: err}
		}
	}
	return nil
}

func anyKind(needs []need, k Kind) bool {
	for _, n := range needs {
		if n.way.Kind == k {
			return true
		}
	}
	return false
}

// nothing is what there is to close when nothing was registered.
type nothing struct{}

func (nothing) Close() error { return nil }
