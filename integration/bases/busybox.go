package bases

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// debianArch names Debian's architecture for a platform's.
var debianArch = map[string]string{
	"386": "i386", "amd64": "amd64", "arm": "armhf", "arm64": "arm64",
	"mips64le": "mips64el", "ppc64le": "ppc64el", "riscv64": "riscv64", "s390x": "s390x", "loong64": "loong64",
}

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	group  = "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"
)

// Busybox returns an OCI layout with busybox for linux and each of the given
// architectures (as Go spells them), tagged Tag: a static binary, a symlink per
// applet, a passwd and a group file, /tmp. Errors: ErrMissing.
func Busybox(ctx context.Context, c Cache, arches ...string) (dir string, err error) {
	unlock, err := c.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	debs, err := busyboxPackages(ctx, c, arches)
	if err != nil {
		return "", err
	}
	inputs := slices.Clone(arches)
	for _, arch := range slices.Sorted(maps.Keys(debs)) {
		inputs = append(inputs, filepath.Base(debs[arch]))
	}
	return c.get(key("busybox", inputs...), func(dir string) error { return makeBusybox(ctx, dir, arches, debs) })
}

// busyboxPackages downloads the package of every architecture and of this
// machine's own, which is asked for the names of its applets.
func busyboxPackages(ctx context.Context, c Cache, arches []string) (map[string]string, error) {
	debs, names := map[string]string{}, []string{}
	for _, arch := range append([]string{runtime.GOARCH}, arches...) {
		if debianArch[arch] == "" {
			return nil, fmt.Errorf("%w: a Debian architecture for %s", ErrMissing, arch)
		}
		names = append(names, debianArch[arch])
	}
	a, err := newApt(ctx, c, names)
	if err != nil {
		return nil, err
	}
	for _, arch := range append([]string{runtime.GOARCH}, arches...) {
		if debs[arch], err = a.download(ctx, "busybox-static", debianArch[arch]); err != nil {
			return nil, err
		}
	}
	return debs, nil
}

func makeBusybox(ctx context.Context, dir string, arches []string, debs map[string]string) error {
	binaries := map[string][]byte{}
	for arch, deb := range debs {
		body, err := fileFromDeb(deb, "bin/busybox", "usr/bin/busybox")
		if err != nil {
			return err
		}
		binaries[arch] = body
	}
	names, err := applets(ctx, binaries[runtime.GOARCH])
	if err != nil {
		return err
	}
	var images []platformImage
	for _, arch := range arches {
		rootfs, err := tarOf(busyboxEntries(binaries[arch], names))
		if err != nil {
			return err
		}
		im := platformImage{arch: arch, cmd: []string{"/bin/sh"},
			rootfs: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(rootfs)), nil }}
		if arch == "arm" {
			im.variant = "v7"
		}
		images = append(images, im)
	}
	return writeLayout(dir, images)
}

// applets asks a busybox that runs on this machine for its applets.
func applets(ctx context.Context, binary []byte) ([]string, error) {
	tmp, err := os.MkdirTemp("", "applets-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	exe := filepath.Join(tmp, "busybox")
	if err := os.WriteFile(exe, binary, 0o755); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, exe, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	return strings.Fields(string(out)), nil
}

func busyboxEntries(binary []byte, names []string) []tarEntry {
	entries := []tarEntry{{name: "bin", mode: 0o755, dir: true}, {name: "bin/busybox", mode: 0o755, body: binary}}
	for _, n := range slices.Sorted(slices.Values(names)) {
		if n != "busybox" {
			entries = append(entries, tarEntry{name: "bin/" + n, mode: 0o777, link: "busybox"})
		}
	}
	return append(entries,
		tarEntry{name: "dev", mode: 0o755, dir: true},
		tarEntry{name: "etc", mode: 0o755, dir: true},
		tarEntry{name: "etc/group", mode: 0o644, body: []byte(group)},
		tarEntry{name: "etc/passwd", mode: 0o644, body: []byte(passwd)},
		tarEntry{name: "proc", mode: 0o755, dir: true},
		tarEntry{name: "root", mode: 0o700, dir: true},
		tarEntry{name: "sys", mode: 0o755, dir: true},
		tarEntry{name: "tmp", mode: 0o1777, dir: true},
	)
}
