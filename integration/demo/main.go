// Command demo shows mbuild at work: it makes a base image, builds examples/hello for
// two platforms, pushes them as one index to a registry of its own on loopback, shows
// the index, and runs each platform's program from the registry.
//
// It needs no network beyond the machine's apt sources, and no privilege.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"mbuild/integration/bases"
	"mbuild/integration/registry"
)

func main() {
	mbuild := flag.String("mbuild", "bin/mbuild", "the binary to show")
	platforms := flag.String("platform", "linux/amd64,linux/arm64", "platforms to build for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *mbuild, *platforms)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is one showing.
type demo struct {
	mbuild    string
	platforms string
	base      string // OCI layout
	ref       string // what is pushed
	state     string // mbuild's state directory
}

func run(ctx context.Context, mbuild, platforms string) (err error) {
	tmp, err := os.MkdirTemp("", "mbuild-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	say("A base image: busybox from this machine's Debian packages, as an OCI layout.")
	base, err := bases.Busybox(ctx, bases.DefaultCache(), arches(platforms)...)
	if err != nil {
		return err
	}
	r, err := registry.Embedded(filepath.Join(tmp, "registry"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	d := &demo{mbuild: mbuild, platforms: platforms, base: base, ref: r.Addr + "/hello:1", state: filepath.Join(tmp, "state")}
	defer func() { err = errors.Join(err, d.prune()) }()
	for _, step := range []func(context.Context) error{d.build, d.again, d.show, d.execute} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func arches(platforms string) []string {
	var list []string
	for _, p := range strings.Split(platforms, ",") {
		_, arch, _ := strings.Cut(p, "/")
		arch, _, _ = strings.Cut(arch, "/")
		list = append(list, arch)
	}
	return list
}

func say(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }

func (d *demo) build(ctx context.Context) error {
	say("One command: two platforms, built and pushed as one index.")
	return d.command(ctx, "--platform", d.platforms, "--build-context", "base=oci-layout://"+d.base+":"+bases.Tag, "-t", d.ref, "--push", "examples/hello")
}

func (d *demo) again(ctx context.Context) error {
	say("The same again: everything is known.")
	return d.command(ctx, "--platform", d.platforms, "--build-context", "base=oci-layout://"+d.base+":"+bases.Tag, "-t", d.ref, "--push", "examples/hello")
}

// show prints the index as the registry has it.
func (d *demo) show(ctx context.Context) error {
	say("What the registry has under %s:", d.ref)
	ref, err := name.ParseReference(d.ref)
	if err != nil {
		return err
	}
	got, err := remote.Get(ref, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, got.Manifest, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Println(b.String())
	return err
}

// execute runs the image's program on each platform: a build whose only step is to
// run it, without the cache.
func (d *demo) execute(ctx context.Context) error {
	say("The program of each platform, run from the registry.")
	dir, err := os.MkdirTemp("", "mbuild-demo-run-")
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+d.ref+"\nRUN hello\n"), 0o644)
	if err == nil {
		err = d.command(ctx, "--platform", d.platforms, "--progress", "plain", "-o", "type=oci,dest="+filepath.Join(dir, "out.tar"), dir)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// command prints a command line as a person would type it, and carries it out.
func (d *demo) command(ctx context.Context, args ...string) error {
	fmt.Println("$ mbuild " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.mbuild, append([]string{"--root", d.state}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mbuild: %w", err)
	}
	return nil
}

func (d *demo) prune() error {
	out, err := exec.Command(d.mbuild, "prune", "--root", d.state).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mbuild prune: %w: %s", err, out)
	}
	return nil
}
