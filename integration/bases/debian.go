package bases

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// secondStage finishes what debootstrap --foreign began. It runs the packages'
// own maintainer scripts, so it needs a builder that executes programs of the
// target platform: mbuild is its own first customer.
const secondStage = `FROM stage1
RUN container=lxc /debootstrap/debootstrap --second-stage || { cat /debootstrap/debootstrap.log; exit 1; }
RUN apt-get clean && rm -rf /debootstrap /var/log/*.log /var/log/apt /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache
COPY sources.list /etc/apt/sources.list
COPY apt.conf /etc/apt/apt.conf.d/80machine
`

// Debian returns an OCI layout with a minimal Debian (debootstrap's minbase) of
// this machine's release for linux/arch, tagged Tag. Its apt has this machine's
// sources and proxy settings. mbuild is the binary that runs the second stage,
// under emulation where arch is foreign. Errors: ErrMissing.
func Debian(ctx context.Context, c Cache, mbuild, arch string) (dir string, err error) {
	for _, program := range []string{"debootstrap", "fakeroot", "tar"} {
		if _, err := lookPath(program); err != nil {
			return "", fmt.Errorf("%w: %s, to make a Debian base with", ErrMissing, program)
		}
	}
	unlock, err := c.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	d, err := newDebian(ctx, c, arch)
	if err != nil {
		return "", err
	}
	return c.get(d.key(), func(dir string) error { return d.make(ctx, mbuild, dir) })
}

// debian says what a Debian base is made from.
type debian struct {
	arch     string
	suite    string
	mirror   string
	release  string // digest of the suite's signed list of contents
	sources  string // sources.list
	settings string // apt.conf
}

func newDebian(ctx context.Context, c Cache, arch string) (*debian, error) {
	suite, err := hostRelease("/etc/os-release")
	if err != nil {
		return nil, err
	}
	a, err := newApt(ctx, c, []string{debianArch[arch]})
	if err != nil {
		return nil, err
	}
	d := &debian{arch: arch, suite: suite}
	list, err := a.sources(ctx, debianArch[arch])
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		d.sources += fmt.Sprintf("deb %s %s %s\n", s.URI, s.Release, s.Component)
		if s.Codename == suite && d.mirror == "" {
			d.mirror = s.URI
		}
	}
	if d.mirror == "" {
		return nil, fmt.Errorf("%w: an apt source of Debian %s", ErrMissing, suite)
	}
	if d.settings, err = a.settings(ctx); err != nil {
		return nil, err
	}
	d.release, err = a.releaseDigest(suite)
	return d, err
}

// releaseDigest identifies the state of a suite: the digest of its InRelease
// file changes exactly when a package of the suite does.
func (a *apt) releaseDigest(suite string) (string, error) {
	found, err := filepath.Glob(filepath.Join(a.dir, "state/lists/*_dists_"+suite+"_InRelease"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%w: the InRelease file of %s", ErrMissing, suite)
	}
	body, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), nil
}

func (d *debian) key() string {
	return key("debian-"+d.arch, d.suite, d.mirror, d.release, d.sources, d.settings, secondStage)
}

// hostRelease is the code name of this machine's Debian release.
func hostRelease(osRelease string) (string, error) {
	f, err := os.Open(osRelease)
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrMissing, err)
	}
	defer f.Close()
	fields := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			fields[k] = strings.Trim(v, `"`)
		}
	}
	if fields["ID"] != "debian" || fields["VERSION_CODENAME"] == "" {
		return "", fmt.Errorf("%w: a Debian release; this is %q", ErrMissing, fields["PRETTY_NAME"])
	}
	return fields["VERSION_CODENAME"], nil
}

func (d *debian) make(ctx context.Context, mbuild, dir string) error {
	tmp, err := os.MkdirTemp("", "debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	first, stage1, stage2 := filepath.Join(tmp, "first.tar"), filepath.Join(tmp, "stage1"), filepath.Join(tmp, "stage2")
	if err := d.firstStage(ctx, tmp, first); err != nil {
		return err
	}
	rootfs := func() (io.ReadCloser, error) { return cleaned(first) }
	if err := writeLayout(stage1, []platformImage{{arch: d.arch, rootfs: rootfs}}); err != nil {
		return fmt.Errorf("first stage for %s: %w", d.arch, err)
	}
	if err := d.secondStage(ctx, mbuild, tmp, stage1, stage2); err != nil {
		return err
	}
	return flatten(stage2, dir, d.arch)
}

// firstStage unpacks the packages and packs the result as a tar, both below one
// fakeroot, which remembers owners and devices that an ordinary user cannot make.
func (d *debian) firstStage(ctx context.Context, tmp, out string) error {
	const script = `set -e; debootstrap --foreign --variant=minbase --arch="$1" "$2" "$3" "$4" >&2; tar -C "$3" --numeric-owner --sort=name -cf "$5" .`
	root := filepath.Join(tmp, "root")
	cmd := exec.CommandContext(ctx, "fakeroot", "sh", "-c", script, "sh", debianArch[d.arch], d.suite, root, d.mirror, out)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":"+adminPath)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap --foreign --arch=%s: %w\n%s", debianArch[d.arch], err, tail(said))
	}
	return os.RemoveAll(root)
}

func (d *debian) secondStage(ctx context.Context, mbuild, tmp, stage1, stage2 string) error {
	context := filepath.Join(tmp, "context")
	if err := os.Mkdir(context, 0o755); err != nil {
		return err
	}
	for name, body := range map[string]string{"Dockerfile": secondStage, "sources.list": d.sources, "apt.conf": d.settings} {
		if err := os.WriteFile(filepath.Join(context, name), []byte(body), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, mbuild, "--root", filepath.Join(tmp, "state"), "--progress=plain", "--platform=linux/"+d.arch,
		"--build-context=stage1=oci-layout://"+stage1+":"+Tag, "--output=type=oci,tar=false,dest="+stage2, context)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap --second-stage for %s in mbuild: %w\n%s", d.arch, err, tail(said))
	}
	// The state may hold directories that only mbuild's namespace may empty.
	if said, err := exec.CommandContext(ctx, mbuild, "prune", "--root", filepath.Join(tmp, "state")).CombinedOutput(); err != nil {
		return fmt.Errorf("mbuild prune: %w\n%s", err, tail(said))
	}
	return nil
}

// flatten makes one layer of the image in the layout at from.
func flatten(from, to, arch string) error {
	index, err := layout.ImageIndexFromPath(from)
	if err != nil {
		return err
	}
	img, err := firstImage(index)
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	rootfs := func() (io.ReadCloser, error) { return mutate.Extract(img), nil }
	return writeLayout(to, []platformImage{{arch: arch, rootfs: rootfs, cmd: []string{"bash"}}})
}

// cleaned reads a first stage's tar without what depends on how it was made:
// devices and debootstrap's link to the outer /proc.
func cleaned(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		defer f.Close()
		w.CloseWithError(copyCleaned(w, f))
	}()
	return r, nil
}

func copyCleaned(w io.Writer, r io.Reader) error {
	tr, tw := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return tw.Close()
		}
		if err != nil {
			return err
		}
		h.Name = path.Clean("/" + h.Name)[1:]
		if h.Name == "" || strings.HasPrefix(h.Name, "dev/") {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Clean("/" + h.Linkname)[1:]
		}
		if h.Name == "proc" {
			*h = tar.Header{Name: "proc", Typeflag: tar.TypeDir, Mode: 0o755}
		}
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		h.Format = tar.FormatPAX
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}
