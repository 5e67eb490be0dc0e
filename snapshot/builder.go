package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// errLoop is returned when a chain of symlinks is longer than maxLinks.
var errLoop = errors.New("too many symlinks")

// maxLinks is how many symlinks one resolution follows.
const maxLinks = 255

// builder collects the entries of one layer in the order of its tar and brings
// them into the normal form TOC promises.
type builder struct {
	root    place
	entries int  // added so far: no fewer than the table will have
	strict  bool // what a foreign layer may do by mistake is an error: names used twice, symlinks as parents
}

// place is a name of the layer under construction.
type place struct {
	node     *inode // what is there, nil: nothing, or a directory nobody described yet
	dir      bool
	opaque   bool
	whiteout bool
	children map[string]*place
}

// inode is a file that one or more names mean.
type inode struct {
	record
	index int // in the finished table, -1 before the first name is met
}

func newBuilder(strict bool) *builder { return &builder{root: place{dir: true}, strict: strict} }

// added tells what became of an entry.
type added struct {
	where     string // where it really is: a foreign layer may go through its own symlinks
	target    string // where the target of a hard link is
	node      *inode // nil when there is nothing to make: markers, a link to itself
	displaced bool   // something that was at that place before is gone
}

// add puts an entry into the layer.
func (b *builder) add(r record) (added, error) {
	b.entries++
	if r.typ == Opaque || r.path == "." {
		return b.addDirectoryEntry(r)
	}
	parent, where, err := b.parent(r.path)
	if err != nil {
		return added{}, err
	}
	p := parent.child(lastName(r.path))
	if b.strict && (p.node != nil || p.whiteout) {
		return added{}, fmt.Errorf("%q is in the layer already", r.path)
	}
	r.path = where
	a := added{where: where}
	switch r.typ {
	case Whiteout:
		p.whiteout = true
		return a, nil
	case Hardlink:
		if a.node, a.target, err = b.target(r); err != nil {
			return added{}, err
		}
		if a.node == p.node {
			return added{where: where}, nil
		}
		if strings.HasPrefix(a.target, where+"/") {
			return added{}, fmt.Errorf("hard link %q replaces the directory of its target %q", where, a.target)
		}
	default:
		a.node = &inode{record: r, index: -1}
	}
	a.displaced = p.node != nil && !(p.dir && r.typ == Directory) || p.dir && r.typ != Directory
	if a.displaced {
		p.children = nil
	}
	p.node, p.dir = a.node, r.typ == Directory
	return a, nil
}

// addDirectoryEntry handles the entries that never replace anything: the root
// and opaque markers.
func (b *builder) addDirectoryEntry(r record) (added, error) {
	if r.path == "." && r.typ != Directory && r.typ != Opaque {
		return added{}, fmt.Errorf("the root is a %s", r.typ)
	}
	p, where, err := b.directory(r.path)
	if err != nil {
		return added{}, err
	}
	if r.typ == Opaque {
		p.opaque = true
		return added{where: where}, nil
	}
	if b.strict && p.node != nil {
		return added{}, fmt.Errorf("%q is in the layer already", r.path)
	}
	p.node = &inode{record: r, index: -1}
	return added{where: where, node: p.node}, nil
}

// target finds the inode a hard link means, and where it is.
func (b *builder) target(r record) (*inode, string, error) {
	parent, where, err := b.parent(r.link)
	if err != nil {
		return nil, "", fmt.Errorf("hard link %q to %q: %v", r.path, r.link, err)
	}
	p := parent.children[lastName(r.link)]
	if r.link == "." || p == nil || p.node == nil {
		return nil, "", fmt.Errorf("hard link %q: its target %q is not in the layer before it", r.path, r.link)
	}
	if p.dir {
		return nil, "", fmt.Errorf("hard link %q: its target %q is a directory", r.path, r.link)
	}
	return p.node, where, nil
}

