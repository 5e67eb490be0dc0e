package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// rootVariable names the state directory like --root does.
const rootVariable = "MBUILD_ROOT"

// stateDir decides where mbuild keeps its state: as told, in the user's data
// directory, or, when there is no home that can be written, in a private directory
// for temporary files.
func stateDir(told string) (string, error) {
	if told != "" {
		dir, err := filepath.Abs(told)
		if err == nil {
			err = makePrivate(dir)
		}
		return dir, err
	}
	base := os.Getenv("XDG_DATA_HOME")
	if home, err := os.UserHomeDir(); base == "" && err == nil {
		base = filepath.Join(home, ".local", "share")
	}
	if filepath.IsAbs(base) {
		dir := filepath.Join(base, "mbuild")
		if makePrivate(dir) == nil {
			return dir, nil
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("mbuild-%d", os.Geteuid()))
	return dir, makePrivate(dir)
}

// makePrivate makes a directory that only this user can write, and refuses one that
// somebody else made.
func makePrivate(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		return &cannotError{
			what: fmt.Sprintf("cannot use the state directory: %v", err),
			hint: "give mbuild a directory that can be written: `--root DIR` or MBUILD_ROOT=DIR",
			code: exitState,
		}
	}
	return nil
}

func writable(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() || !info.IsDir() {
		return fmt.Errorf("%s belongs to somebody else or is no directory", dir)
	}
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
