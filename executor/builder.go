package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"mbuild/dockerfile"
	"mbuild/executor/sandbox"
	"mbuild/snapshot"
)

// Images knows the layers of base images.
type Images interface {
	// Layers returns the layers of the image that a FROM or a --from names, bottom
	// first. Nothing is downloaded before a layer's Open is called.
	Layers(ctx context.Context, image *dockerfile.Image) ([]BaseLayer, error)
}

// BaseLayer is a layer that was made elsewhere.
type BaseLayer struct {
	DiffID digest.Digest
	Blob   ocispec.Descriptor
	Open   snapshot.Opener
}

// Sandbox runs one process in one root filesystem, and returns a *sandbox.ExitError
// when it ends with anything but status 0.
type Sandbox interface {
	Run(ctx context.Context, s sandbox.Spec, stdout, stderr io.Writer) error
}

// Progress is told what happens. Calls come from several goroutines.
type Progress interface {
	Started(s *dockerfile.Step)
	Cached(s *dockerfile.Step)
	// Done ends a started or cached step; err is nil, the step's failure, or a
	// context error when another step failed.
	Done(s *dockerfile.Step, err error)
	// Output returns where the output of a RUN goes.
	Output(s *dockerfile.Step) (stdout, stderr io.Writer)
	// Transfer reports bytes that arrive for a step; total is -1 when unknown.
	Transfer(s *dockerfile.Step, id string, current, total int64)
}

// Options is what a Builder needs. All but Epoch, Clamp, Secrets and Remotes must be set.
type Options struct {
	Store    *snapshot.Store
	Records  *Records
	Images   Images
	Locals   map[string]Files // local contexts by name; "" is the main one
	Sandbox  Sandbox
	Progress Progress
	Secrets  Secrets
	Remotes  *Remotes // nil: ADD of a URL or repository fails
	State    string   // directory for cache mounts ("mounts") and temporary files ("tmp")

	// Compression of the layers that end up in an image; an empty algorithm writes
	// no blobs, for builds whose result goes nowhere.
	Compression snapshot.Compression
	Epoch       *time.Time // SOURCE_DATE_EPOCH: the latest time a file made by COPY and WORKDIR itself gets
	Jobs        int        // steps at a time, at least one
	Clamp       *time.Time // rewrite-timestamp: no file of a layer made here is younger in the images
}

// Image is the result for one platform: layers, bottom first, and the configuration.
type Image struct {
	Platform ocispec.Platform
	Config   []byte
	Layers   []snapshot.Layer
	Base     int // how many of the layers, from the bottom, are the base image's
}

