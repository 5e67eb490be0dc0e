package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"mbuild/cmd/mbuild/flags"
	"mbuild/cmd/mbuild/progress"
	"mbuild/dockerfile"
	"mbuild/emulation"
	"mbuild/executor"
	"mbuild/executor/namespace"
	"mbuild/executor/sandbox"
	"mbuild/index"
	"mbuild/snapshot"
)

// build is the build command. It checks the command line, enters the build namespace,
// and there does everything else; where there is no namespace to be had it carries on
// without, which is enough for builds without RUN.
func (c *command) build(cc *cli.Context) error {
	o, err := parseBuild(cc)
	if err != nil {
		return err
	}
	if o.call.Method != flags.MethodBuild {
		request := &call{buildOptions: o, stdout: c.stdout, stderr: c.stderr}
		return request.run(cc.Context)
	}
	root, err := stateDir(o.root)
	if c.inside != nil {
		root, err = o.root, nil // checked by the half outside
	}
	if err != nil {
		return err
	}
	var why *namespace.Unavailable
	if c.inside == nil {
		var done bool
		args := slices.Concat([]string{"build", "--root=" + root}, c.args[1:])
		if done, why, err = c.enter(cc.Context, args); done || err != nil {
			return err
		}
	}
	b := &build{buildOptions: o, dir: root, stdout: c.stdout, stderr: c.stderr, unavailable: why}
	return b.run(cc.Context)
}

// build is one build on its way.
type build struct {
	*buildOptions
	dir            string
	stdout, stderr io.Writer
	unavailable    *namespace.Unavailable // why there is no build namespace

	inputs   *inputs
	store    *snapshot.Store
	records  *executor.Records
	remotes  *executor.Remotes
	images   *images
	reg      *index.Registry
	emulate  *emulation.Set
	display  progress.Display
	observer *observer
	executor *executor.Builder
}

