package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// owned is a directory that belongs to a live process: whoever finds its lock
// free may remove it.
type owned struct {
	path string
	lock *os.File
}

// newOwned makes a directory below parent ("tmp" or "trees").
func (s *Store) newOwned(parent string) (*owned, error) {
	unlock, err := s.lockStore()
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir, err := os.MkdirTemp(filepath.Join(s.dir, parent), "")
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &owned{dir, lock}, nil
}

func (o *owned) remove() error {
	return errors.Join(os.RemoveAll(o.path), o.lock.Close())
}

// lockStore keeps other processes from sweeping a directory that is made but
// not locked yet.
func (s *Store) lockStore() (unlock func(), err error) {
	f, err := lockFile(filepath.Join(s.dir, "lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockFile opens and locks a file until it is closed. The descriptor is not
// inherited, so the lock ends with this process.
func lockFile(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	return f, nil
}

// Sweep removes what processes that are dead left in tmp/ and trees/. It
// returns what it could not remove; owners that live are not an error.
func (s *Store) Sweep() error {
	dead, err := s.dead()
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range dead {
		// The mount of a tree died with its mount namespace, unless a process
		// was killed in ours; a mount that is not there is no error.
		_ = unix.Unmount(filepath.Join(o.path, "merged"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		errs = append(errs, o.remove())
	}
	return errors.Join(errs...)
}

// dead takes over the directories whose owners are gone. Only that needs the
// store's lock, not the removal.
func (s *Store) dead() ([]*owned, error) {
	unlock, err := s.lockStore()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var dead []*owned
	for _, parent := range []string{"tmp", "trees"} {
		dirs, err := os.ReadDir(filepath.Join(s.dir, parent))
		if err != nil {
			return nil, err
		}
		for _, d := range dirs {
			dir := filepath.Join(s.dir, parent, d.Name())
			lock, err := lockFile(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				dead = append(dead, &owned{dir, lock})
			}
		}
	}
	return dead, nil
}

// tmpDir is this store's own directory for unfinished files.
func (s *Store) tmpDir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp == nil {
		o, err := s.newOwned("tmp")
		if err != nil {
			return "", err
		}
		s.tmp = o
	}
	return s.tmp.path, nil
}

// createTemp makes an unfinished file. Installing it, or removing it, is up to
// the caller.
func (s *Store) createTemp(pattern string) (*os.File, error) {
	dir, err := s.tmpDir()
	if err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, pattern)
}

// writeFile puts data into place, durably.
func (s *Store) writeFile(name string, data []byte) error {
	f, err := s.createTemp(filepath.Base(name) + "-*")
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, discard(f))
	}
	return install(f, name)
}

// discard drops an unfinished file.
func discard(f *os.File) error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// install gives a finished temporary file its name, durably, and closes it.
func install(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), discard(f))
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// installDir gives a finished directory its name. When another process was
// faster, its equal content stays.
func installDir(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return os.RemoveAll(from)
	}
	return err
}
