package dockerfile

import (
	"context"
	"maps"
	"sort"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Outline is what a build target takes from outside.
type Outline struct {
	Name        string // of the stage, empty when it has none
	Description string // comment above its FROM
	Args        []OutlineArg
	Secrets     []OutlineMount
	SSH         []OutlineMount
	Caches      []OutlineMount
	Missing     []MissingImage
}

// OutlineArg is a build argument that changes the target.
type OutlineArg struct {
	Location
	Name        string
	Value       string // what it is in this build: given, or the default
	Description string // comment above its ARG
}

// OutlineMount is a secret, an agent or a cache that a RUN mounts.
type OutlineMount struct {
	Location
	ID       string
	Required bool // the build fails without; never true of caches
}

// NewOutline lists what the target of o takes from outside, its own stage and those it needs together, each
// by position in the file. It looks at the first platform and makes no plan; an image that is
// not to be had is reported in Missing and ends nothing.
func NewOutline(ctx context.Context, f *File, o Options) (*Outline, error) {
	p, err := newSurvey(f, o)
	if err != nil {
		return nil, err
	}
	t, err := p.newTarget(p.opts.Platforms[0])
	if err != nil {
		return nil, err
	}
	goal, err := t.goal()
	if err != nil {
		return nil, err
	}
	if _, err := t.build(ctx, goal); err != nil {
		return nil, err
	}
	c := &collector{target: t, out: &Outline{Name: goal.Name, Description: goal.Comment}, seen: map[string]bool{}, visited: map[*stage]bool{}}
	c.visit(goal)
	sortByLine(c.out.Args, func(a OutlineArg) int { return a.Start })
	for _, mounts := range [][]OutlineMount{c.out.Secrets, c.out.SSH, c.out.Caches} {
		sortByLine(mounts, func(m OutlineMount) int { return m.Start })
	}
	c.out.Missing = p.survey.missing
	return c.out, nil
}

func sortByLine[T any](list []T, line func(T) int) {
	sort.SliceStable(list, func(i, j int) bool { return line(list[i]) < line(list[j]) })
}

// uses is what one stage takes from outside.
type uses struct {
	global  map[string]bool // global ARGs that its FROM or an ARG without value names
	args    map[string]OutlineArg
	secrets []OutlineMount
	ssh     []OutlineMount
	caches  []OutlineMount
	stages  []*stage // that it reads files of
}

func (u *uses) globals(names map[string]struct{}) {
	for name := range names {
		put(&u.global, name, true)
	}
}

func (u *uses) stage(s *stage) { u.stages = append(u.stages, s) }

// globalArg is an ARG in front of the first FROM.
type globalArg struct {
	OutlineArg
	needs map[string]struct{} // global ARGs that its value is made of
}

// define notes a global ARG. Of several with one name the last one counts, and when it extends the one
// before it has its needs too.
func (t *target) define(kv instructions.KeyValuePairOptional, value string, matched map[string]struct{}, at []parser.Range) {
	if t.defined == nil {
		return // only the defaults are being looked at
	}
	needs := maps.Clone(matched)
	if _, ok := needs[kv.Key]; ok {
		delete(needs, kv.Key)
		maps.Copy(needs, t.defined[kv.Key].needs)
	}
	t.defined[kv.Key] = globalArg{
		OutlineArg: OutlineArg{Location: t.file.location(at), Name: kv.Key, Value: value, Description: kv.Comment},
		needs:      needs,
	}
}

// noteArgUse notes an ARG of a stage, which may only repeat a global one.
func (w *walk) noteArgUse(c *instructions.ArgCommand, kv instructions.KeyValuePairOptional, inherits bool) {
	u := &w.stage.uses
	if inherits {
		put(&u.global, kv.Key, true)
		return
	}
	put(&u.args, kv.Key, OutlineArg{Location: w.file.location(c.Location()), Name: kv.Key, Value: kv.ValueString(), Description: kv.Comment})
}

// noteMount notes what a RUN mounts from outside.
func (w *walk) noteMount(m Mount, at []parser.Range) {
	x := OutlineMount{Location: w.file.location(at), ID: m.ID, Required: m.Required}
	u := &w.stage.uses
	switch m.Type {
	case string(instructions.MountTypeSecret):
		u.secrets = append(u.secrets, x)
	case string(instructions.MountTypeSSH):
		u.ssh = append(u.ssh, x)
	case string(instructions.MountTypeCache):
		x.Required = false
		u.caches = append(u.caches, x)
	}
}

// collector puts the uses of a stage and of those it needs together. Of equal names the one nearest
// to the target counts.
type collector struct {
	*target
	out     *Outline
	seen    map[string]bool // "arg NAME", "secret ID", …
	visited map[*stage]bool
}

func (c *collector) visit(s *stage) {
	if s == nil || c.visited[s] {
		return
	}
	c.visited[s] = true
	u := &s.uses
	for _, name := range sortedKeys(u.args) {
		c.arg(u.args[name])
	}
	for _, name := range sortedKeys(u.global) {
		c.global(name, map[string]bool{})
	}
	c.mounts("secret", u.secrets, &c.out.Secrets)
	c.mounts("ssh", u.ssh, &c.out.SSH)
	c.mounts("cache", u.caches, &c.out.Caches)
	c.visit(s.parent)
	for _, other := range u.stages {
		c.visit(other)
	}
}

func (c *collector) first(kind, name string) bool {
	key := kind + " " + name
	if c.seen[key] {
		return false
	}
	c.seen[key] = true
	return true
}

func (c *collector) arg(a OutlineArg) {
	if c.first("arg", a.Name) {
		c.out.Args = append(c.out.Args, a)
	}
}

// global adds a global ARG and those it is made of. Platform arguments are not among them.
func (c *collector) global(name string, visited map[string]bool) {
	a, ok := c.defined[name]
	if !ok || visited[name] {
		return
	}
	visited[name] = true
	c.arg(a.OutlineArg)
	for _, need := range sortedKeys(a.needs) {
		c.global(need, visited)
	}
}

func (c *collector) mounts(kind string, from []OutlineMount, to *[]OutlineMount) {
	for _, m := range from {
		if c.first(kind, m.ID) {
			*to = append(*to, m)
		}
	}
}
