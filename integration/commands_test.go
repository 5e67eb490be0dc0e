package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/rogpeppe/go-internal/testscript"

	"mbuild/integration/bases"
	"mbuild/integration/judge"
	"mbuild/integration/registry"
)

// commands are the scripts' own commands; each says its usage in its comment.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"status":       cmdStatus,
	"needs":        cmdNeeds,
	"registry":     cmdRegistry,
	"faulty":       cmdFaulty,
	"push-base":    cmdPushBase,
	"debian":       cmdDebian,
	"image-tree":   cmdImageTree,
	"image-layers": cmdImageLayers,
	"image-config": cmdImageConfig,
	"image-sum":    cmdImageSum,
	"same":         cmdSame,
	"tag":          cmdTag,
	"no-trace":     cmdNoTrace,
	"signal":       cmdSignal,
	"one-message":  cmdOneMessage,
}

// htpasswd lets user "user" in with password "secret".
const htpasswd = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

// status N program args...: run program; its exit status must be N.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	checkStatus(ts, want, ts.Exec(args[1], args[2:]...))
}

func checkStatus(ts *testscript.TestScript, want int, err error) {
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status: got %d, want %d", got, want)
	}
}

// registry [auth]: start docker-registry, its address is $REGISTRY; with auth it
// wants user "user" with password "secret".
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	o := registry.Options{}
	if len(args) == 1 && args[0] == "auth" {
		o.Htpasswd = htpasswd
	}
	s := siteOf(ts)
	dir, err := os.MkdirTemp(s.work, "registry-")
	ts.Check(err)
	r, err := registry.Start(context.Background(), dir, o)
	if errors.Is(err, registry.ErrMissing) {
		skip(ts, err.Error())
	}
	ts.Check(err)
	s.registries = append(s.registries, r)
	ts.Setenv("REGISTRY", r.Addr)
}

// faulty FAULT...: start a proxy before $REGISTRY that misbehaves; its address is
// $FAULTY.
func cmdFaulty(ts *testscript.TestScript, neg bool, args []string) {
	var faults []registry.Fault
	for _, a := range args {
		faults = append(faults, registry.Fault(a))
	}
	r, err := registry.Faulty(ts.Getenv("REGISTRY"), faults...)
	ts.Check(err)
	s := siteOf(ts)
	s.registries = append(s.registries, r)
	ts.Setenv("FAULTY", r.Addr)
}

// push-base REPO:TAG: put the busybox index into $REGISTRY.
func cmdPushBase(ts *testscript.TestScript, neg bool, args []string) {
	ref, err := name.ParseReference(ts.Getenv("REGISTRY") + "/" + args[0])
	ts.Check(err)
	top, err := layout.ImageIndexFromPath(siteOf(ts).base)
	ts.Check(err)
	m, err := top.IndexManifest()
	ts.Check(err)
	index, err := top.ImageIndex(m.Manifests[0].Digest)
	ts.Check(err)
	ts.Check(remote.WriteIndex(ref, index))
}

// debian PLATFORM: $DEBIAN is an OCI layout of a minimal Debian for it, made
// by debootstrap, its second stage run by mbuild.
func cmdDebian(ts *testscript.TestScript, neg bool, args []string) {
	dir, err := bases.Debian(context.Background(), bases.DefaultCache(), siteOf(ts).mbuild, strings.TrimPrefix(args[0], "linux/"))
	if errors.Is(err, bases.ErrMissing) {
		skip(ts, err.Error())
	}
	ts.Check(err)
	ts.Setenv("DEBIAN", dir)
	ts.Setenv("FROM_DEBIAN", "--build-context=debian=oci-layout://"+dir+":"+bases.Tag)
}

// image-tree REF PLATFORM: print the image's root filesystem, a line per path;
// fails when a layer is unsound.
func cmdImageTree(ts *testscript.TestScript, neg bool, args []string) {
	img, done, err := judge.Open(imageRef(ts, args[0]), args[1])
	defer done()
	ts.Check(err)
	tree, complaints, err := judge.Flatten(img)
	ts.Check(err)
	if len(complaints) > 0 {
		ts.Fatalf("unsound image:\n%s", strings.Join(complaints, "\n"))
	}
	fmt.Fprintln(ts.Stdout(), strings.Join(tree.Lines(), "\n"))
}

// image-layers REF PLATFORM: print the entries of every layer.
func cmdImageLayers(ts *testscript.TestScript, neg bool, args []string) {
	img, done, err := judge.Open(imageRef(ts, args[0]), args[1])
	defer done()
	ts.Check(err)
	lines, err := judge.Layers(img)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), strings.Join(lines, "\n"))
}

// image-config REF PLATFORM: print the image's config as it is.
func cmdImageConfig(ts *testscript.TestScript, neg bool, args []string) {
	img, done, err := judge.Open(imageRef(ts, args[0]), args[1])
	defer done()
	ts.Check(err)
	raw, err := img.RawConfigFile()
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), string(raw))
}

// image-sum REF PLATFORM PATH VAR: $VAR becomes a digest of the file's content,
// or "none" when the image has no such file.
func cmdImageSum(ts *testscript.TestScript, neg bool, args []string) {
	img, done, err := judge.Open(imageRef(ts, args[0]), args[1])
	defer done()
	ts.Check(err)
	tree, complaints, err := judge.Flatten(img)
	ts.Check(err)
	if len(complaints) > 0 {
		ts.Fatalf("unsound image:\n%s", strings.Join(complaints, "\n"))
	}
	sum := "none"
	if n := tree[args[2]]; n != nil {
		sum = n.Type + n.Sum
	}
	ts.Setenv(args[3], sum)
}

