package dockerfile

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// target is the plan for one target platform in the making.
type target struct {
	*planner
	platform ocispec.Platform
	stages   []*stage
	names    map[string][]int // stages by lower-case name, in file order
	globals  *env             // global ARGs and the platform arguments
	global   map[string]bool  // names of the global ARGs
	defined  map[string]globalArg
	expand   *expander
}

// stage is a FROM with what belongs to it. It is built when something needs it, and once.
type stage struct {
	instructions.Stage
	index    int
	base     string            // name after FROM, expanded
	platform *ocispec.Platform // --platform
	parent   *stage            // base is this earlier stage
	context  *Context          // a named context takes the place of the whole stage
	built    *state
	uses     uses
}

// label is how messages call a stage.
func (s *stage) label() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.index)
}

// state is what instructions work on: the filesystem so far, the image so far, and the scopes.
type state struct {
	step       *Step
	platform   ocispec.Platform // programs are of this platform
	image      *image
	env        *env // what expansion and RUN see
	args       []instructions.KeyValuePairOptional
	workdirSet bool // by the Dockerfile, not by a base image
	open       bool // the base image is not known, see survey
}

func (s *state) clone() *state {
	c := *s
	c.image, c.env = s.image.clone(), s.env.clone()
	c.args = append([]instructions.KeyValuePairOptional(nil), s.args...)
	return &c
}

// plan makes the steps that the target stage needs for one platform.
func (p *planner) plan(ctx context.Context, platform ocispec.Platform) (Result, error) {
	t, err := p.newTarget(platform)
	if err != nil {
		return Result{}, err
	}
	goal, err := t.goal()
	if err != nil {
		return Result{}, err
	}
	built, err := t.build(ctx, goal)
	if err != nil {
		return Result{}, err
	}
	img := built.image.clone()
	for k, v := range p.opts.Labels {
		img.setLabel(k, v)
	}
	return Result{Platform: platform, Step: built.step, image: img, epoch: p.opts.Epoch}, nil
}

