package executor

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"mbuild/snapshot"
)

// Files is a read-only tree of files that COPY, ADD and mounts take from: a local
// context or the merged layers of a stage. Paths are slash-separated, clean and
// relative; "." is the root. Regular files that are names of the same file have the
// same non-empty Entry.Link.
type Files interface {
	// Lookup describes one path like lstat. Errors match fs.ErrNotExist when there
	// is nothing.
	Lookup(name string) (snapshot.Entry, error)
	// ReadDir lists a directory, sorted; Entry.Path is the whole path.
	ReadDir(name string) ([]snapshot.Entry, error)
	// Open reads a regular file. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// viewFiles shows the merged layers of a stage as Files.
type viewFiles struct{ view *snapshot.View }

func (v viewFiles) Lookup(name string) (snapshot.Entry, error) {
	e, ok := v.view.Lookup(name)
	if !ok {
		return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
	}
	return e, nil
}

func (v viewFiles) ReadDir(name string) ([]snapshot.Entry, error) { return v.view.ReadDir(name) }

func (v viewFiles) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return v.view.Open(ctx, name)
}

// noFiles is the empty filesystem.
type noFiles struct{}

func (noFiles) Lookup(name string) (snapshot.Entry, error) {
	if name == "." {
		return snapshot.Entry{Path: ".", Type: snapshot.Directory, Mode: 0o755}, nil
	}
	return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

func (noFiles) ReadDir(string) ([]snapshot.Entry, error) { return nil, nil }

func (n noFiles) Open(_ context.Context, name string) (io.ReadCloser, error) {
	_, err := n.Lookup(name)
	return nil, err
}

// lookupFunc is the one method of Files that finding a path needs.
type lookupFunc func(name string) (snapshot.Entry, error)

// maxLinks bounds how many symbolic links one path may lead through, as the kernel
// does (40) with room for what other builders accept.
const maxLinks = 255

var errTooManyLinks = errors.New("too many levels of symbolic links")

// resolve follows the symbolic links of name inside the tree: an absolute target
// starts at the root again and ".." stops there, so the result never leaves it. The
// last component is followed only when follow is set. Components that do not exist
// are kept as they are.
func resolve(lookup lookupFunc, name string, follow bool) (string, error) {
	var done []string
	todo := components(name)
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(0, len(done)-1)]
			continue
		}
		at := path.Join(append(append([]string{}, done...), part)...)
		e, err := lookup(at)
		if err != nil && !absent(err) {
			return "", err
		}
		if err != nil || e.Type != snapshot.Symlink || (len(todo) == 0 && !follow) {
			done = append(done, part)
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: errTooManyLinks}
		}
		if path.IsAbs(e.Link) {
			done = nil
		}
		todo = append(components(e.Link), todo...)
	}
	return path.Join(append([]string{"."}, done...)...), nil
}

// absent reports that an error means: there is nothing of that name.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// components splits a path into its parts without empty ones and single dots.
func components(name string) []string {
	var parts []string
	for _, p := range strings.Split(name, "/") {
		if p != "" && p != "." {
			parts = append(parts, p)
		}
	}
	return parts
}