// StepError is the failure of a step. It wraps the cause, a *sandbox.ExitError for a
// RUN that ended badly.
type StepError struct {
	Step *dockerfile.Step
	Err  error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Step.Name, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

// Builder executes plans.
type Builder struct {
	Options
	jobs   *semaphore.Weighted
	mounts *cacheMounts
}

// New prepares the state directory. It fails when that cannot be written.
func New(o Options) (*Builder, error) {
	for _, dir := range []string{"tmp", "mounts"} {
		if err := os.MkdirAll(filepath.Join(o.State, dir), 0o700); err != nil {
			return nil, fmt.Errorf("cannot use the state directory: %w", err)
		}
	}
	return &Builder{
		Options: o,
		jobs:    semaphore.NewWeighted(int64(o.Jobs)),
		mounts:  newCacheMounts(filepath.Join(o.State, "mounts")),
	}, nil
}

// state is the filesystem after a step.
type state struct {
	layers  []snapshot.Layer
	own     []snapshot.Layer // what the step itself added
	created time.Time
}

// Build executes the plan and returns an image per result, in order. Steps run as soon
// as their inputs are there, at most Jobs at a time. The first failure cancels the
// others; when Build returns nothing is running any more.
func (b *Builder) Build(ctx context.Context, plan *dockerfile.Plan) ([]Image, error) {
	run := &execution{Builder: b, plan: plan, states: make([]*state, len(plan.Steps)), exported: exported(plan)}
	if err := run.all(ctx); err != nil {
		return nil, err
	}
	return run.images(ctx)
}

// execution is one plan on its way.
type execution struct {
	*Builder
	plan     *dockerfile.Plan
	states   []*state // by Step.ID, each set before the step's done channel closes
	exported map[*dockerfile.Step]bool
}

// exported tells which steps make layers of a result; only those are worth
// compressing while they are made.
func exported(plan *dockerfile.Plan) map[*dockerfile.Step]bool {
	yes := map[*dockerfile.Step]bool{}
	for i := range plan.Results {
		for _, s := range plan.Results[i].Chain() {
			yes[s] = true
		}
	}
	return yes
}

func (r *execution) all(ctx context.Context) error {
	done := make([]chan struct{}, len(r.plan.Steps))
	for i := range done {
		done[i] = make(chan struct{})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range r.plan.Steps {
		g.Go(func() error {
			for _, in := range s.Inputs() {
				select {
				case <-done[in.ID]:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			st, err := r.step(ctx, s)
			if err != nil {
				return err
			}
			r.states[s.ID] = st
			close(done[s.ID])
			return nil
		})
	}
	return g.Wait()
}

// step makes or finds one step and tells Progress about it.
func (r *execution) step(ctx context.Context, s *dockerfile.Step) (*state, error) {
	if err := r.jobs.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer r.jobs.Release(1)
	st, err := r.perform(ctx, s)
	if err != nil && !errors.Is(err, context.Canceled) {
		err = &StepError{Step: s, Err: err}
	}
	r.Progress.Done(s, err)
	return st, err
}

func (r *execution) perform(ctx context.Context, s *dockerfile.Step) (*state, error) {
	if image, ok := s.Op.(*dockerfile.Image); ok {
		return r.image(ctx, s, image)
	}
	w, err := r.prepare(ctx, s)
	if err != nil {
		r.Progress.Started(s)
		return nil, err
	}
	if !s.NoCache {
		if rec, ok := r.lookup(w.key); ok {
			r.Progress.Cached(s)
			return r.after(s, rec.Layers, rec.Created), nil
		}
	}
	r.Progress.Started(s)
	layer, err := w.make(ctx)
	if err != nil {
		return nil, err
	}
	rec := Record{Layers: []snapshot.Layer{layer}, Created: r.now(), Step: s.Name}
	if err := r.Records.Put(w.key, rec); err != nil {
		return nil, err
	}
	return r.after(s, rec.Layers, rec.Created), nil
}

// work is a step that is ready to be looked up or made.
type work struct {
	key  Key
	make func(context.Context) (snapshot.Layer, error)
}

func (r *execution) prepare(ctx context.Context, s *dockerfile.Step) (work, error) {
	switch op := s.Op.(type) {
	case *dockerfile.Run:
		return r.prepareRun(ctx, s, op)
	case *dockerfile.Copy:
		return r.prepareCopy(ctx, s, op)
	case *dockerfile.Mkdir:
		return r.prepareMkdir(ctx, s, op)
	}
	return work{}, fmt.Errorf("bug: no way to execute a %T", s.Op)
}

// lookup finds a record whose layers can all be had.
func (b *Builder) lookup(k Key) (Record, bool) {
	rec, ok := b.Records.Get(k)
	if !ok || len(rec.Layers) == 0 {
		return Record{}, false
	}
	for _, l := range rec.Layers {
		if !b.Store.Has(l) {
			return Record{}, false
		}
	}
	return rec, true
}

// below returns the layers that a step stands on.
func (r *execution) below(s *dockerfile.Step) []snapshot.Layer {
	if s.Parent == nil {
		return nil
	}
	return r.states[s.Parent.ID].layers
}

func (r *execution) after(s *dockerfile.Step, own []snapshot.Layer, created time.Time) *state {
	below := r.below(s)
	return &state{layers: append(below[:len(below):len(below)], own...), own: own, created: created}
}

// compression is how a step's layer is written: compressed when it will be part of an
// image, plain when only other steps read it.
func (r *execution) compression(s *dockerfile.Step) snapshot.Compression {
	if r.exported[s] {
		return r.Compression
	}
	return snapshot.Compression{}
}

// now is the time that files made by the builder itself get.
func (b *Builder) now() time.Time {
	now := time.Now().UTC().Truncate(time.Second)
	if b.Epoch != nil && now.After(*b.Epoch) {
		return *b.Epoch
	}
	return now
}

// view shows the filesystem of a stack of layers.
func (b *Builder) view(ctx context.Context, layers []snapshot.Layer) (Files, error) {
	if len(layers) == 0 {
		return noFiles{}, nil
	}
	v, err := b.Store.View(ctx, layers)
	if err != nil {
		return nil, err
	}
	return viewFiles{v}, nil
}

func (r *execution) images(ctx context.Context) ([]Image, error) {
	images := make([]Image, len(r.plan.Results))
	for i := range r.plan.Results {
		res := &r.plan.Results[i]
		images[i] = Image{Platform: res.Platform}
		made := map[*dockerfile.Step]dockerfile.Made{}
		for _, s := range res.Chain() {
			st := r.states[s.ID]
			own, err := r.published(ctx, s, st.own)
			if err != nil {
				return nil, err
			}
			if isImage(s) {
				images[i].Base += len(own)
			}
			m := dockerfile.Made{Created: st.created}
			for _, l := range own {
				m.DiffIDs = append(m.DiffIDs, l.DiffID)
			}
			made[s] = m
			images[i].Layers = append(images[i].Layers, own...)
		}
		config, err := res.ImageConfig(func(s *dockerfile.Step) dockerfile.Made { return made[s] })
		if err != nil {
			return nil, err
		}
		images[i].Config = config
	}
	return images, nil
}

// published returns a step's layers as they go into an image.
func (r *execution) published(ctx context.Context, s *dockerfile.Step, own []snapshot.Layer) ([]snapshot.Layer, error) {
	if r.Clamp == nil || isImage(s) {
		return own, nil
	}
	clamped := make([]snapshot.Layer, len(own))
	for i, l := range own {
		var err error
		if clamped[i], err = r.clamp(ctx, l, *r.Clamp); err != nil {
			return nil, err
		}
	}
	return clamped, nil
}

func isImage(s *dockerfile.Step) bool {
	_, ok := s.Op.(*dockerfile.Image)
	return ok
}

// tempDir is where temporary files go: beside the layers, so that a small /tmp does
// not matter.
func (b *Builder) tempDir() string { return filepath.Join(b.State, "tmp") }
