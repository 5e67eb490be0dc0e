package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"mbuild/cmd/mbuild/flags"
	"mbuild/dockerfile"
	"mbuild/executor"
	"mbuild/executor/sandbox"
	"mbuild/executor/source"
	"mbuild/snapshot"
)

// The exit codes, documented in the README.
const (
	exitBuild       = 1 // the Dockerfile or its context is wrong, or a step other than RUN failed
	exitUsage       = 2
	exitRun         = 3   // a RUN ended with an error
	exitRegistry    = 4   // pulling or pushing failed
	exitCannot      = 5   // something is missing here: subordinate ids, an emulator, a kernel feature
	exitState       = 6   // the state directory cannot be used, the disk is full
	exitInterrupted = 130 // SIGINT or SIGTERM
)

var errInterrupted = errors.New("interrupted")

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// cannotError is something that this machine or user lacks.
type cannotError struct {
	what string
	hint string
	code int
}

func (e *cannotError) Error() string { return e.what }

// problem is an error as a person gets to see it.
type problem struct {
	message string
	excerpt string // lines of the Dockerfile
	hints   []string
	code    int
}

// report prints an error and returns the exit code for it.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var said statusError
	if errors.As(err, &said) {
		return said.code
	}
	p := explain(err)
	fmt.Fprintf(w, "mbuild: %s\n%s", printable(p.message), printable(p.excerpt))
	for _, h := range p.hints {
		fmt.Fprintf(w, "mbuild: hint: %s\n", printable(h))
	}
	return p.code
}

// explain finds out what an error means for the person in front of it.
func explain(err error) problem {
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		return problem{message: "interrupted; nothing was published", code: exitInterrupted}
	}
	p := problem{message: err.Error(), code: exitBuild}
	var (
		step  *executor.StepError
		file  *dockerfile.Error
		usage usageError
		flag  *flags.Error
	)
	switch {
	case errors.As(err, &step):
		p.message = fmt.Sprintf("%s: %s", step.Step.Loc, stepMessage(step))
		p.excerpt = step.Step.Loc.Excerpt()
	case errors.As(err, &file):
		p.message, p.excerpt = file.Error(), file.Excerpt()
		p.hint(file.Hint)
	case errors.As(err, &usage), errors.As(err, &flag):
		p.code = exitUsage
		p.hint("mbuild --help")
	}
	p.addCause(err)
	return p
}

// addCause looks for causes that have an exit code or a hint of their own.
func (p *problem) addCause(err error) {
	var (
		exit     *sandbox.ExitError
		excluded *source.ExcludedError
	)
	switch {
	case errors.As(err, &exit):
		p.code = exitRun
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		p.code = exitState
		p.hint("free some space (`mbuild prune`), or use another disk: `--root DIR`")
	case errors.Is(err, syscall.EROFS):
		p.code = exitState
		p.hint("give mbuild a directory that can be written: `--root DIR` or MBUILD_ROOT=DIR")
	}
	if errors.As(err, &excluded) {
		p.hint(excluded.Rule + " excludes it")
	}
	p.addLack(err)
	p.addRegistryCause(err)
	p.addRemoteCause(err)
}

// addLack explains what this machine or user lacks.
func (p *problem) addLack(err error) {
	var (
		cannot *cannotError
		ids    *snapshot.IDError
		mount  *snapshot.MountError
		setup  *sandbox.SetupError
	)
	switch {
	case errors.As(err, &cannot):
		p.code = cannot.code
		p.hint(cannot.hint)
	case errors.As(err, &ids):
		p.code = exitCannot
		p.hint(ids.Hint())
	case errors.As(err, &mount):
		p.code = exitCannot
		p.hint(mount.Hint)
	case errors.As(err, &setup) && refusedByKernel(err):
		p.code = exitCannot
		p.hint("`mbuild doctor` shows what works here")
	}
}

// refusedByKernel tells what the kernel does not let us do from what it cannot find.
func refusedByKernel(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL)
}

func (p *problem) hint(text string) {
	if text != "" && !slices.Contains(p.hints, text) {
		p.hints = append(p.hints, text)
	}
}

// stepMessage says what happened to a step.
func stepMessage(e *executor.StepError) string {
	word, _, _ := strings.Cut(e.Step.Name, " ")
	var exit *sandbox.ExitError
	if !errors.As(e.Err, &exit) || exit.Err != nil {
		return fmt.Sprintf("%s: %v", word, unwrapPath(e.Err))
	}
	on := ""
	if e.Step.Platform != nil {
		on = " on " + platformName(*e.Step.Platform)
	}
	if exit.Signal != 0 {
		return fmt.Sprintf("%s: killed by signal %d (%s)%s, exit code %d", word, int(exit.Signal), exit.Signal, on, exit.Code)
	}
	return fmt.Sprintf("%s: exit code %d%s", word, exit.Code, on)
}

// unwrapPath keeps a system's error short: the path and what was wrong.
func unwrapPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && err == error(p) {
		return fmt.Errorf("%s %s: %w", p.Op, p.Path, p.Err)
	}
	return err
}

// printable keeps what others wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
