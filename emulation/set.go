package emulation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Set knows how each architecture's programs run on this machine. It finds out when it is asked and remembers the answer.
// Its methods may be called by several goroutines.
type Set struct {
	options Options
	release string // of the kernel, like "6.18.1"

	mu      sync.Mutex // guards what follows; held while finding out, so that it is done once
	ways    map[string]Way
	details map[string]Way // by emulator: Version and Digest
}

// Find makes a Set. It runs nothing and reads nothing yet.
func Find(o Options) *Set {
	return &Set{options: o, release: kernelRelease(), ways: map[string]Way{}, details: map[string]Way{}}
}

// Way says how p's programs run here. p need not be normalised. QEMU is promised when an emulator was found and the kernel is new enough for a table of
// our own; whether it may be had is known after Register, and Way tells from then on what Register has arranged.
//
// Asking for the machine's own architecture or for one with a QEMU costs no more than looking for files; otherwise a program of a few bytes is run.
func (s *Set) Way(p ocispec.Platform) Way {
	p = platforms.Normalize(p)
	if p.OS != "linux" {
		return Way{Reason: fmt.Sprintf("programs for %s cannot run on Linux", p.OS), Hint: "leave out the steps that run programs, or build them on a linux platform with FROM --platform"}
	}
	a := archByName(p.Architecture)
	if a == nil || a.name != p.Architecture {
		return Way{Reason: fmt.Sprintf("unknown architecture %q", p.Architecture)}
	}
	return a.limit(s.way(a), p.Variant)
}

// way is the remembered answer for an architecture.
func (s *Set) way(a *arch) Way {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.ways[a.name]
	if !ok {
		w = s.explore(a)
		s.ways[a.name] = w
	}
	return w
}

// arranged remembers what Register has made true.
func (s *Set) arranged(a *arch, w Way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ways[a.name] = w
}

func (s *Set) explore(a *arch) Way {
	if a.isHost() {
		return Way{Kind: Native}
	}
	given := s.options.Emulators[a.name] != "" || s.options.Emulators[a.qemu] != ""
	if !given && a.hostRuns() && a.prove() == nil {
		return Way{Kind: Native}
	}
	path, err := s.options.emulator(a)
	if err == nil && tablesInUserNamespaces(s.release) {
		return Way{Kind: QEMU, Emulator: path}
	}
	if given && err != nil {
		return Way{Reason: err.Error(), Hint: a.hint()}
	}
	proof := a.prove()
	if proof == nil || errors.Is(proof, errLosesArgv0) {
		proof = a.proveInRoot(os.TempDir())
	}
	switch {
	case proof == nil:
		return Way{Kind: HostHandler}
	case errors.Is(proof, errLosesArgv0):
		return Way{Kind: HostHandler, Reason: proof.Error()}
	case errors.Is(proof, errNoFlagF):
		return Way{Reason: proof.Error(), Hint: a.hint()}
	case err == nil:
		return Way{
			Reason: fmt.Sprintf("%s is there, but Linux %s has no binfmt_misc for user namespaces (6.7 has) and no handler of the host works", path, s.release),
			Hint:   "on the host: sudo apt-get install qemu-user-static",
		}
	case errors.Is(err, fs.ErrNotExist):
		return Way{Reason: fmt.Sprintf("no qemu-%s-static found and no handler of the host works", a.qemu), Hint: a.hint()}
	default:
		return Way{Reason: err.Error(), Hint: a.hint()}
	}
}

// hint says how to get an emulator.
func (a *arch) hint() string {
	return fmt.Sprintf("sudo apt-get install qemu-user-static, or --emulator %s=/path/to/qemu-%s-static", a.name, a.qemu)
}

// tablesInUserNamespaces reports whether a kernel of this release is new enough for Register.
func tablesInUserNamespaces(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return true // then Register will tell
	}
	return major > 6 || major == 6 && minor >= 7
}

// Identify is Way with Version and Digest filled in, for provenance and display: it runs the emulator once and reads it once. The error says why that failed; the rest
// of the Way is right also then.
func (s *Set) Identify(ctx context.Context, p ocispec.Platform) (Way, error) {
	w := s.Way(p)
	if w.Kind != QEMU {
		return w, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.details[w.Emulator]
	if !ok {
		var err error
		if known.Version, err = version(ctx, w.Emulator); err != nil {
			return w, err
		}
		if known.Digest, err = content(w.Emulator); err != nil {
			return w, err
		}
		s.details[w.Emulator] = known
	}
	w.Version, w.Digest = known.Version, known.Digest
	return w, nil
}

// version is what the emulator says after the word "version" in its first line.
func version(ctx context.Context, emulator string) (string, error) {
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", emulator, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	_, v, ok := strings.Cut(line, " version ")
	if !ok {
		return "", fmt.Errorf("asking %s for its version: got %q", emulator, line)
	}
	return strings.TrimSpace(v), nil
}

func content(file string) (digest.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.FromReader(f)
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
