package snapshot

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// View is the read-only merge of a chain of layers. It is immutable and may be
// used concurrently. Paths given to its methods are taken relative to the
// root, with or without a slash in front.
type View struct {
	s      *Store
	layers []Layer
	tocs   []*TOC
	root   *vnode
	stale  bool // some node may be
}

// vnode is a name in the merged tree. Views of chains that begin the same
// share nodes: only the view that made a node may change it.
type vnode struct {
	maker    *View
	rec      *record // nil: a directory that no layer describes
	layer    int32   // that rec is of
	dir      bool
	stale    bool // a layer above rec's implies this directory without describing it
	children map[string]*vnode
}

// View merges the tables of contents of layers, bottom first. It fetches the
// tables that are not on disk; contents are fetched by Open. A chain that
// begins like one viewed recently costs no more than what comes on top.
func (s *Store) View(ctx context.Context, layers []Layer) (*View, error) {
	below := s.viewBelow(layers)
	if len(below.layers) == len(layers) {
		return below, nil
	}
	v := &View{s: s, layers: slices.Clone(layers), tocs: make([]*TOC, len(layers))}
	copy(v.tocs, below.tocs)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i := len(below.tocs); i < len(layers); i++ {
		g.Go(func() (err error) {
			v.tocs[i], err = s.TOC(ctx, layers[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	v.root, v.stale = v.mine(below.root), below.stale
	for i := len(below.tocs); i < len(layers); i++ {
		v.merge(int32(i))
	}
	s.remember(v)
	return v, nil
}

// newView is the view of no layers.
func newView(s *Store) *View {
	v := &View{s: s}
	v.root = &vnode{maker: v, dir: true}
	return v
}

// fetchers is how many layers one call brings in at a time.
const fetchers = 4

// recentViews is how many views a store keeps to put more layers on.
const recentViews = 8

// viewBelow finds the recent view that most of layers can be put on, or the
// view of nothing.
func (s *Store) viewBelow(layers []Layer) *View {
	same := func(a, b Layer) bool { return a.DiffID == b.DiffID }
	s.mu.Lock()
	defer s.mu.Unlock()
	best := newView(s)
	for _, v := range s.views {
		if n := len(v.layers); n >= len(best.layers) && n <= len(layers) && slices.EqualFunc(v.layers, layers[:n], same) {
			best = v
		}
	}
	return best
}

func (s *Store) remember(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views = append(s.views[max(0, len(s.views)-recentViews+1):], v)
}

// mine returns a node that v may change, n itself or a copy.
func (v *View) mine(n *vnode) *vnode {
	if n.maker == v {
		return n
	}
	c := *n
	c.maker, c.children = v, maps.Clone(n.children)
	return &c
}

// merge puts layer i on top.
func (v *View) merge(i int32) {
	toc := v.tocs[i]
	dir, parent := "", (*vnode)(nil)
	for n := range toc.records {
		r := &toc.records[n]
		if d := parentOf(r.path); parent == nil || d != dir {
			dir, parent = d, v.descend(d, i)
		}
		switch {
		case r.typ == Opaque && r.path == ".":
			v.root.children = nil
		case r.path == ".":
			v.root.rec, v.root.layer = r, i
		default:
			v.apply(parent, r, lastName(r.path), i)
		}
	}
}

// descend walks to a directory that layer i needs, described or implied.
func (v *View) descend(dir string, i int32) *vnode {
	n := v.root
	if dir == "." {
		return n
	}
	for rest, more := dir, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		n = v.imply(n, name, i)
	}
	return n
}

// imply makes sure that name is a directory that may be changed.
func (v *View) imply(parent *vnode, name string, i int32) *vnode {
	c := parent.children[name]
	if c == nil || !c.dir {
		c = &vnode{maker: v, dir: true, layer: i}
		parent.set(name, c)
		return c
	}
	if c.maker != v {
		c = v.mine(c)
		parent.set(name, c)
	}
	if c.layer != i && c.rec != nil {
		c.stale, v.stale = true, true
	}
	return c
}

func (n *vnode) set(name string, c *vnode) {
	if n.children == nil {
		n.children = make(map[string]*vnode)
	}
	n.children[name] = c
}

// apply puts a record of layer i into its directory.
func (v *View) apply(parent *vnode, r *record, name string, i int32) {
	switch r.typ {
	case Whiteout:
		delete(parent.children, name)
	case Opaque:
		v.imply(parent, name, i).children = nil
	case Directory:
		if c := parent.children[name]; c != nil && c.dir {
			c = v.mine(c)
			c.rec, c.layer, c.stale = r, i, false
			parent.set(name, c)
			return
		}
		parent.set(name, &vnode{maker: v, rec: r, layer: i, dir: true})
	case Hardlink:
		if t := v.tocs[i].find(r.link); t != nil {
			parent.set(name, &vnode{maker: v, rec: t, layer: i})
		}
	default:
		parent.set(name, &vnode{maker: v, rec: r, layer: i})
	}
}

// find returns the record of a path, nil if there is none.
func (t *TOC) find(p string) *record {
	i := sort.Search(len(t.records), func(i int) bool { return !pathLess(t.records[i].path, p) })
	if i == len(t.records) || t.records[i].path != p {
		return nil
	}
	return &t.records[i]
}

// cleanPath brings a caller's path into the form "." or "a/b".
func cleanPath(p string) string {
	if p = path.Clean("/" + p)[1:]; p == "" {
		return "."
	}
	return p
}

func (v *View) node(p string) *vnode {
	n := v.root
	if p == "." {
		return n
	}
	for rest, more := p, true; more && n != nil; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		n = n.children[name]
	}
	return n
}

// entry describes a node. A directory no layer describes is 0755, root's, from 1970.
func (v *View) entry(p string, n *vnode) Entry {
	if n.rec == nil {
		return Entry{Path: p, Type: Directory, Mode: 0o755, ModTime: time.Unix(0, 0).UTC()}
	}
	e := n.rec.entry()
	e.Path = p
	if e.Type == Regular && n.rec.flags&flagLinked != 0 {
		e.Link = v.layers[n.layer].DiffID.Encoded() + ":" + n.rec.path
	}
	return e
}

// Layers returns the layers the view was made of, bottom first.
func (v *View) Layers() []Layer { return slices.Clone(v.layers) }

// Lookup describes what is at p, like lstat: no symlink is followed, not in
// the middle of p either.
func (v *View) Lookup(p string) (Entry, bool) {
	p = cleanPath(p)
	n := v.node(p)
	if n == nil {
		return Entry{}, false
	}
	return v.entry(p, n), true
}

// ReadDir lists a directory, sorted by name. Path of every entry is its whole
// path. All names of one file have the same, non-empty Link.
func (v *View) ReadDir(p string) ([]Entry, error) {
	p = cleanPath(p)
	n := v.node(p)
	if n == nil {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: fs.ErrNotExist}
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: p, Err: unix.ENOTDIR}
	}
	list := make([]Entry, 0, len(n.children))
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		list = append(list, v.entry(path.Join(p, name), n.children[name]))
	}
	return list, nil
}

