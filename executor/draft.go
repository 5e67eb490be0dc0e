package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"mbuild/snapshot"
)

// draft is a layer in the making: changes on top of a filesystem that is only looked
// at. COPY, ADD and WORKDIR work on a draft instead of a mounted tree.
type draft struct {
	below   Files
	nodes   map[string]*node
	now     time.Time // of what the draft makes by itself
	tempDir string
	temps   []*os.File
}

// node is a path that the draft defines anew.
type node struct {
	entry   snapshot.Entry
	content func(context.Context) (io.ReadCloser, error) // of a regular file
	group   string                                       // names with the same non-empty group are one file
	opaque  bool                                         // a directory that hides what is below
}

// newDraft starts a layer on top of below. The caller closes the draft.
func newDraft(below Files, now time.Time, tempDir string) *draft {
	return &draft{below: below, nodes: map[string]*node{}, now: now, tempDir: tempDir}
}

// tempFile returns a file without a name that lives as long as the draft.
func (d *draft) tempFile() (*os.File, error) {
	f, err := os.CreateTemp(d.tempDir, "extract-")
	if err != nil {
		return nil, err
	}
	d.temps = append(d.temps, f)
	return f, os.Remove(f.Name())
}

func (d *draft) close() error {
	var err error
	for _, f := range d.temps {
		err = errors.Join(err, f.Close())
	}
	return err
}

// Lookup describes a path as it is with the draft applied.
func (d *draft) Lookup(name string) (snapshot.Entry, error) {
	if n, ok := d.nodes[name]; ok {
		return n.entry, nil
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if n, ok := d.nodes[dir]; ok && (n.opaque || n.entry.Type != snapshot.Directory) {
			return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
		}
	}
	return d.below.Lookup(name)
}

// owner gives a new file its owner.
type owner struct {
	set      bool // false: as the source has it, 0:0 for what has no source
	uid, gid int
}

// digest is the owner's part of a key.
func (o owner) digest() digest.Digest {
	return digest.FromString(fmt.Sprintf("%v %d %d", o.set, o.uid, o.gid))
}

func (o owner) apply(e *snapshot.Entry) {
	if o.set {
		e.UID, e.GID = o.uid, o.gid
	}
}

// mkdirAll makes a directory and its missing parents. name has been resolved; what
// exists has to be a directory and stays as it is.
func (d *draft) mkdirAll(name string, mode uint32, o owner) error {
	parts := components(name)
	for i := range parts {
		dir := path.Join(parts[:i+1]...)
		e, err := d.Lookup(dir)
		switch {
		case err == nil && e.Type == snapshot.Directory:
			continue
		case err == nil:
			return fmt.Errorf("/%s is not a directory but a %s", dir, e.Type)
		case !absent(err):
			return err
		}
		made := snapshot.Entry{Path: dir, Type: snapshot.Directory, Mode: mode, ModTime: d.now}
		o.apply(&made)
		d.nodes[dir] = &node{entry: made}
	}
	return nil
}

// put defines n.entry.Path. A directory merges with a directory that exists, any
// other file replaces any other file; a directory and another file exclude each other.
func (d *draft) put(n *node) error {
	old, err := d.Lookup(n.entry.Path)
	if err != nil && !absent(err) {
		return err
	}
	if err == nil {
		isDir, wasDir := n.entry.Type == snapshot.Directory, old.Type == snapshot.Directory
		if isDir && !wasDir {
			return fmt.Errorf("cannot copy the directory over /%s, which is a %s", n.entry.Path, old.Type)
		}
		if !isDir && wasDir {
			return fmt.Errorf("cannot replace the directory /%s with a file", n.entry.Path)
		}
	}
	if was := d.nodes[n.entry.Path]; was != nil && was.opaque {
		n.opaque = true
	}
	d.nodes[n.entry.Path] = n
	return nil
}

// replace defines n.entry.Path whatever was there, as extracting an archive does.
func (d *draft) replace(n *node) error {
	name := n.entry.Path
	old, err := d.Lookup(name)
	if err != nil && !absent(err) {
		return err
	}
	if err == nil && (old.Type == snapshot.Directory) != (n.entry.Type == snapshot.Directory) {
		for p := range d.nodes {
			if strings.HasPrefix(p, name+"/") {
				delete(d.nodes, p)
			}
		}
		// Only a directory of the draft over a directory below has to hide it itself.
		under, uerr := d.below.Lookup(name)
		n.opaque = n.entry.Type == snapshot.Directory && uerr == nil && under.Type == snapshot.Directory
	} else if was := d.nodes[name]; was != nil && n.entry.Type == snapshot.Directory {
		n.opaque = was.opaque
	}
	d.nodes[name] = n
	return nil
}

// write makes the layer: parents before children, sorted, with the directories on the
// way to every change as they are below.
func (d *draft) write(ctx context.Context, w *snapshot.LayerWriter) error {
	if err := d.addParents(); err != nil {
		return err
	}
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.nodes)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := d.nodes[name]
		e := n.entry
		if e.Type == snapshot.Regular {
			e.Link = ""
			if other := first[n.group]; n.group != "" && other != "" {
				e.Type, e.Link, e.Size, e.Digest = snapshot.Hardlink, other, 0, ""
			} else {
				first[n.group] = name
			}
		}
		if err := d.writeNode(ctx, w, n, e); err != nil {
			return err
		}
	}
	return nil
}

func (d *draft) writeNode(ctx context.Context, w *snapshot.LayerWriter, n *node, e snapshot.Entry) error {
	if e.Type != snapshot.Regular || n.content == nil {
		if err := w.Add(e, strings.NewReader("")); err != nil {
			return err
		}
		if n.opaque {
			return w.Add(snapshot.Entry{Path: e.Path, Type: snapshot.Opaque}, nil)
		}
		return nil
	}
	content, err := n.content(ctx)
	if err != nil {
		return err
	}
	defer content.Close()
	return w.Add(e, content)
}

func (d *draft) addParents() error {
	for name := range maps.Clone(d.nodes) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if d.nodes[dir] != nil {
				continue
			}
			e, err := d.below.Lookup(dir)
			if err != nil {
				return err
			}
			d.nodes[dir] = &node{entry: e}
		}
	}
	return nil
}