func (b *build) run(ctx context.Context) (err error) {
	if err := removeStale(b.result.iidFile); err != nil {
		return err
	}
	lock, err := lockState(b.dir, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := b.openState(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if b.inputs, err = openInputs(ctx, &b.input, b.remotes); err != nil {
		return err
	}
	defer b.inputs.Close()
	if err := b.openDisplay(); err != nil {
		return err
	}
	results, err := b.build(ctx)
	if err == nil {
		err = b.publish(ctx, results)
	}
	// The display ends before anything else is said.
	return errors.Join(err, b.display.Close())
}

func removeStale(name string) error {
	if name == "" {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (b *build) openState() (err error) {
	if b.store, err = snapshot.Open(filepath.Join(b.dir, "layers")); err != nil {
		return fmt.Errorf("cannot use the state directory: %w", err)
	}
	b.reg = index.NewRegistry(b.registry)
	b.images = newImages(b.reg)
	b.emulate = emulation.Find(emulation.Options{Emulators: b.running.emulators, Dir: ownDir()})
	if b.records, err = executor.OpenRecords(filepath.Join(b.dir, "records")); err != nil {
		return err
	}
	b.remotes, err = executor.NewRemotes(b.store, b.records, b.running.secrets, b.dir)
	return err
}

// ownDir is where this binary lies: emulators are looked for beside it.
func ownDir() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(exe)
}

func (b *build) openDisplay() error {
	o, err := progress.FromEnvironment(os.Getenv)
	if err != nil {
		return usageError{err}
	}
	if b.display, err = progress.New(b.progress, b.stderr, o); err != nil {
		return usageError{err}
	}
	b.observer = &observer{display: b.display, multi: len(b.input.platforms) > 1, emulated: b.isEmulated}
	if b.builder != "" {
		b.say(progress.Warning, "--builder %s: mbuild has no builder instances, it builds here", b.builder)
	}
	for _, p := range b.input.repeated {
		b.say(progress.Warning, "platform %s is given twice", p)
	}
	return nil
}

func (b *build) say(kind progress.Kind, format string, args ...any) {
	b.display.Handle(progress.Event{Kind: kind, Name: fmt.Sprintf(format, args...)})
}

// build plans and executes.
func (b *build) build(ctx context.Context) ([]executor.Image, error) {
	plan, err := dockerfile.NewPlan(ctx, b.inputs.file, b.planOptions())
	if err != nil {
		return nil, err
	}
	for _, w := range plan.Warnings {
		b.say(progress.Warning, "%s: %s (%s)", w.Location, w.Message, w.Rule)
	}
	b.display.Handle(progress.Event{Kind: progress.Planned, Total: len(plan.Steps)})
	stop, err := b.prepareRuns(plan)
	if err != nil {
		return nil, err
	}
	defer stop()
	b.executor, err = executor.New(executor.Options{
		Store:       b.store,
		Records:     b.records,
		Remotes:     b.remotes,
		Images:      b.images,
		Locals:      b.inputs.locals,
		Sandbox:     &isolation{say: b.say},
		Progress:    b.observer,
		Secrets:     b.running.secrets,
		State:       b.dir,
		Compression: b.compression(),
		Epoch:       b.input.epoch,
		Jobs:        b.running.jobs,
		Clamp:       b.clamp(),
	})
	if err != nil {
		return nil, err
	}
	return b.executor.Build(ctx, plan)
}

func (b *build) planOptions() dockerfile.Options {
	o := dockerfile.Options{
		Platforms:        b.input.platforms,
		BuildPlatform:    b.input.host,
		Target:           b.input.target,
		BuildArgs:        b.input.args,
		Labels:           b.input.labels,
		Images:           b.images,
		Contexts:         b.inputs.named,
		Ignore:           b.inputs.ignore,
		Network:          b.running.network,
		AllowInsecure:    b.running.allow.Insecure,
		AllowHostNetwork: b.running.allow.HostNetwork || b.running.network == "host",
		ShmSize:          b.running.shmSize,
		Hostname:         b.input.args["BUILDKIT_SANDBOX_HOSTNAME"],
		NoCache:          b.input.noCache,
		NoCacheStages:    b.input.noCaches,
		Epoch:            b.input.epoch,
	}
	for _, h := range b.running.hosts {
		address := h.Address.String()
		if h.Gateway {
			address = "127.0.0.1" // RUN shares the network of the machine that builds
		}
		o.ExtraHosts = append(o.ExtraHosts, h.Name+"="+address)
	}
	for _, u := range b.running.ulimits {
		o.Ulimits = append(o.Ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return o
}

// prepareRuns sees to it that every RUN of the plan can be executed, or says before
// anything runs what is missing. stop ends what it started.
func (b *build) prepareRuns(plan *dockerfile.Plan) (stop func(), err error) {
	var foreign []ocispec.Platform
	for _, s := range plan.Steps {
		if _, ok := s.Op.(*dockerfile.Run); !ok {
			continue
		}
		if b.unavailable != nil {
			return nil, &executor.StepError{Step: s, Err: &cannotError{
				what: "no process can be isolated here: " + b.unavailable.Reason, hint: b.unavailable.Hint, code: exitCannot,
			}}
		}
		way := b.emulate.Way(*s.Platform)
		switch way.Kind {
		case emulation.Missing:
			return nil, &executor.StepError{Step: s, Err: &cannotError{
				what: fmt.Sprintf("programs for %s cannot run here: %s", platformName(*s.Platform), way.Reason), hint: way.Hint, code: exitCannot,
			}}
		case emulation.QEMU:
			if !slices.ContainsFunc(foreign, func(p ocispec.Platform) bool { return platformName(p) == platformName(*s.Platform) }) {
				foreign = append(foreign, *s.Platform)
			}
		}
	}
	if len(foreign) == 0 {
		return func() {}, nil
	}
	handlers, err := b.emulate.Register(filepath.Join(b.dir, "tmp"), foreign)
	if err != nil {
		return nil, &cannotError{what: fmt.Sprintf("cannot register emulators: %v", err), code: exitCannot, hint: "mbuild doctor"}
	}
	return func() { handlers.Close() }, nil
}

func (b *build) isEmulated(p ocispec.Platform) bool {
	kind := b.emulate.Way(p).Kind
	return kind == emulation.QEMU || kind == emulation.HostHandler
}

// clamp is the latest time that files of our layers may have, nil for any.
func (b *build) clamp() *time.Time {
	if !b.result.clamp {
		return nil
	}
	return b.input.epoch
}

// compression is how layers are compressed while they are made: as the first output
// that wants images says. Without one nothing is compressed.
func (b *build) compression() snapshot.Compression {
	for _, o := range b.result.outputs {
		if isImage(o) {
			return compressionOf(o)
		}
	}
	return snapshot.Compression{}
}

func isImage(o flags.Output) bool {
	return o.Type == flags.OutputImage || o.Type == flags.OutputOCI || o.Type == flags.OutputDocker
}

func compressionOf(o flags.Output) snapshot.Compression {
	c := snapshot.Compression{Algorithm: o.Image.Compression}
	if c.Algorithm == "" {
		c.Algorithm = "gzip"
	}
	if o.Image.CompressionLevel != nil {
		c.Level = *o.Image.CompressionLevel
	}
	return c
}

// isolation is how a RUN is isolated here: the sandbox in the build namespace. What is
// weaker than it should be is said once.
type isolation struct {
	say  func(progress.Kind, string, ...any)
	told sync.Map
}

func (i *isolation) Run(ctx context.Context, s sandbox.Spec, stdout, stderr io.Writer) error {
	s.Degraded = func(d sandbox.Degradation) {
		if _, known := i.told.LoadOrStore(d.Feature, true); !known {
			i.say(progress.Warning, "RUN steps are isolated less than usual here: %s", d)
		}
	}
	return sandbox.Run(ctx, s, stdout, stderr)
}
