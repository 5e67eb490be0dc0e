package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mbuild/dockerfile"
	"mbuild/executor/sandbox"
	"mbuild/snapshot"
)

// cacheMounts are the directories of RUN --mount=type=cache: one folder per cache in
// the state directory, shared by all builds that use it. A folder ID holds the
// directories "0", "1", … (more than one only for sharing=private) and beside each a
// lock file that is held shared or exclusively while a RUN uses the directory.
type cacheMounts struct{ dir string }

func newCacheMounts(dir string) *cacheMounts { return &cacheMounts{dir: dir} }

// cacheLock is one directory in use. Close gives it back.
type cacheLock struct {
	dir  string
	file *os.File
	once sync.Once
	err  error
}

func (l *cacheLock) Close() error {
	l.once.Do(func() { l.err = l.file.Close() })
	return l.err
}

// open takes the directory of a cache into use. shared: together with others; locked:
// waits until it is alone; private: a directory nobody else uses now.
func (c *cacheMounts) open(ctx context.Context, id, sharing string) (*cacheLock, error) {
	sum := sha256.Sum256([]byte(id))
	base := filepath.Join(c.dir, hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		file, err := os.OpenFile(filepath.Join(base, fmt.Sprintf("%d.lock", n)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		how := unix.LOCK_EX
		if sharing == "shared" {
			how = unix.LOCK_SH
		}
		switch err := lockFile(ctx, file, how, sharing != "private"); {
		case err == nil:
			return &cacheLock{dir: filepath.Join(base, fmt.Sprint(n)), file: file}, nil
		case sharing == "private" && errors.Is(err, unix.EWOULDBLOCK):
			file.Close()
		default:
			file.Close()
			return nil, err
		}
	}
}

// lockFile locks a file, polling so that a cancelled build does not wait on.
func lockFile(ctx context.Context, f *os.File, how int, wait bool) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) || !wait {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cache mounts a cache directory; a new one starts with the files of mount.From.
func (m *mounting) cache(ctx context.Context, mount dockerfile.Mount) error {
	lock, err := m.mounts.open(ctx, mount.ID, mount.Sharing)
	if err != nil {
		return err
	}
	m.undo = append(m.undo, lock.Close)
	if err := m.fill(ctx, lock.dir, mount); err != nil {
		return fmt.Errorf("prepare the cache: %w", err)
	}
	m.spec.Mounts = append(m.spec.Mounts, sandbox.Bind{Source: lock.dir, Target: mount.Target, ReadOnly: mount.ReadOnly})
	return nil
}

// fill makes the directory of a new cache. Two steps that share it may both try: the
// first rename wins.
func (m *mounting) fill(ctx context.Context, dir string, mount dockerfile.Mount) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if mount.From.Step != nil || mount.From.Local != nil {
		if err := m.seed(ctx, temp, mount); err != nil {
			return err
		}
	}
	err = os.Chown(temp, orDefault(mount.UID, 0), orDefault(mount.GID, 0))
	if err == nil {
		err = syscall.Chmod(temp, orDefault(mount.Mode, 0o755))
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// seed copies the files that a new cache starts with.
func (m *mounting) seed(ctx context.Context, dir string, mount dockerfile.Mount) error {
	files, err := m.files(ctx, mount.From)
	if err != nil {
		return err
	}
	selected, err := selectTree(ctx, files, mount.Source)
	if err != nil {
		return m.sourceError(&sourcePathError{path: mount.Source, err: err}, mount.From)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range selected[0].picks[1:] {
		if err := placeFile(ctx, root, files, p); err != nil {
			return err
		}
	}
	return nil
}

// placeFile writes one selected file below root, with its owner and mode. Devices and
// fifos have no place in a cache.
func placeFile(ctx context.Context, root *os.Root, files Files, p pick) error {
	e := p.entry
	switch e.Type {
	case snapshot.Directory:
		if err := root.Mkdir(p.name, 0o700); err != nil {
			return err
		}
	case snapshot.Symlink:
		if err := root.Symlink(e.Link, p.name); err != nil {
			return err
		}
		return root.Lchown(p.name, e.UID, e.GID)
	case snapshot.Regular:
		if err := copyTo(ctx, root, files, p); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := root.Chown(p.name, e.UID, e.GID); err != nil {
		return err
	}
	return root.Chmod(p.name, fileMode(e)&^os.ModeDir)
}

func copyTo(ctx context.Context, root *os.Root, files Files, p pick) error {
	in, err := files.Open(ctx, p.entry.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.OpenFile(p.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
