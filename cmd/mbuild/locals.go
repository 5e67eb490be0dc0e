package main

import (
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
	file   *dockerfile.File
	ignore *dockerfile.Ignore
	locals map[string]executor.Files
	named  map[string]dockerfile.Context
	opened []io.Closer
}

func (in *inputs) Close() error {
	var err error
	for _, c := range in.opened {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openInputs reads the Dockerfile and opens the contexts. Nothing of a context is read
// before a step needs it.
func openInputs(o *inputOptions) (_ *inputs, err error) {
	in := &inputs{locals: map[string]executor.Files{}, named: map[string]dockerfile.Context{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	name, text, err := readDockerfile(o)
	if err != nil {
		return nil, err
	}
	if in.file, err = dockerfile.Parse(displayName(name), text); err != nil {
		return nil, err
	}
	if err := in.openMain(o, name); err != nil {
		return nil, err
	}
	for name, c := range o.contexts {
		if err := in.openNamed(name, c); err != nil {
			return nil, err
		}
	}
	return in, nil
}

const (
	stdin              = "-"
	defaultDockerfile  = "Dockerfile"
	fallbackDockerfile = "dockerfile"
	ignoreFile         = ".dockerignore"
)

// readDockerfile finds the Dockerfile: as -f says, relative to where the user is, or
// in the context.
func readDockerfile(o *inputOptions) (name string, text []byte, err error) {
	if kind := o.context.Kind; kind != flags.ContextLocal && kind != flags.ContextStdin {
		return "", nil, usagef("the build context %s: remote contexts are not supported yet; fetch it and give its directory", o.context.Value)
	}
	switch {
	case o.context.Kind == flags.ContextStdin && o.file != "":
		return "", nil, usagef("-f with \"-\" as context: an archive on standard input is not supported yet; unpack it and give its directory")
	case o.context.Kind == flags.ContextStdin, o.file == stdin:
		text, err = readLimited(os.Stdin, "standard input")
		if err == nil && looksBinary(text) {
			err = usagef("standard input is an archive: that is not supported yet; unpack it and give its directory")
		}
		return stdin, text, err
	case strings.HasPrefix(o.file, "http://"), strings.HasPrefix(o.file, "https://"):
		return "", nil, usagef("-f %s: a Dockerfile from a URL is not supported yet; pipe it in: curl URL | mbuild -f - PATH", o.file)
	}
	if info, err := os.Stat(o.context.Value); err != nil || !info.IsDir() {
		return "", nil, noDirectory("the build context", o.context.Value, err)
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

func noDirectory(what, name string, err error) error {
	if err == nil {
		err = errors.New("not a directory")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return usagef("%s %s: %w", what, name, err)
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
	if o.context.Kind != flags.ContextLocal {
		return nil // an empty context
	}
	candidates := []string{filepath.Join(o.context.Value, ignoreFile)}
	if dockerfileName != stdin {
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

func (in *inputs) openNamed(name string, c flags.Context) error {
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
		return usagef("--build-context %s=%s: remote contexts are not supported yet; fetch it and give its directory", name, c.Value)
	}
	return nil
}
