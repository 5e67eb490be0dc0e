package dockerfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// NewPlan makes the plan of f for the target platforms of o.
//
// The only I/O is what o.Images does. A nil error means that every instruction of the stages that the target needs is
// understood and possible with o, and that no build check fails the build. Errors about the
// Dockerfile are *Error; when Images fails, its error is the cause.
func NewPlan(ctx context.Context, f *File, o Options) (*Plan, error) {
	p, err := newPlanner(f, o)
	if err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(o.Platforms))
	for _, platform := range o.Platforms {
		r, err := p.plan(ctx, platform)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	if err := p.checksFailed(); err != nil {
		return nil, err
	}
	p.warnUnusedArgs()
	p.sortWarnings()
	return &Plan{Steps: p.steps, Results: results, Warnings: p.warnings}, nil
}

func newPlanner(f *File, o Options) (*planner, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &planner{file: f, opts: o, known: map[[32]byte]*Step{}, images: map[string]*answer{}, declared: map[string]bool{}, warned: map[finding]bool{}}
	var err error
	if p.contexts, err = normaliseContexts(o.Contexts); err != nil {
		return nil, err
	}
	if p.checks, err = o.checks(f); err != nil {
		return nil, err
	}
	p.lint = linter.New(&linter.Config{ExperimentalAll: true, Warn: p.warn}) // warn selects
	return p, nil
}

// planner makes one plan. What is in it is common to all target platforms.
type planner struct {
	file     *File
	opts     Options
	contexts contexts
	lint     *linter.Linter
	checks   checks
	survey   *survey // nil: a plan is made

	steps    []*Step
	known    map[[32]byte]*Step // by identity, see intern
	images   map[string]*answer // by reference and platform
	declared map[string]bool    // build arguments that some ARG declares
	warnings []Warning
	warned   map[finding]bool
}

// finding tells warnings apart.
type finding struct {
	rule, message string
	line          int
}

// answer is what Images said.
type answer struct {
	base  BaseImage
	image *image
	err   error
}

// ask asks for an image, once per reference and platform.
func (p *planner) ask(ctx context.Context, ref string, platform ocispec.Platform) (*answer, error) {
	key := ref + " " + platforms.FormatAll(platform)
	if a, ok := p.images[key]; ok {
		return a, a.err
	}
	if p.survey != nil && p.survey.withoutImages {
		return nil, errNotAsked
	}
	if p.opts.Images == nil {
		return nil, fmt.Errorf("%s: no images are available to this build", ref)
	}
	base, err := p.opts.Images.Image(ctx, ref, platform)
	if err != nil {
		p.images[key] = &answer{err: err} // it is not tried again for another stage
		return nil, err
	}
	img, err := baseImage(base.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if img.base.OS == "windows" {
		return nil, fmt.Errorf("%s: images for windows are not supported", ref)
	}
	a := &answer{base: base, image: img}
	p.images[key] = a
	return a, nil
}

// intern returns the step like s that the plan has already, or adds s. Steps are equal
// when they do the same on the same platform with the same inputs.
func (p *planner) intern(s *Step, target ocispec.Platform) *Step {
	e := &encoder{}
	e.text(string(s.Op.Definition()))
	e.platform(s.Platform)
	step := func(x *Step) {
		e.flag(x != nil)
		if x != nil {
			e.number(int64(x.ID))
		}
	}
	identity := func(src Source) {
		step(src.Step)
		if src.Local != nil {
			e.text(src.Local.Name)
		}
		e.identify(src)
	}
	step(s.Parent)
	switch op := s.Op.(type) {
	case *Copy:
		for _, src := range op.Sources {
			identity(src)
		}
	case *Run:
		for _, m := range op.Mounts {
			identity(m.From)
		}
	}
	key := sha256.Sum256(e.buf)
	x, ok := p.known[key]
	if !ok {
		x = s
		x.ID = len(p.steps)
		p.steps = append(p.steps, x)
		p.known[key] = x
	}
	x.NoCache = x.NoCache || s.NoCache
	if !slices.ContainsFunc(x.For, func(q ocispec.Platform) bool { return platforms.FormatAll(q) == platforms.FormatAll(target) }) {
		x.For = append(x.For, target)
	}
	return x
}

// warnUnusedArgs tells of build arguments that no ARG in the file declares.
func (p *planner) warnUnusedArgs() {
	var unused []string
	for k := range p.opts.BuildArgs {
		if !p.declared[k] && !predefinedArg(k) {
			unused = append(unused, k)
		}
	}
	sort.Strings(unused)
	for _, k := range unused {
		p.warn("UnusedBuildArg", "", "", fmt.Sprintf("build argument %s is not declared by any ARG", k), nil)
	}
}
