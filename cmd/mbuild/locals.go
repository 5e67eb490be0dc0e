package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mbuild/cmd/mbuild/flags"
	"mbuild/dockerfile"
	"mbuild/executor"
	"mbuild/executor/source"
)

// maxDockerfile bounds what is read as a Dockerfile or an ignore file.
const maxDockerfile = 16 << 20

// inputs are the opened contexts of a build and its Dockerfile. Close releases them.
type inputs struct {
	file    *dockerfile.File
	ignore  *dockerfile.Ignore
	locals  map[string]executor.Files
	named   map[string]dockerfile.Context
	opened  []io.Closer
	remotes *executor.Remotes // nil: nothing can be fetched
	main    executor.Files    // a main context that is no directory; nil: a directory, or empty
}

// newInputs prepares to open what a command line names. Without remotes, contexts
// that are not on this machine are refused.
func newInputs(remotes *executor.Remotes) *inputs {
	return &inputs{locals: map[string]executor.Files{}, named: map[string]dockerfile.Context{}, remotes: remotes}
}

func (in *inputs) Close() error {
	var err error
	for _, c := range in.opened {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openInputs reads the Dockerfile and opens the contexts. Nothing of a directory is read
// before a step needs it; what is elsewhere is fetched now.
func openInputs(ctx context.Context, o *inputOptions, remotes *executor.Remotes) (_ *inputs, err error) {
	in := newInputs(remotes)
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	name, text, err := in.readDockerfile(ctx, o)
	if err != nil {
		return nil, err
	}
	if in.file, err = dockerfile.Parse(displayName(name), text); err != nil {
		return nil, err
	}
	return in, in.openContexts(ctx, o, name)
}

// openContexts opens the contexts of the Dockerfile of that name.
func (in *inputs) openContexts(ctx context.Context, o *inputOptions, name string) error {
	if err := in.openMain(o, name); err != nil {
		return err
	}
	for name, c := range o.contexts {
		if err := in.openNamed(ctx, o, name, c); err != nil {
			return err
		}
	}
	return nil
}

const (
	stdin              = "-"
	defaultDockerfile  = "Dockerfile"
	fallbackDockerfile = "dockerfile"
	ignoreFile         = ".dockerignore"
)

// readDockerfile finds the Dockerfile: as -f says, relative to where the user is or, when the
// context is elsewhere, inside it; or in the context. A context that is elsewhere is open then.
func (in *inputs) readDockerfile(ctx context.Context, o *inputOptions) (name string, text []byte, err error) {
	if o.context.Kind != flags.ContextLocal {
		if text, name, err = in.openElsewhere(ctx, o); err != nil || text != nil {
			return name, text, err
		}
	}
	switch {
	case o.file == stdin:
		text, err = readLimited(os.Stdin, "standard input")
		if err == nil && looksBinary(text) {
			err = usagef("-f -: standard input is no Dockerfile; an archive of the build context is given as \"-\" in place of PATH")
		}
		return stdin, text, err
	case isURL(o.file):
		body, err := in.fetch(ctx, o.file)
		if err != nil {
			return "", nil, err
		}
		defer body.Close()
		text, err = readLimited(body, source.Redact(o.file))
		return source.Redact(o.file), text, err
	case in.main != nil:
		return in.dockerfileInside(ctx, o)
	}
	if scheme, _, ok := strings.Cut(o.context.Value, "://"); ok {
		return "", nil, usagef("the build context %s: contexts by %s:// are not supported; fetch it and give its directory", source.Redact(o.context.Value), scheme)
	}
	if info, err := os.Stat(o.context.Value); err != nil || !info.IsDir() {
		return "", nil, noContext(o.context.Value, err)
	}
	if o.file != "" {
		text, err = readFile(o.file)
		return o.file, text, err
	}
	name = filepath.Join(o.context.Value, defaultDockerfile)
	text, err = readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		lower := filepath.Join(o.context.Value, fallbackDockerfile)
		if t, lerr := readFile(lower); lerr == nil {
			return lower, t, nil
		}
	}
	return name, text, err
}

// noContext is a main context that cannot be opened. An archive goes through standard input.
func noContext(name string, err error) error {
	if err == nil {
		return &cannotError{
			what: fmt.Sprintf("the build context %s: not a directory", name), code: exitBuild,
			hint: fmt.Sprintf("if it is a tar archive: mbuild - < %s", name),
		}
	}
	return noDirectory("the build context", name, err)
}

func noDirectory(what, name string, err error) error {
	if err == nil {
		err = errors.New("not a directory")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name)
}

func readLimited(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxDockerfile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxDockerfile>>20)
	}
	return data, nil
}

// looksBinary reports whether text is no text: archives hold NUL bytes early.
func looksBinary(text []byte) bool {
	return strings.ContainsRune(string(text[:min(len(text), 1024)]), 0)
}

func displayName(name string) string {
	if name == stdin {
		return "Dockerfile (standard input)"
	}
	return name
}

func (in *inputs) openMain(o *inputOptions, dockerfileName string) (err error) {
	if in.main != nil {
		in.locals[""] = in.main // whole: ignore files are for what lies around
		return nil
	}
	if o.context.Kind != flags.ContextLocal {
		return nil // an empty context
	}
	candidates := []string{filepath.Join(o.context.Value, ignoreFile)}
	if dockerfileName != stdin && !isURL(o.file) {
		candidates = append([]string{dockerfileName + ignoreFile}, candidates...)
	}
	in.ignore, err = readIgnore(candidates...)
	if err != nil {
		return err
	}
	return in.openLocal("", o.context.Value, in.ignore)
}

func (in *inputs) openLocal(name, dir string, ignore *dockerfile.Ignore) error {
	var rules source.Ignore
	if ignore != nil {
		rules = ignore
	}
	d, err := source.OpenDir(dir, rules)
	if err != nil {
		what := "the build context"
		if name != "" {
			what = fmt.Sprintf("--build-context %s: the directory", name)
		}
		return noDirectory(what, dir, err)
	}
	in.opened = append(in.opened, d)
	in.locals[name] = d
	return nil
}

// readIgnore reads the first of the files that exists.
func readIgnore(names ...string) (*dockerfile.Ignore, error) {
	for _, name := range names {
		text, err := readFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return dockerfile.ParseIgnore(filepath.Base(name), text)
	}
	return nil, nil
}

func (in *inputs) openNamed(ctx context.Context, o *inputOptions, name string, c flags.Context) error {
	switch c.Kind {
	case flags.ContextImage:
		in.named[name] = dockerfile.Context{Image: imageScheme + c.Value}
	case flags.ContextLayout:
		in.named[name] = dockerfile.Context{Image: layoutScheme + c.Value}
	case flags.ContextLocal:
		ignore, err := readIgnore(filepath.Join(c.Value, ignoreFile))
		if err != nil {
			return err
		}
		if err := in.openLocal(name, c.Value, ignore); err != nil {
			return err
		}
		in.named[name] = dockerfile.Context{Local: name}
	default:
		if err := in.openNamedRemote(ctx, o, name, c); err != nil {
			return err
		}
		in.named[name] = dockerfile.Context{Local: name}
	}
	return nil
}
