package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"mbuild/cmd/mbuild/flags"
	"mbuild/dockerfile"
	"mbuild/index"
)

// parseCall reads --call, its older name --print, and --check.
func (o *buildOptions) parseCall(c *cli.Context) (err error) {
	value := c.String("call")
	if old := c.String("print"); old != "" {
		if value != "" && value != old {
			return usagef("--print is the older name of --call: give one of them")
		}
		value = old
	}
	if o.call, err = flags.ParseCall(value); err != nil {
		return err
	}
	if c.Bool("check") {
		if value != "" && o.call.Method != flags.MethodCheck {
			return usagef("--check is short for --call=check and excludes --call=%s", value)
		}
		o.call.Method = flags.MethodCheck
	}
	if o.call.Method == flags.MethodBuild {
		return nil
	}
	for _, name := range []string{"metadata-file", "iidfile"} {
		if c.IsSet(name) {
			return usagef("--%s tells of what was built, and --call=%s builds nothing", name, o.call.Method)
		}
	}
	return nil
}

// statusError ends mbuild with an exit code after everything has been said on standard output.
type statusError struct{ code int }

func (e statusError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// call is a request that builds nothing: it looks at the Dockerfile and, where that is of
// use, at the configuration of base images. It needs no state directory and no namespace.
type call struct {
	*buildOptions
	stdout, stderr io.Writer

	file string // name of the Dockerfile for messages
	text []byte
}

func (c *call) run(ctx context.Context) error {
	if c.call.Method == flags.MethodDescribe {
		return c.print(describe())
	}
	in := newInputs(nil)
	defer in.Close()
	name, text, err := in.readDockerfile(ctx, &c.input)
	if err != nil {
		return err
	}
	c.file, c.text = displayName(name), text
	if c.call.Method == flags.MethodTargets {
		return c.targets()
	}
	b := &build{buildOptions: c.buildOptions, images: newImages(index.NewRegistry(c.registry)), inputs: in}
	if err := in.openContexts(ctx, &c.input, name); err != nil {
		return err
	}
	if c.call.Method == flags.MethodOutline {
		return c.outline(ctx, b.planOptions())
	}
	return c.check(ctx, b.planOptions())
}

func (c *call) targets() error {
	f, err := dockerfile.Parse(c.file, c.text)
	if err != nil {
		return err
	}
	targets, err := f.Targets()
	if err != nil {
		return err
	}
	return c.print(newTargetList(targets, c.text))
}

func (c *call) outline(ctx context.Context, o dockerfile.Options) error {
	f, err := dockerfile.Parse(c.file, c.text)
	if err != nil {
		return err
	}
	out, err := dockerfile.NewOutline(ctx, f, o)
	if err != nil {
		return err
	}
	c.sayMissing(out.Missing, "what it sets is not in the outline")
	return c.print(newOutline(out, c.text))
}

// check fails when the Dockerfile cannot be built, and when there are findings unless their
// status is to be ignored.
func (c *call) check(ctx context.Context, o dockerfile.Options) error {
	found, err := dockerfile.Check(ctx, c.file, c.text, o)
	if err != nil {
		return err
	}
	c.sayMissing(found.Missing, "the rules UndefinedVar, JSONArgsRecommended and InvalidBaseImagePlatform are not applied to what stands on it")
	if err := c.print(newLintResults(found, c.file, c.text)); err != nil {
		return err
	}
	switch {
	case found.Err != nil:
		return found.Err
	case len(found.Warnings) > 0 && !c.call.IgnoreStatus:
		return statusError{exitBuild}
	}
	return nil
}

// sayMissing tells which base images could not be looked at, and what comes of it.
func (c *call) sayMissing(images []dockerfile.MissingImage, consequence string) {
	for _, m := range images {
		fmt.Fprintf(c.stderr, "mbuild: %s: the image %s cannot be looked up, so %s: %s\n",
			m.Location, printable(m.Name), consequence, printable(strings.ReplaceAll(m.Err.Error(), "\n", " ")))
	}
}

// print writes a result to standard output in the format that is asked for.
func (c *call) print(r result) error {
	var b strings.Builder
	if c.call.JSON {
		if err := writeJSON(&b, r); err != nil {
			return err
		}
	} else {
		r.writeText(&b)
	}
	text := b.String()
	if !c.call.JSON {
		text = printable(text)
	}
	if _, err := io.WriteString(c.stdout, text); err != nil {
		return errors.Join(errors.New("cannot write to standard output"), err)
	}
	return nil
}
