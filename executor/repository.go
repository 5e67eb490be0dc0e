package executor

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"mbuild/dockerfile"
	"mbuild/executor/source"
	"mbuild/snapshot"
)

// Repository is the files of a repository. They belong to 0:0, are 0644 or 0755, and have the time of their commit.
// Without KeepGitDir nothing in the tree is called .git.
func (r *Remotes) Repository(ctx context.Context, g *dockerfile.Git) (Files, error) {
	commit, err := r.resolve(ctx, g)
	if err != nil {
		return nil, err
	}
	return r.repository(ctx, g, commit)
}

// resolve finds out which commit is meant.
func (r *Remotes) resolve(ctx context.Context, g *dockerfile.Git) (source.Commit, error) {
	name := g.Remote + "\x00" + g.Ref + "\x00" + g.Checksum
	return r.commits.do(ctx, name, func() (source.Commit, error) { return r.git.Resolve(ctx, g) })
}

// repositoryKey identifies the files of a commit. Where they come from counts only for a .git that is kept,
// which remembers it.
func repositoryKey(g *dockerfile.Git, c source.Commit) Key {
	e := newEncoder("git")
	for _, s := range []string{c.ID, subdir(g), fmt.Sprint(g.Submodules), fmt.Sprint(keepsGitDir(g))} {
		e.str(s)
	}
	if keepsGitDir(g) {
		e.str(c.Ref)
		e.str(source.WithoutCredentials(g.Remote))
	}
	return e.sum()
}

// subdir is the directory that is meant, clean; "." is the whole tree.
func subdir(g *dockerfile.Git) string {
	return path.Join(append([]string{"."}, components(path.Clean("/"+g.Subdir))...)...)
}

// keepsGitDir reports whether there is a .git to keep: a subdirectory has none.
func keepsGitDir(g *dockerfile.Git) bool { return g.KeepGitDir && subdir(g) == "." }

// repository shows the files of a commit, fetching it if it was never fetched.
func (r *Remotes) repository(ctx context.Context, g *dockerfile.Git, c source.Commit) (Files, error) {
	key := repositoryKey(g, c)
	layer, err := r.trees.do(ctx, string(key), func() (snapshot.Layer, error) {
		if rec, ok := r.records.Get(key); ok && len(rec.Layers) == 1 && r.store.Has(rec.Layers[0]) {
			return rec.Layers[0], nil
		}
		layer, err := r.fetch(ctx, g, c)
		if err != nil {
			return snapshot.Layer{}, err
		}
		return layer, r.records.Put(key, Record{Layers: []snapshot.Layer{layer}})
	})
	if err != nil {
		return nil, err
	}
	view, err := r.store.View(ctx, []snapshot.Layer{layer})
	if err != nil {
		return nil, err
	}
	return viewFiles{view}, nil
}

// fetch makes a layer of a commit.
func (r *Remotes) fetch(ctx context.Context, g *dockerfile.Git, c source.Commit) (_ snapshot.Layer, err error) {
	checkout, err := r.git.Checkout(ctx, g, c)
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer checkout.Close()
	dir, err := source.OpenDir(checkout.Dir, nil)
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer dir.Close()
	d := newDraft(noFiles{}, checkout.Time, r.temp)
	in := &intake{files: dir, draft: d, git: keepsGitDir(g)}
	if err := in.take(ctx, subdir(g)); err != nil {
		return snapshot.Layer{}, fmt.Errorf("%s: %w", source.Redact(g.Remote), err)
	}
	w, err := r.store.NewLayer(snapshot.Compression{})
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer w.Abort()
	if err := d.write(ctx, w); err != nil {
		return snapshot.Layer{}, err
	}
	return w.Commit()
}

// intake puts a directory of a checkout into a draft, in a form that does not depend on
// the machine that checked it out.
type intake struct {
	files Files
	draft *draft
	git   bool // with .git
}

const gitDir = ".git"

// take makes dir, whose links stay inside the checkout, the root of the draft.
func (in *intake) take(ctx context.Context, dir string) error {
	top, err := resolve(in.files.Lookup, dir, true)
	if err != nil {
		return err
	}
	e, err := in.files.Lookup(top)
	if absent(err) || err == nil && (e.Type != snapshot.Directory || insideGitDir(top)) {
		return fmt.Errorf("the repository has no directory %q", dir)
	}
	if err != nil {
		return err
	}
	return in.add(ctx, top, ".", e)
}

func insideGitDir(name string) bool {
	for _, part := range components(name) {
		if strings.EqualFold(part, gitDir) {
			return true
		}
	}
	return false
}

func (in *intake) add(ctx context.Context, from, to string, e snapshot.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := &node{entry: snapshot.Entry{Path: to, Type: e.Type, Size: e.Size, Link: e.Link, ModTime: in.draft.now}}
	switch e.Type {
	case snapshot.Regular:
		n.entry.Mode, n.entry.Link = checkoutMode(e.Mode), ""
		n.content = func(ctx context.Context) (io.ReadCloser, error) { return in.files.Open(ctx, from) }
	case snapshot.Directory:
		n.entry.Mode = 0o755
	case snapshot.Symlink:
		n.entry.Mode = 0o777
	default:
		return fmt.Errorf("%s is a %s, which a repository cannot hold", from, e.Type)
	}
	in.draft.nodes[to] = n
	if e.Type != snapshot.Directory {
		return nil
	}
	entries, err := in.files.ReadDir(from)
	if err != nil {
		return err
	}
	for _, child := range entries {
		name := path.Base(child.Path)
		if name == gitDir && !in.git {
			continue
		}
		if err := in.add(ctx, child.Path, path.Join(to, name), child); err != nil {
			return err
		}
	}
	return nil
}

// checkoutMode is a mode as a umask of 022 leaves it. Objects in .git are read-only.
func checkoutMode(mode uint32) uint32 {
	switch {
	case mode&0o100 != 0:
		return 0o755
	case mode&0o200 == 0:
		return 0o444
	}
	return 0o644
}

// lookGit finds the commit that an ADD wants. Its files are not needed when the key
// has a record.
func (r *execution) lookGit(ctx context.Context, g *dockerfile.Git, op *dockerfile.Copy) (lookedUp, error) {
	if r.Remotes == nil {
		return lookedUp{}, errNoRemotes
	}
	commit, err := r.Remotes.resolve(ctx, g)
	if err != nil {
		return lookedUp{}, err
	}
	return lookedUp{
		digest: digest.NewDigestFromEncoded(digest.SHA256, string(repositoryKey(g, commit))),
		load: func(ctx context.Context) ([]selection, error) {
			files, err := r.Remotes.repository(ctx, g, commit)
			if err != nil {
				return nil, err
			}
			return selectPaths(ctx, files, "/", op.Exclude)
		},
	}, nil
}
