package bases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrMissing means that this machine lacks something a base is made with; the
// error's text says what.
var ErrMissing = errors.New("missing here")

// apt drives apt-get with the machine's sources, settings and keys, but with
// its lists and downloads in a directory of ours: no root, no trace.
type apt struct {
	dir   string
	opts  []string
	stale error // why the lists are not fresh, or some are missing
}

// newApt prepares a private apt state in the cache for the given Debian
// architectures and refreshes its lists when they are older than maxListAge.
// When that fails (no network, one source of many in trouble) the lists that are
// there do, as long as they have the packages asked for.
func newApt(ctx context.Context, c Cache, arches []string) (*apt, error) {
	arches = slices.Compact(slices.Sorted(slices.Values(arches)))
	dir := filepath.Join(c.Dir, "apt-"+strings.Join(arches, "-"))
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, fmt.Errorf("%w: apt-get, to download packages with", ErrMissing)
	}
	a := &apt{dir: dir}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	status := filepath.Join(dir, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	a.opts = []string{"-q", "-o", "Dir::State=" + dir + "/state", "-o", "Dir::Cache=" + dir + "/cache",
		"-o", "Dir::State::status=" + status, "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none",
		"-o", "Dir::Cache::pkgcache=pkgcache.bin", "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin"}
	for _, arch := range arches {
		a.opts = append(a.opts, "-o", "APT::Architectures::="+arch)
	}
	if age := a.listAge(); age >= 0 && age < maxListAge {
		return a, nil
	}
	if out, err := a.get(ctx, "update"); err != nil {
		a.stale = fmt.Errorf("apt-get update: %w\n%s", err, out)
		return a, nil
	}
	return a, os.WriteFile(a.stamp(), nil, 0o644)
}

// maxListAge is how long package lists are taken as they are: test runs on one
// day build on the same bases and do not wait for the mirror.
const maxListAge = 24 * time.Hour

func (a *apt) stamp() string { return filepath.Join(a.dir, "updated") }

// listAge is the time since the lists were refreshed, negative when never.
func (a *apt) listAge() time.Duration {
	st, err := os.Stat(a.stamp())
	if err != nil {
		return -1
	}
	return max(0, time.Since(st.ModTime()))
}

// get runs one apt-get command in the private state and returns its output,
// or what it complained about.
func (a *apt) get(ctx context.Context, args ...string) ([]byte, error) {
	return a.getIn(ctx, ".", args...)
}

func (a *apt) getIn(ctx context.Context, subdir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "apt-get", append(a.opts[:len(a.opts):len(a.opts)], args...)...)
	cmd.Dir = filepath.Join(a.dir, subdir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.Bytes(), err
	}
	return stdout.Bytes(), nil
}

// download returns the path of the newest .deb of pkg for arch; its name holds
// the version.
func (a *apt) download(ctx context.Context, pkg, arch string) (string, error) {
	want := pkg + ":" + arch
	out, err := a.get(ctx, "download", "--print-uris", want)
	if err != nil {
		return "", errors.Join(fmt.Errorf("find package %s: %w\n%s", want, err, out), a.stale)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		return "", errors.Join(fmt.Errorf("find package %s: apt-get answered %q", want, out), a.stale)
	}
	deb := filepath.Join(a.dir, "debs", filepath.Base(fields[1]))
	if _, err := os.Stat(deb); err == nil {
		return deb, nil
	}
	// Not in the directory where --print-uris ran: it is silent about files that are there.
	if out, err := a.getIn(ctx, "debs", "download", want); err != nil {
		return "", fmt.Errorf("download package %s: %w\n%s", want, err, out)
	}
	if _, err := os.Stat(deb); err != nil {
		return "", fmt.Errorf("download package %s: apt-get left no %s", want, filepath.Base(deb))
	}
	return deb, nil
}

// source is one line of a sources.list.
type source struct{ URI, Release, Codename, Component string }

// sources lists the machine's sources of Debian's own archive for arch.
func (a *apt) sources(ctx context.Context, arch string) ([]source, error) {
	out, err := a.get(ctx, "indextargets", "--format",
		"$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)", "Created-By: Packages", "Origin: Debian", "Architecture: "+arch)
	if err != nil {
		return nil, fmt.Errorf("list apt sources: %w\n%s", err, out)
	}
	var list []source
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if f := strings.Split(line, "|"); len(f) == 4 {
			list = append(list, source{f[0], f[1], f[2], f[3]})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: an apt source of Debian's archive", ErrMissing)
	}
	return list, nil
}

// settings returns the machine's apt settings that decide how archives are
// reached and judged (proxies, retries, clock checks), as an apt.conf.
func (a *apt) settings(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "", fmt.Errorf("apt-config dump: %w", err)
	}
	var b strings.Builder
	for _, line := range strings.Split(string(out), "\n") {
		for _, prefix := range []string{"Acquire::http::", "Acquire::https::Proxy", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv"} {
			if strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, ` "";`) {
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String(), nil
}
