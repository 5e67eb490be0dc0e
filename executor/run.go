package executor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"mbuild/dockerfile"
	"mbuild/executor/sandbox"
	"mbuild/snapshot"
)

// prepareRun gets a RUN ready. Its key holds the content of what is bound into it;
// caches and secrets are not part of it, as they must not change the result.
func (r *execution) prepareRun(ctx context.Context, s *dockerfile.Step, op *dockerfile.Run) (work, error) {
	below := r.below(s)
	binds := make([]*bind, len(op.Mounts))
	var inputs []digest.Digest
	for i, m := range op.Mounts {
		if m.Type != "bind" {
			continue
		}
		b, err := r.newBind(ctx, m)
		if err != nil {
			return work{}, err
		}
		binds[i] = b
		inputs = append(inputs, b.digest)
	}
	return work{
		key:  stepKey(s, below, inputs),
		make: func(ctx context.Context) (snapshot.Layer, error) { return r.run(ctx, s, op, below, binds) },
	}, nil
}

// run executes the program in a tree of the layers below and takes the layer from it.
func (r *execution) run(ctx context.Context, s *dockerfile.Step, op *dockerfile.Run, below []snapshot.Layer, binds []*bind) (layer snapshot.Layer, err error) {
	tree, err := r.Store.NewTree(ctx, below)
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()

	spec, err := runSpec(op)
	if err != nil {
		return snapshot.Layer{}, err
	}
	spec.Root = tree.Root()
	m := &mounting{execution: r, spec: &spec}
	defer func() { err = errors.Join(err, m.close()) }()
	for i, mount := range op.Mounts {
		if err := m.add(ctx, mount, binds[i]); err != nil {
			return snapshot.Layer{}, fmt.Errorf("--mount=type=%s,target=%s: %w", mount.Type, mount.Target, err)
		}
	}
	stdout, stderr := r.Progress.Output(s)
	if err := r.Sandbox.Run(ctx, spec, stdout, stderr); err != nil {
		return snapshot.Layer{}, err
	}
	if err := m.close(); err != nil {
		return snapshot.Layer{}, err
	}
	return tree.Commit(ctx, r.compression(s))
}

// runSpec translates the part of a RUN that needs nothing else.
func runSpec(op *dockerfile.Run) (sandbox.Spec, error) {
	spec := sandbox.Spec{
		Args:     op.Args,
		Env:      runEnv(op),
		Dir:      op.Dir,
		User:     op.User,
		Hostname: op.Hostname,
		Insecure: op.Insecure,
		Hosts:    op.Hosts,
		ShmSize:  op.ShmSize,
	}
	for _, u := range op.Ulimits {
		limit, err := units.ParseUlimit(u)
		if err != nil {
			return sandbox.Spec{}, err
		}
		spec.Ulimits = append(spec.Ulimits, sandbox.Ulimit{Name: limit.Name, Soft: rlimit(limit.Soft), Hard: rlimit(limit.Hard)})
	}
	if spec.Hostname == "" {
		spec.Hostname = "buildkitsandbox" // what RUN steps have come to expect
	}
	if op.Network == "none" {
		spec.Network = sandbox.None
	}
	for _, f := range op.Files {
		spec.Files = append(spec.Files, sandbox.File{Path: "/dev/pipes/" + f.Name, Data: f.Data, Mode: f.Mode})
	}
	return spec, nil
}

// rlimit turns -1, which means no limit, into the kernel's value for that.
func rlimit(n int64) uint64 {
	if n < 0 {
		return math.MaxUint64
	}
	return uint64(n)
}

// runEnv is the environment of the program: proxy settings stand behind everything
// the Dockerfile says.
func runEnv(op *dockerfile.Run) []string {
	env := slices.Clone(op.Env)
	have := map[string]bool{}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		have[name] = true
	}
	for _, kv := range op.Proxy {
		if name, _, _ := strings.Cut(kv, "="); !have[name] {
			env = append(env, kv)
		}
	}
	return env
}

// bind is the source of a bind mount: where its files are, and what they are worth in
// the key.
type bind struct {
	lookedUp
	layers []snapshot.Layer // of a stage or image; nil for a local context
	path   string           // inside the layers
}

