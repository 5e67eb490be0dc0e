package executor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	mode "github.com/tonistiigi/dchapes-mode"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

// copyPlan is a COPY or ADD with its sources looked up: all that is needed for its
// key, and for making its layer when there is no record.
type copyPlan struct {
	op       *dockerfile.Copy
	owner    owner
	selected []selection
}

// inlineFiles shows one here-document as Files.
type inlineFiles struct{ doc *dockerfile.Inline }

func (i inlineFiles) Lookup(name string) (snapshot.Entry, error) {
	switch name {
	case ".":
		return snapshot.Entry{Path: ".", Type: snapshot.Directory, Mode: 0o755}, nil
	case i.doc.Name:
		return snapshot.Entry{Path: name, Type: snapshot.Regular, Mode: i.doc.Mode, Size: int64(len(i.doc.Data)),
			Digest: digest.FromBytes(i.doc.Data)}, nil
	}
	return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

func (i inlineFiles) ReadDir(string) ([]snapshot.Entry, error) {
	e, err := i.Lookup(i.doc.Name)
	return []snapshot.Entry{e}, err
}

func (i inlineFiles) Open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(i.doc.Data)), nil
}

// apply puts the selected files into the draft.
func (c *copyPlan) apply(ctx context.Context, d *draft) error {
	perm, err := parseChmod(c.op.Mode)
	if err != nil {
		return err
	}
	for _, s := range c.selected {
		extracted, err := c.extract(ctx, d, s)
		if err != nil {
			return err
		}
		if extracted {
			continue
		}
		if err := c.copy(d, s, perm); err != nil {
			return err
		}
	}
	return nil
}

// copy puts one selection at the destination. A directory's content goes into the
// destination; a file becomes the destination, or goes into it when that is a
// directory.
func (c *copyPlan) copy(d *draft, s selection, perm chmod) error {
	dest := c.op.Dest
	dir := dest
	if !namesDirectory(dest) {
		dir = path.Dir(dest)
	}
	if err := c.mkdirs(d, dir, perm); err != nil {
		return err
	}
	target, err := resolve(d.Lookup, dest, true)
	if err != nil {
		return err
	}
	old, err := d.Lookup(target)
	exists := err == nil
	if err != nil && !absent(err) {
		return err
	}
	if s.picks[0].entry.Type == snapshot.Directory {
		if !exists {
			if err := d.mkdirAll(target, perm.dirs(), c.owner); err != nil {
				return err
			}
			d.nodes[target].entry.ModTime = s.picks[0].entry.ModTime
		}
	} else {
		if exists && old.Type == snapshot.Directory {
			target = path.Join(target, s.base)
		}
		if err := d.mkdirAll(path.Dir(target), perm.dirs(), c.owner); err != nil {
			return err
		}
	}
	return c.putAll(d, s, target, perm)
}

func (c *copyPlan) mkdirs(d *draft, dir string, perm chmod) error {
	resolved, err := resolve(d.Lookup, dir, true)
	if err != nil {
		return err
	}
	return d.mkdirAll(resolved, perm.dirs(), c.owner)
}

func (c *copyPlan) putAll(d *draft, s selection, target string, perm chmod) error {
	for i, p := range s.picks {
		e := p.entry
		source := e.Path
		e.Path = path.Join(target, p.name)
		old, err := d.Lookup(e.Path)
		if i == 0 || p.parent { // directories that exist keep what they are
			if err == nil && old.Type == snapshot.Directory && e.Type == snapshot.Directory {
				continue
			}
		}
		c.owner.apply(&e)
		perm.apply(&e)
		n := &node{entry: e}
		if e.Type == snapshot.Regular {
			n.content = func(ctx context.Context) (io.ReadCloser, error) { return s.files.Open(ctx, source) }
			if e.Link != "" {
				n.group = target + "\x00" + e.Link
			}
		}
		if err := d.put(n); err != nil {
			return err
		}
	}
	return nil
}

// namesDirectory reports whether a destination is spelled as a directory.
func namesDirectory(dest string) bool {
	return strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
}

// chmod is what --chmod asks for.
type chmod struct {
	octal *uint32
	set   *mode.Set
}

func parseChmod(s string) (chmod, error) {
	if s == "" {
		return chmod{}, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		bits := uint32(n)
		return chmod{octal: &bits}, nil
	}
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		return chmod{}, fmt.Errorf("invalid --chmod=%s: %w", s, err)
	}
	return chmod{set: &set}, nil
}

// dirs is the mode of directories that the copy makes on the way.
func (c chmod) dirs() uint32 {
	if c.octal != nil {
		return *c.octal
	}
	return 0o755
}

func (c chmod) apply(e *snapshot.Entry) {
	switch {
	case e.Type == snapshot.Symlink:
	case c.octal != nil:
		e.Mode = *c.octal
	case c.set != nil:
		e.Mode = permBits(c.set.Apply(fileMode(*e)))
	}
}

// specialBits pairs the bits of a Unix mode with those of os.FileMode.
var specialBits = []struct {
	unix uint32
	mode os.FileMode
}{{0o4000, os.ModeSetuid}, {0o2000, os.ModeSetgid}, {0o1000, os.ModeSticky}}

func fileMode(e snapshot.Entry) os.FileMode {
	m := os.FileMode(e.Mode & 0o777)
	for _, b := range specialBits {
		if e.Mode&b.unix != 0 {
			m |= b.mode
		}
	}
	if e.Type == snapshot.Directory {
		m |= os.ModeDir
	}
	return m
}

func permBits(m os.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, b := range specialBits {
		if m&b.mode != 0 {
			bits |= b.unix
		}
	}
	return bits
}