// [!] same A B: the two words are (are not) equal.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same A B")
	}
	if (args[0] == args[1]) == neg {
		ts.Fatalf("got %q and %q", args[0], args[1])
	}
}

// imageRef makes file names in a reference absolute.
func imageRef(ts *testscript.TestScript, ref string) string {
	for _, kind := range []string{"oci:", "oci-archive:"} {
		if file, ok := strings.CutPrefix(ref, kind); ok {
			return kind + ts.MkAbs(file)
		}
	}
	return ref
}

// tag REPO:TAG VAR: $VAR becomes the digest that $REGISTRY has under the tag, or
// "none".
func cmdTag(ts *testscript.TestScript, neg bool, args []string) {
	ref, err := name.ParseReference(ts.Getenv("REGISTRY") + "/" + args[0])
	ts.Check(err)
	d, err := remote.Head(ref)
	var answered *transport.Error
	switch {
	case errors.As(err, &answered) && answered.StatusCode == 404:
		ts.Setenv(args[1], "none")
	default:
		ts.Check(err)
		ts.Setenv(args[1], d.Digest.String())
	}
}

// one-message PATTERN: the last command's standard error has exactly one line
// that begins with "mbuild: " and is no hint, and it matches PATTERN.
func cmdOneMessage(ts *testscript.TestScript, neg bool, args []string) {
	var found []string
	for _, line := range strings.Split(ts.ReadFile("stderr"), "\n") {
		if strings.HasPrefix(line, "mbuild: ") && !strings.HasPrefix(line, "mbuild: hint: ") && !strings.HasPrefix(line, "mbuild: warning: ") {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		ts.Fatalf("got %d messages, want 1: %q", len(found), found)
	}
	if ok, err := match(args[0], found[0]); err != nil || !ok {
		ts.Fatalf("message %q does not match %q (%v)", found[0], args[0], err)
	}
}

// no-trace: nothing of mbuild is left running, mounted or half written.
func cmdNoTrace(ts *testscript.TestScript, neg bool, args []string) {
	work := siteOf(ts).work
	if left := processes(work); len(left) > 0 {
		ts.Fatalf("processes left: %q", left)
	}
	for _, sub := range []string{"tmp", "layers/tmp", "layers/trees"} {
		entries, err := os.ReadDir(filepath.Join(ts.Getenv("MBUILD_ROOT"), sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		for _, e := range entries {
			ts.Fatalf("half-written state left: %s/%s", sub, e.Name())
		}
	}
	left, err := os.ReadDir(filepath.Join(work, "tmp"))
	ts.Check(err)
	for _, e := range left {
		ts.Fatalf("temporary file left: %s", e.Name())
	}
}

// processes lists the commands that run mbuild's binary or live in a mount
// namespace with something of the script's directory mounted.
func processes(work string) []string {
	var found []string
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, p := range all {
		if filepath.Base(p) == strconv.Itoa(os.Getpid()) {
			continue
		}
		mounts, _ := os.ReadFile(filepath.Join(p, "mountinfo"))
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		said := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if strings.Contains(string(mounts), work+"/") || strings.Contains(said, work+"/") && strings.Contains(said, "mbuild") {
			found = append(found, filepath.Base(p)+" "+said)
		}
	}
	return found
}

// signal NAME LINE N program args...: start program in its own process group, wait
// until a process with the command line LINE runs, then press Ctrl-C (NAME is INT: an
// interrupt for the whole group) or kill program alone (NAME is KILL). The exit status
// must be N, -1 when killed, and LINE must be gone, within 20 seconds.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: signal INT|KILL LINE N program args...")
	}
	line := args[1]
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	cmd := background(ts, args[3], args[4:])
	ts.Check(cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := waitFor(line, true, done); err != nil {
		ts.Check(errors.Join(err, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)))
	}
	if args[0] == "KILL" {
		ts.Check(cmd.Process.Kill())
	} else {
		ts.Check(syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	}
	select {
	case err := <-done:
		checkStatus(ts, want, err)
	case <-time.After(20 * time.Second):
		ts.Check(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		<-done
		ts.Fatalf("still running 20 seconds after the signal")
	}
	ts.Check(waitFor(line, false, nil))
}

// background is a program with the script's environment, directory and output, in a
// process group of its own.
func background(ts *testscript.TestScript, program string, args []string) *exec.Cmd {
	if program == "mbuild" {
		program = siteOf(ts).mbuild
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "MBUILD_ROOT"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	return cmd
}

// waitFor returns when a process with the command line runs, or runs no more, as
// wanted; with an error when done says that it never will, and after 20 seconds.
func waitFor(line string, runs bool, done chan error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for commandRuns(line) != runs {
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("ended before %q ran: %v", line, err)
		case <-late:
			return fmt.Errorf("%q runs: got %v for 20 seconds, want %v", line, !runs, runs)
		case <-tick.C:
		}
	}
	return nil
}

// commandRuns reports whether some process's command line is exactly line.
func commandRuns(line string) bool {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return false
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err == nil && strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " ")) == line {
			return true
		}
	}
	return false
}