func (r *execution) newBind(ctx context.Context, m dockerfile.Mount) (*bind, error) {
	find := func(ctx context.Context) ([]selection, error) {
		files, err := r.files(ctx, m.From)
		if err != nil {
			return nil, err
		}
		return selectTree(ctx, files, m.Source)
	}
	b := &bind{}
	var err error
	if m.From.Step != nil {
		b.layers = r.states[m.From.Step.ID].layers
		b.path = m.Source
		b.lookedUp, err = r.lookIn(ctx, b.layers, []string{"bind", m.Source}, find)
	} else {
		b.lookedUp, err = look(ctx, find)
	}
	if err != nil {
		return nil, r.sourceError(&sourcePathError{path: m.Source, err: err}, m.From)
	}
	return b, nil
}

// selectTree selects one path, no pattern, with everything below it.
func selectTree(ctx context.Context, files Files, name string) ([]selection, error) {
	at, err := resolve(files.Lookup, name, true)
	if err != nil {
		return nil, err
	}
	top, err := files.Lookup(at)
	if err != nil {
		return nil, err
	}
	s := selection{files: files, base: "source"}
	if err := s.add(".", top, excluder{}); err != nil {
		return nil, err
	}
	all := []selection{s}
	return all, digestPicks(ctx, all)
}

// mounting collects the mounts of one RUN and what has to be undone afterwards.
type mounting struct {
	*execution
	spec    *sandbox.Spec
	undo    []func() error
	sockets int // SSH agents so far
}

// close releases what the mounts hold, last first. It may be called again.
func (m *mounting) close() error {
	var err error
	for _, f := range slices.Backward(m.undo) {
		err = errors.Join(err, f())
	}
	m.undo = nil
	return err
}

func (m *mounting) add(ctx context.Context, mount dockerfile.Mount, b *bind) error {
	switch mount.Type {
	case "bind":
		return m.bind(ctx, mount, b)
	case "tmpfs":
		m.spec.Mounts = append(m.spec.Mounts, sandbox.Tmpfs{Target: mount.Target, Size: mount.Size})
		return nil
	case "cache":
		return m.cache(ctx, mount)
	case "secret":
		return m.secret(mount)
	case "ssh":
		return m.ssh(mount)
	}
	return fmt.Errorf("bug: no way to mount a %s", mount.Type)
}

// bind shows files of another stage or of a context. They are the top of a tree of
// their own, so that whatever the program writes there goes away with it.
func (m *mounting) bind(ctx context.Context, mount dockerfile.Mount, b *bind) error {
	layers, inside := b.layers, b.path
	if mount.From.Step == nil {
		selected, err := b.load(ctx)
		if err != nil {
			return err
		}
		layer, err := m.layerOf(ctx, selected)
		if err != nil {
			return err
		}
		layers, inside = []snapshot.Layer{layer}, "/source"
	}
	tree, err := m.Store.NewTree(ctx, layers)
	if err != nil {
		return err
	}
	m.undo = append(m.undo, tree.Close)
	m.spec.Mounts = append(m.spec.Mounts, sandbox.Bind{
		Within: tree.Root(), Source: inside, Target: mount.Target, ReadOnly: mount.ReadOnly,
	})
	return nil
}

// layerOf writes selected files of a context as a layer that holds them as "source".
func (m *mounting) layerOf(ctx context.Context, selected []selection) (_ snapshot.Layer, err error) {
	d := newDraft(noFiles{}, m.now(), m.tempDir())
	defer func() { err = errors.Join(err, d.close()) }()
	c := &copyPlan{}
	s := selected[0]
	if s.picks[0].entry.Type == snapshot.Directory {
		e := s.picks[0].entry
		e.Path = "source"
		if err := d.put(&node{entry: e}); err != nil {
			return snapshot.Layer{}, err
		}
	}
	if err := c.putAll(d, s, "source", chmod{}); err != nil {
		return snapshot.Layer{}, err
	}
	w, err := m.Store.NewLayer(snapshot.Compression{})
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer w.Abort()
	if err := d.write(ctx, w); err != nil {
		return snapshot.Layer{}, err
	}
	return w.Commit()
}

// setEnv puts a variable into the environment of the program, in place of one of the
// same name.
func (m *mounting) setEnv(name, value string) {
	m.spec.Env = slices.DeleteFunc(m.spec.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	m.spec.Env = append(m.spec.Env, name+"="+value)
}