func (b *builder) parent(p string) (*place, string, error) {
	dir, name := "", p
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		dir, name = p[:i], p[i+1:]
	}
	if dir == "" {
		return &b.root, name, nil
	}
	parent, where, err := b.directory(dir)
	if err != nil {
		return nil, "", err
	}
	switch where {
	case dir:
		return parent, p, nil
	case ".":
		return parent, name, nil
	}
	if len(where)+1+len(name) > maxPath {
		return nil, "", fmt.Errorf("path %.40q… of %d bytes is longer than %d", p, len(where)+1+len(name), maxPath)
	}
	return parent, where + "/" + name, nil
}

// directory walks to dir and makes the directories that are missing. In a
// foreign layer symlinks of the same layer are followed, inside the layer.
func (b *builder) directory(dir string) (*place, string, error) {
	if p := b.plain(dir); p != nil {
		return p, dir, nil
	}
	at := []*place{&b.root}
	var names []string
	rest, hops := dir, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at, names = at[:max(1, len(at)-1)], names[:max(0, len(names)-1)]
			continue
		}
		p := at[len(at)-1].child(name)
		switch {
		case p.dir:
		case p.node == nil:
			p.dir = true
		case p.node.typ == Symlink && !b.strict:
			if hops++; hops > maxLinks {
				return nil, "", fmt.Errorf("%q: %w", dir, errLoop)
			}
			if strings.HasPrefix(p.node.link, "/") {
				at, names = at[:1], names[:0]
			}
			rest = p.node.link + "/" + rest
			if len(rest) > 2*maxPath {
				return nil, "", fmt.Errorf("%q: path through symlinks is longer than %d bytes", dir, 2*maxPath)
			}
			continue
		default:
			return nil, "", fmt.Errorf("%q is a %s, not a directory", strings.Join(append(names, name), "/"), p.node.typ)
		}
		at, names = append(at, p), append(names, name)
	}
	where := strings.Join(names, "/")
	if where == "" {
		where = "."
	}
	if len(where) > maxPath {
		return nil, "", fmt.Errorf("path of %d bytes is longer than %d", len(where), maxPath)
	}
	return at[len(at)-1], where, nil
}

// plain is the usual case of directory: every component is there and a directory.
func (b *builder) plain(dir string) *place {
	p := &b.root
	if dir == "." {
		return p
	}
	for rest, more := dir, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if p = p.children[name]; p == nil || !p.dir {
			return nil
		}
	}
	return p
}

func (p *place) child(name string) *place {
	c := p.children[name]
	if c == nil {
		if p.children == nil {
			p.children = make(map[string]*place)
		}
		c = new(place)
		p.children[name] = c
	}
	return c
}

func lastName(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// records returns the finished table. The first name of a file, in the order
// of the table, carries it; further names are hard links to that one.
func (b *builder) records() []record {
	out := make([]record, 0, b.entries)
	var walk func(p *place, at string)
	walk = func(p *place, at string) {
		out = p.appendRecords(out, at)
		for _, name := range slices.Sorted(maps.Keys(p.children)) {
			if at == "." {
				walk(p.children[name], name)
			} else {
				walk(p.children[name], at+"/"+name)
			}
		}
	}
	walk(&b.root, ".")
	return out
}

func (p *place) appendRecords(out []record, at string) []record {
	switch {
	case p.node == nil && !p.dir:
		if p.whiteout {
			out = append(out, record{path: at, typ: Whiteout})
		}
	case p.node == nil:
	case p.node.index < 0:
		p.node.index = len(out)
		r := p.node.record
		r.path = at
		out = append(out, r)
	default:
		first := &out[p.node.index]
		first.flags |= flagLinked
		r := record{path: at, typ: Hardlink, link: first.path}
		out = append(out, r)
	}
	if p.dir && (p.opaque || p.whiteout) {
		out = append(out, record{path: at, typ: Opaque})
	}
	return out
}