// Resolve returns where p leads when every symlink is followed, the last one
// too. The root of the view is the root of every absolute link and cannot be
// left with "..". Components that do not exist are appended as they are. More
// than 255 links are an error that wraps ELOOP.
func (v *View) Resolve(p string) (string, error) {
	var at []string // resolved so far
	rest, hops := p, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(0, len(at)-1)]
			continue
		}
		at = append(at, name)
		n := v.node(strings.Join(at, "/"))
		if n == nil || n.dir || n.rec.typ != Symlink {
			continue
		}
		if hops++; hops > maxLinks || len(rest) > 16*maxPath {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: unix.ELOOP}
		}
		at = at[:len(at)-1]
		if strings.HasPrefix(n.rec.link, "/") {
			at = at[:0]
		}
		rest = n.rec.link + "/" + rest
	}
	if len(at) == 0 {
		return ".", nil
	}
	return strings.Join(at, "/"), nil
}

// ResolveParent is Resolve but for the last component, which is not followed.
func (v *View) ResolveParent(p string) (string, error) {
	dir, name := path.Split(strings.TrimRight(p, "/"))
	if name == "" || name == "." || name == ".." {
		return v.Resolve(p)
	}
	dir, err := v.Resolve(dir)
	if err != nil {
		return "", err
	}
	return path.Join(dir, name), nil
}

// Open reads a regular file. The reader ends with io.EOF only when size and
// digest are right, otherwise with an error that wraps ErrCorrupt; the caller
// closes it.
func (v *View) Open(ctx context.Context, p string) (io.ReadCloser, error) {
	p = cleanPath(p)
	n := v.node(p)
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	if n.dir || n.rec.typ != Regular {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fmt.Errorf("is a %s", v.entry(p, n).Type)}
	}
	raw, err := v.s.content(ctx, v.layers[n.layer], n.rec)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return readCloser{newVerified(cancellable{ctx, raw}, p, n.rec.entry().Digest, n.rec.size), &closeOnce{c: raw}}, nil
}
