package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"mbuild/cmd/mbuild/flags"
	"mbuild/dockerfile"
	"mbuild/executor"
	"mbuild/executor/source"
)

// contextName is the name of the file in a named context that is a file on a web
// server, BuildKit's.
const contextName = "context"

// keepGitDirArg is the build argument that keeps the .git of a context.
const keepGitDirArg = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"

// errLocalOnly is for what looks at a Dockerfile without building it.
var errLocalOnly = usagef("without building, only a local Dockerfile and build context can be looked at; fetch it and give its directory")

// openElsewhere opens a main context that is no directory. text is the Dockerfile when the
// context is nothing but that.
func (in *inputs) openElsewhere(ctx context.Context, o *inputOptions) (text []byte, name string, err error) {
	switch {
	case o.context.Kind == flags.ContextStdin && o.file == stdin:
		return nil, "", usagef("standard input cannot be both the build context and the Dockerfile")
	case o.context.Kind == flags.ContextStdin:
		return in.openStdin(ctx, o)
	case in.remotes == nil:
		return nil, "", errLocalOnly
	case o.context.Kind == flags.ContextGit:
		in.main, err = in.repository(ctx, o, o.context.Value)
		return nil, "", err
	case o.context.Kind == flags.ContextHTTP:
		return in.openDownload(ctx, o)
	}
	return nil, "", usagef("the build context %s: this kind of context is not supported", source.Redact(o.context.Value))
}

// openStdin takes standard input for an archive of the context or for the Dockerfile.
func (in *inputs) openStdin(ctx context.Context, o *inputOptions) (text []byte, name string, err error) {
	return in.sniff(ctx, o, os.Stdin, stdin, "standard input")
}

// openDownload takes a file on a web server for the same.
func (in *inputs) openDownload(ctx context.Context, o *inputOptions) (text []byte, name string, err error) {
	body, err := in.fetch(ctx, o.context.Value)
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	shown := source.Redact(o.context.Value)
	return in.sniff(ctx, o, body, shown, shown)
}

// sniff reads an archive of the context, or the Dockerfile of that name for an empty context.
func (in *inputs) sniff(ctx context.Context, o *inputOptions, r io.Reader, name, what string) ([]byte, string, error) {
	b := bufio.NewReaderSize(r, executor.ArchiveHead)
	head, err := b.Peek(executor.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", fmt.Errorf("%s: %w", what, err)
	}
	if executor.IsArchive(head) {
		return nil, "", in.unpack(ctx, b, what)
	}
	if o.file != "" {
		return nil, "", usagef("-f %s: %s is no archive in which that could be, but itself the Dockerfile", o.file, what)
	}
	text, err := readLimited(b, what)
	if err == nil && looksBinary(text) {
		err = fmt.Errorf("%s is neither a Dockerfile nor a tar archive (plain, gzip, bzip2, xz or zstd)", what)
	}
	return text, name, err
}

func (in *inputs) unpack(ctx context.Context, archive io.Reader, what string) error {
	if in.remotes == nil {
		return errLocalOnly
	}
	files, err := in.remotes.Unpack(ctx, archive)
	if err != nil {
		return fmt.Errorf("unpack the build context from %s: %w", what, err)
	}
	in.opened = append(in.opened, files)
	in.main = files
	return nil
}

// fetch downloads a file.
func (in *inputs) fetch(ctx context.Context, address string) (io.ReadCloser, error) {
	if in.remotes == nil {
		return nil, errLocalOnly
	}
	h, err := dockerfile.NewHTTP(address)
	if err != nil {
		return nil, usagef("%s: %w", source.Redact(address), err)
	}
	files, err := in.remotes.File(ctx, h)
	if err != nil {
		return nil, err
	}
	return files.Open(ctx, h.Name)
}

// repository fetches the files of a git address.
func (in *inputs) repository(ctx context.Context, o *inputOptions, address string) (executor.Files, error) {
	if in.remotes == nil {
		return nil, errLocalOnly
	}
	g, ok, err := dockerfile.ParseGit(address)
	if err == nil && !ok {
		err = errors.New("not the address of a repository")
	}
	if err != nil {
		return nil, usagef("%s: %w", source.Redact(address), err)
	}
	if keep, err := strconv.ParseBool(o.args[keepGitDirArg]); err == nil && keep {
		g.KeepGitDir = true
	}
	return in.remotes.Repository(ctx, g)
}

// openNamedRemote opens a named context that has to be fetched.
func (in *inputs) openNamedRemote(ctx context.Context, o *inputOptions, name string, c flags.Context) (err error) {
	if in.remotes == nil {
		return errLocalOnly
	}
	if c.Kind == flags.ContextGit {
		in.locals[name], err = in.repository(ctx, o, c.Value)
		return err
	}
	h, err := dockerfile.NewHTTP(c.Value)
	if err != nil {
		return usagef("--build-context %s=%s: %w", name, source.Redact(c.Value), err)
	}
	h.Name = contextName
	in.locals[name], err = in.remotes.File(ctx, h)
	return err
}

// dockerfileInside reads the Dockerfile of a context that is no directory.
func (in *inputs) dockerfileInside(ctx context.Context, o *inputOptions) (name string, text []byte, err error) {
	names := []string{o.file}
	if o.file == "" {
		names = []string{defaultDockerfile, fallbackDockerfile}
	}
	for _, name = range names {
		inside := strings.TrimPrefix(path.Clean("/"+name), "/")
		if text, err = executor.ReadFile(ctx, in.main, inside, maxDockerfile); err == nil {
			return name, text, nil
		}
	}
	shown := "standard input"
	if o.context.Kind != flags.ContextStdin {
		shown = source.Redact(o.context.Value)
	}
	return names[0], nil, fmt.Errorf("%s in the build context from %s: %w", names[0], shown, err)
}

// isURL reports whether -f names a file on a web server.
func isURL(file string) bool {
	return strings.HasPrefix(file, "http://") || strings.HasPrefix(file, "https://")
}

// addRemoteCause gives failures of servers their exit code and hints.
func (p *problem) addRemoteCause(err error) {
	var (
		remote  *source.RemoteError
		missing *source.MissingGitError
	)
	switch {
	case errors.As(err, &remote):
		p.code = exitRegistry
		p.hint(remote.Hint())
	case errors.As(err, &missing):
		p.code = exitCannot
		p.hint(missing.Hint())
	}
}
