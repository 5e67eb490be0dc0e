package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Tree is a chain of layers as a writable root filesystem: an overlay mount
// whose lower directories are the unpacked layers, shared by all trees.
type Tree struct {
	s    *Store
	view *View
	own  *owned

	mu      sync.Mutex
	mounted bool
	closed  bool
}

// NewTree materialises layers, bottom first. What is not unpacked yet is
// fetched and unpacked now, layers side by side. It needs the build namespace:
// the right to mount, and ids for the owners of the files.
//
// The mount is private and appears in the mount namespace of the process. The
// caller must Close the tree, also after Commit. A tree that is never
// committed serves as a read-only one.
//
// Errors: *MountError when the overlay is refused, *IDError when a layer has
// owners that are not mapped here.
func (s *Store) NewTree(ctx context.Context, layers []Layer) (_ *Tree, err error) {
	if os.Geteuid() != 0 {
		return nil, &MountError{
			Reason: "this process is not root in a user namespace",
			Hint:   "run mbuild doctor to see why there is none",
			Err:    unix.EPERM,
		}
	}
	if err := s.unpack(ctx, layers); err != nil {
		return nil, err
	}
	view, err := s.View(ctx, layers)
	if err != nil {
		return nil, err
	}
	own, err := s.newOwned("trees")
	if err != nil {
		return nil, err
	}
	t := &Tree{s: s, view: view, own: own}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	for _, sub := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(own.path, sub), 0o700); err != nil {
			return nil, err
		}
	}
	if err := t.prepareUpper(); err != nil {
		return nil, err
	}
	o := overlay{upper: t.path("upper"), work: t.path("work"), target: t.path("merged")}
	if o.lowers, err = t.lowers(); err != nil {
		return nil, err
	}
	if err := o.mount(); err != nil {
		return nil, err
	}
	t.mounted = true
	return t, nil
}

func (t *Tree) path(name string) string { return filepath.Join(t.own.path, name) }

// unpack sees to it that every layer has its directory.
func (s *Store) unpack(ctx context.Context, layers []Layer) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, l := range layers {
		g.Go(func() error { return s.unpackLayer(ctx, l) })
	}
	return g.Wait()
}

func (s *Store) unpackLayer(ctx context.Context, l Layer) error {
	dir, err := s.layerDir(l.DiffID)
	if err != nil {
		return err
	}
	unlock, err := s.lockLayer(ctx, l.DiffID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err = os.Stat(filepath.Join(dir, s.diff)); err == nil {
		_, err = s.tocLocked(ctx, l)
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := s.cachedTOC(l.DiffID)
	if known == nil {
		if known, err = s.readTOC(l.DiffID); err != nil {
			return err
		}
	}
	_, err = s.fetchUnpacked(ctx, l, known)
	return err
}

// lowers lists the unpacked layers, topmost first. Empty layers change
// nothing, and neither does a layer that comes again further up: the upper one
// repeats all of it. (The kernel refuses the same directory twice.) It also
// ignores an opaque marker on a layer's root: what is below is left out.
func (t *Tree) lowers() ([]string, error) {
	var dirs []string
	for i, l := range slices.Backward(t.view.layers) {
		if t.view.tocs[i].Len() == 0 {
			continue
		}
		dir, err := t.s.layerDir(l.DiffID)
		if err != nil {
			return nil, err
		}
		if dir = filepath.Join(dir, t.s.diff); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		if t.view.tocs[i].opaqueRoot() {
			break
		}
	}
	if len(dirs) > 0 {
		return dirs, nil
	}
	empty := t.path("empty") // there must be one
	return []string{empty}, os.Mkdir(empty, 0o755)
}

// prepareUpper gives the upper directory what overlayfs would not find in the
// lower ones. The root's metadata are always the upper directory's own. And a
// layer that has d/f but no entry for d has, unpacked, some directory d that
// hides the metadata of the d below: such directories are copied up in advance.
func (t *Tree) prepareUpper() error {
	root, err := openDir(t.path("upper"))
	if err != nil {
		return err
	}
	defer root.close()
	return t.view.copyUp(root, ".", t.view.root)
}

// copyUp gives an open directory the metadata of n, after making, in it, the
// directories that are stale or have stale ones below them.
func (v *View) copyUp(d dirFD, at string, n *vnode) error {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		if !v.stale || !c.dir || !c.hasStale() {
			continue
		}
		if err := d.mkdir(name, 0o700); err != nil {
			return err
		}
		sub, err := d.dir(name)
		if err != nil {
			return err
		}
		err = v.copyUp(sub, path.Join(at, name), c)
		sub.close()
		if err != nil {
			return err
		}
	}
	r := n.rec
	if r == nil {
		r = &impliedDirectory
	}
	// "copied up, from where is not known": see setXattrs
	if err := tolerable(unix.Fsetxattr(int(d), overlayOrigin, nil, 0)); err != nil {
		return pathErr("setxattr "+overlayOrigin, at, err)
	}
	return setMetadata(int(d), at, r)
}

// hasStale reports whether n, or a directory below it, is stale.
func (n *vnode) hasStale() bool {
	if n.stale {
		return true
	}
	for _, c := range n.children {
		if c.dir && c.hasStale() {
			return true
		}
	}
	return false
}

// Root is the directory the filesystem is mounted on.
func (t *Tree) Root() string { return t.path("merged") }

// Commit takes the layer from the tree: what was changed since NewTree. No
// process may use the tree any more. It unmounts the tree and moves its upper
// directory into the store, so that the next tree on top of this one has
// nothing to unpack. A nil error means that the layer is durable under the
// diffID returned; an unchanged tree gives the empty layer, which is valid.
// The same changes give the same diffID. Whether it fails or not, the tree can
// only be closed afterwards.
func (t *Tree) Commit(ctx context.Context, c Compression) (Layer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mounted {
		return Layer{}, errors.New("commit: the tree is closed or committed")
	}
	if err := unix.Unmount(t.Root(), unix.UMOUNT_NOFOLLOW); err != nil {
		return Layer{}, fmt.Errorf("commit: unmount %s: %w", t.Root(), err)
	}
	t.mounted = false
	w, err := t.s.NewLayer(c)
	if err != nil {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	defer w.Abort()
	if err := diff(ctx, t.path("upper"), t.view, w); err != nil {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	l, err := w.Commit()
	if err != nil {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	dir, err := t.s.layerDir(l.DiffID)
	if err != nil {
		return Layer{}, err
	}
	if err := installDir(t.path("upper"), filepath.Join(dir, t.s.diff)); err != nil {
		return Layer{}, fmt.Errorf("commit: %w", err)
	}
	return l, nil
}

// Close unmounts the tree if it is mounted and removes what was not committed.
// It may be called more than once.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if t.mounted {
		if err := unix.Unmount(t.Root(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", t.Root(), err)
		}
		t.mounted = false
	}
	t.closed = true
	return t.own.remove()
}