// newTarget reads the stages for one platform.
func (p *planner) newTarget(platform ocispec.Platform) (*target, error) {
	t := &target{planner: p, platform: platform, names: map[string][]int{}, global: map[string]bool{}, expand: newExpander(p.file.escape)}
	stages, globals, err := p.file.instructions(p.lint)
	if err != nil {
		return nil, err
	}
	p.lintFile(stages)
	p.noteArgs(stages, globals)
	if err := t.setGlobals(stages, globals); err != nil {
		return nil, err
	}
	for i := range stages {
		if err := t.addStage(i, stages[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// addStage expands FROM and finds out what it stands on.
func (t *target) addStage(index int, def instructions.Stage) error {
	s := &stage{Stage: def, index: index}
	fail := func(err error) error { return t.file.fail(def.Location, err) }
	name, err := t.expand.word(t.expand.lex, def.BaseName, t.globals)
	if err != nil {
		return fail(err)
	}
	t.lintUndefinedInFrom(name.Unmatched, def.Location)
	s.uses.globals(name.Matched)
	s.base = name.Result
	if s.base == "" {
		return t.file.failf(def.Location, t.suggestArg(name.Unmatched), "base name (%s) should not be blank", def.BaseName)
	}
	if def.Platform != "" {
		if s.platform, err = t.stagePlatform(s, def); err != nil {
			return fail(err)
		}
	}
	platform := t.platform
	if s.platform != nil {
		platform = *s.platform
	}
	if s.Name != "" {
		s.context = t.contexts.find(s.Name, platform)
	}
	if s.context == nil {
		s.parent = t.stageNamed(s.base, index)
	}
	t.stages = append(t.stages, s)
	if s.Name != "" {
		t.names[s.Name] = append(t.names[s.Name], index)
	}
	return nil
}

func (t *target) stagePlatform(s *stage, def instructions.Stage) (*ocispec.Platform, error) {
	value, err := t.expand.word(t.expand.lex, def.Platform, t.globals)
	if err != nil {
		return nil, err
	}
	t.lintUndefinedInFrom(value.Unmatched, def.Location)
	t.lintPlatform(def, value)
	s.uses.globals(value.Matched)
	if value.Result == "" {
		return nil, t.file.failf(def.Location, t.suggestArg(value.Unmatched), "empty platform value from expression %s", def.Platform)
	}
	p, err := platforms.Parse(value.Result)
	if err != nil {
		return nil, t.file.failf(def.Location, t.suggestArg(value.Unmatched), "failed to parse platform %s: %v", def.Platform, err)
	}
	p = platforms.Normalize(p)
	return &p, nil
}

// suggestArg is a hint for names of arguments that do not exist.
func (t *target) suggestArg(unmatched map[string]struct{}) string {
	for _, k := range sortedKeys(unmatched) {
		if match, ok := suggest.Search(k, t.globals.Keys(), true); ok {
			return "did you mean " + match + "?"
		}
	}
	return ""
}

// goal is the stage that Options.Target names.
func (t *target) goal() (*stage, error) {
	want := t.opts.Target
	if want == "" {
		return t.stages[len(t.stages)-1], nil
	}
	if s := t.stageNamed(want, len(t.stages)); s != nil {
		return s, nil
	}
	if n, err := strconv.Atoi(want); err == nil && n >= 0 && n < len(t.stages) {
		return t.stages[n], nil
	}
	return nil, t.file.failf(nil, t.suggestStage(want), "target stage %q could not be found", want)
}

// stageNamed finds a stage by name, regardless of case, among those before the given index. The last
// one of a name wins.
func (t *target) stageNamed(name string, before int) *stage {
	same := t.names[strings.ToLower(name)]
	for i := len(same) - 1; i >= 0; i-- {
		if same[i] < before {
			return t.stages[same[i]]
		}
	}
	return nil
}

func (t *target) suggestStage(name string) string {
	var names []string
	for _, s := range t.stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	if match, ok := suggest.Search(name, names, false); ok {
		return "did you mean " + match + "?"
	}
	return ""
}

// build makes the steps of a stage and of all stages it needs, which stand before it in the file.
func (t *target) build(ctx context.Context, s *stage) (*state, error) {
	if s.built != nil {
		return s.built, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := t.start(ctx, s)
	if err != nil {
		return nil, err
	}
	if s.context == nil {
		w := &walk{target: t, stage: s, state: st}
		if err := w.run(ctx); err != nil {
			return nil, err
		}
	}
	s.built = st
	return st, nil
}

// start is the state that the instructions of a stage begin with.
func (t *target) start(ctx context.Context, s *stage) (*state, error) {
	if s.parent != nil {
		base, err := t.build(ctx, s.parent)
		if err != nil {
			return nil, err
		}
		return base.clone(), nil
	}
	platform := t.platform
	if s.platform != nil {
		platform = *s.platform
	}
	b := base{name: s.base, platform: platform, loc: s.Location, stage: s.label(), noCache: t.noCache(s), position: 1, total: 1 + countSteps(s.Commands)}
	if s.context != nil {
		return t.fromContext(ctx, *s.context, b)
	}
	return t.from(ctx, b)
}

// noCache says whether recorded results are out of the question for a stage.
func (t *target) noCache(s *stage) bool {
	if t.opts.NoCache {
		return true
	}
	for _, name := range t.opts.NoCacheStages {
		if s.Name != "" && strings.EqualFold(name, s.Name) || name == strconv.Itoa(s.index) {
			return true
		}
	}
	return false
}

// base is something that is not a stage and that a stage can stand on or be copied from.
type base struct {
	name            string
	platform        ocispec.Platform
	loc             []parser.Range
	stage           string // that needs it
	noCache         bool
	position, total int
}

// from makes the state of scratch, a named context or an image.
func (t *target) from(ctx context.Context, b base) (*state, error) {
	if b.name == "scratch" {
		return t.scratch(t.platform), nil
	}
	if _, err := reference.ParseNormalizedNamed(b.name); err != nil {
		return nil, t.file.failf(b.loc, t.suggestStage(b.name), "invalid image reference %q: %v", b.name, err)
	}
	if c := t.contexts.find(b.name, b.platform); c != nil {
		return t.fromContext(ctx, *c, b)
	}
	return t.fromImage(ctx, b.name, b)
}

func (t *target) scratch(p ocispec.Platform) *state {
	return &state{platform: p, image: scratchImage(p), env: newEnv()}
}

func (t *target) fromContext(ctx context.Context, c Context, b base) (*state, error) {
	if c.Image == "docker-image://scratch" {
		return t.scratch(b.platform), nil
	}
	if c.Image != "" {
		return t.fromImage(ctx, c.Image, b)
	}
	st := t.scratch(b.platform)
	st.step = t.intern(&Step{
		Op:    &Copy{Sources: []Source{{Local: &Local{Name: c.Local}, Paths: []string{"/"}}}, Dest: "/"},
		Stage: b.stage, Position: b.position, Total: b.total, Name: "FROM " + b.name, Loc: t.file.location(b.loc), NoCache: b.noCache,
	}, t.platform)
	st.image.commit("FROM "+b.name+" # buildkit", st.step)
	return st, nil
}

func (t *target) fromImage(ctx context.Context, ref string, b base) (*state, error) {
	a, err := t.ask(ctx, ref, b.platform)
	if err != nil && t.leaveOpen(ctx, b, err) {
		return t.openBase(b.platform), nil
	}
	if err != nil {
		loc := t.file.location(b.loc)
		return nil, &Error{Location: loc, Message: nameInstruction(loc, fmt.Sprintf("%s: %v", b.name, err)), Hint: t.suggestStage(b.name), Err: err}
	}
	st := &state{platform: b.platform, image: a.image.clone(), env: newEnv()}
	if len(a.image.diffIDs) == 0 {
		return st, nil
	}
	if err := t.checkBasePlatform(b, a.image.base); err != nil {
		return nil, err
	}
	st.step = t.intern(&Step{
		Op:       &Image{Ref: a.base.Ref, Name: b.name, Platform: b.platform},
		Platform: &b.platform,
		Stage:    b.stage, Position: b.position, Total: b.total, Name: "FROM " + b.name, Loc: t.file.location(b.loc),
	}, t.platform)
	return st, nil
}

// source is the filesystem that --from=name means to an instruction of stage s.
func (t *target) source(ctx context.Context, s *stage, name string, at []parser.Range) (Source, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= len(t.stages) {
			return Source{}, t.file.failf(at, "", "invalid stage index %d, the stages are numbered 0 to %d", n, len(t.stages)-1)
		}
		return t.stageSource(ctx, s, t.stages[n], name, at)
	}
	if other := t.stageNamed(name, s.index); other != nil {
		return t.stageSource(ctx, s, other, name, at)
	}
	if other := t.stageNamed(name, len(t.stages)); other != nil {
		return t.stageSource(ctx, s, other, name, at)
	}
	b := base{name: name, platform: t.platform, loc: at, stage: s.label()}
	if name != "scratch" {
		if c := t.contexts.find(name, t.platform); c != nil && c.Local != "" {
			return Source{Local: &Local{Name: c.Local}}, nil
		}
	}
	st, err := t.from(ctx, b)
	if err != nil {
		return Source{}, err
	}
	return stepSource(st), nil
}

func (t *target) stageSource(ctx context.Context, s, other *stage, name string, at []parser.Range) (Source, error) {
	if other == s {
		return Source{}, t.file.failf(at, "name an earlier stage", "circular dependency: stage %s needs files of itself", s.label())
	}
	if other.index > s.index {
		return Source{}, t.file.failf(at, "move stage "+other.label()+" up", "stage %q has to be defined before the stage %q that needs its files", name, s.label())
	}
	s.uses.stage(other)
	if other.context != nil && other.context.Local != "" {
		return Source{Local: &Local{Name: other.context.Local}}, nil
	}
	st, err := t.build(ctx, other)
	if err != nil {
		return Source{}, err
	}
	return stepSource(st), nil
}

func stepSource(st *state) Source {
	if st.step == nil {
		return Source{Scratch: true}
	}
	return Source{Step: st.step}
}
