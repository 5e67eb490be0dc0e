package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// lockName is the file in the state directory that a build holds shared and that
// prune takes alone.
const lockName = "lock"

// lockState locks the state directory until the returned file is closed. It does not
// wait.
func lockState(dir string, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot use the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&cannotError{
			what: fmt.Sprintf("the state directory %s is in use by another mbuild", dir), code: exitState,
		}, f.Close())
	}
	return f, nil
}

// prune deletes what is in the state directory. Files of RUN steps belong to
// subordinate ids, which only the build namespace can delete.
func (c *command) prune(cc *cli.Context) error {
	root, err := stateDir(cc.String("root"))
	if c.inside != nil {
		root, err = cc.String("root"), nil
	}
	if err != nil {
		return err
	}
	if c.inside == nil {
		done, _, err := c.enter(cc.Context, []string{"prune", "--root=" + root})
		if done || err != nil {
			return err
		}
	}
	lock, err := lockState(root, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range []string{"records", "layers", "mounts", "tmp"} {
		if err := removeAll(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(c.stdout, "deleted everything cached in", root)
	return err
}

// removeAll deletes a tree in which directories may not be writable, as layers have
// them.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	werr := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	return errors.Join(werr, os.RemoveAll(dir))
}
