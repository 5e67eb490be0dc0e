package executor

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

// prepareMkdir gets a WORKDIR ready.
func (r *execution) prepareMkdir(ctx context.Context, s *dockerfile.Step, op *dockerfile.Mkdir) (work, error) {
	below := r.below(s)
	return work{
		key: stepKey(s, below, nil),
		make: func(ctx context.Context) (snapshot.Layer, error) {
			return r.writeLayer(ctx, s, below, func(d *draft) error {
				o, err := findOwner(ctx, d.below, op.Owner)
				if err != nil {
					return err
				}
				dir, err := resolve(d.Lookup, op.Path, true)
				if err != nil {
					return err
				}
				return d.mkdirAll(dir, 0o755, o)
			})
		},
	}, nil
}

// prepareCopy looks up what a COPY or ADD takes, which its key depends on.
func (r *execution) prepareCopy(ctx context.Context, s *dockerfile.Step, op *dockerfile.Copy) (work, error) {
	below := r.below(s)
	c := &copyPlan{op: op}
	var err error
	if c.owner, err = r.copyOwner(ctx, op, below); err != nil {
		return work{}, err
	}
	inputs := []digest.Digest{c.owner.digest()}
	var sources []lookedUp
	for _, src := range op.Sources {
		l, err := r.lookSource(ctx, s, src, op)
		if err != nil {
			return work{}, r.sourceError(err, src)
		}
		sources = append(sources, l)
		inputs = append(inputs, l.digest)
	}
	if op.Link {
		below = nil
	}
	return work{
		key: stepKey(s, below, inputs),
		make: func(ctx context.Context) (snapshot.Layer, error) {
			for _, l := range sources {
				selected, err := l.load(ctx)
				if err != nil {
					return snapshot.Layer{}, err
				}
				c.selected = append(c.selected, selected...)
			}
			return r.writeLayer(ctx, s, below, func(d *draft) error { return c.apply(ctx, d) })
		},
	}, nil
}

// lookSource finds what one source of a COPY means.
func (r *execution) lookSource(ctx context.Context, s *dockerfile.Step, src dockerfile.Source, op *dockerfile.Copy) (lookedUp, error) {
	switch {
	case src.HTTP != nil:
		return r.lookHTTP(ctx, s, src.HTTP)
	case src.Git != nil:
		return r.lookGit(ctx, src.Git, op)
	}
	find := func(ctx context.Context) ([]selection, error) {
		files, err := r.files(ctx, src)
		if err != nil {
			return nil, err
		}
		return selectSource(ctx, files, src, op)
	}
	if src.Step == nil {
		return look(ctx, find)
	}
	question := []string{"copy", strconv.FormatBool(op.Parents), strconv.Itoa(len(src.Paths))}
	question = append(append(question, src.Paths...), op.Exclude...)
	return r.lookIn(ctx, r.states[src.Step.ID].layers, question, find)
}

// copyOwner resolves --chown. Only a name needs to look into the image.
func (r *execution) copyOwner(ctx context.Context, op *dockerfile.Copy, below []snapshot.Layer) (owner, error) {
	if o, err := findOwner(ctx, noFiles{}, op.Owner); err == nil {
		return o, nil
	}
	files, err := r.view(ctx, below)
	if err != nil {
		return owner{}, err
	}
	return findOwner(ctx, files, op.Owner)
}

// files opens what a source names.
func (r *execution) files(ctx context.Context, src dockerfile.Source) (Files, error) {
	switch {
	case src.Inline != nil:
		return inlineFiles{src.Inline}, nil
	case src.Local != nil:
		files, ok := r.Locals[src.Local.Name]
		if !ok && src.Local.Name == "" {
			return noFiles{}, nil // a Dockerfile alone
		}
		if !ok {
			return nil, fmt.Errorf("there is no build context %q", src.Local.Name)
		}
		return files, nil
	case src.Step != nil:
		return r.view(ctx, r.states[src.Step.ID].layers)
	}
	return noFiles{}, nil
}

func selectSource(ctx context.Context, files Files, src dockerfile.Source, op *dockerfile.Copy) ([]selection, error) {
	if src.Inline != nil {
		return []selection{inlineSelection(src.Inline)}, nil
	}
	find := selectPaths
	if op.Parents {
		find = selectParents
	}
	var all []selection
	for _, p := range src.Paths {
		if src.Local != nil && wildcardInClass(p) {
			continue
		}
		selected, err := find(ctx, files, p, op.Exclude)
		if err != nil {
			return nil, &sourcePathError{path: p, err: err}
		}
		all = append(all, selected...)
	}
	return all, nil
}

// inlineSelection selects a here-document: its name is no pattern.
func inlineSelection(doc *dockerfile.Inline) selection {
	files := inlineFiles{doc}
	e, _ := files.Lookup(doc.Name)
	return selection{files: files, base: doc.Name, picks: []pick{{name: ".", entry: e}}}
}

// sourcePathError is a source of COPY that cannot be read.
type sourcePathError struct {
	path  string
	where string // "the build context", "stage build", …
	err   error
}

func (e *sourcePathError) Error() string {
	if absent(e.err) {
		return fmt.Sprintf("%s is not in %s", e.path, e.where)
	}
	return fmt.Sprintf("cannot read %s in %s: %v", e.path, e.where, e.err)
}

func (e *sourcePathError) Unwrap() error { return e.err }

// sourceError says where the source was looked for.
func (r *execution) sourceError(err error, src dockerfile.Source) error {
	var p *sourcePathError
	if !errors.As(err, &p) {
		return err
	}
	switch {
	case src.Step != nil:
		if image, ok := src.Step.Op.(*dockerfile.Image); ok {
			p.where = "image " + image.Name
		} else {
			p.where = "stage " + src.Step.Stage
		}
	case src.Local != nil && src.Local.Name != "":
		p.where = fmt.Sprintf("the build context %q", src.Local.Name)
	case src.Scratch:
		p.where = "an empty stage"
	default:
		p.where = "the build context"
	}
	return p
}

// writeLayer makes a layer from changes to the files of below.
func (r *execution) writeLayer(ctx context.Context, s *dockerfile.Step, below []snapshot.Layer, change func(*draft) error) (_ snapshot.Layer, err error) {
	files, err := r.view(ctx, below)
	if err != nil {
		return snapshot.Layer{}, err
	}
	d := newDraft(files, r.now(), r.tempDir())
	defer func() { err = errors.Join(err, d.close()) }()
	if err := change(d); err != nil {
		return snapshot.Layer{}, err
	}
	w, err := r.Store.NewLayer(r.compression(s))
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer w.Abort()
	if err := d.write(ctx, w); err != nil {
		return snapshot.Layer{}, err
	}
	return w.Commit()
}
