package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"mbuild/executor/namespace"
)

// command is one call of mbuild.
type command struct {
	inside         *namespace.Info // the build namespace this process is in, nil outside
	args           []string        // the command line, regular
	stdout, stderr io.Writer
	entered        bool // the work was done by the half inside,
	code           int  // which ended with this exit code
}

// app describes the command line.
func (c *command) app() *cli.App {
	return &cli.App{
		Name:                      "mbuild",
		Usage:                     "build multi-platform OCI images from a Dockerfile, without a daemon and without root",
		UsageText:                 "mbuild [build] [flags] PATH\nmbuild --platform linux/amd64,linux/arm64 -t registry.example.com/app:1 --push .",
		Description:               exitCodesHelp,
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
		Writer:                    c.stdout,
		ErrWriter:                 c.stderr,
		OnUsageError:              onUsageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		CustomAppHelpTemplate:     appHelp,
		Commands: []*cli.Command{
			{
				Name: "build", Usage: "build an image (the default command)", ArgsUsage: "PATH",
				UsageText: "mbuild [build] --platform linux/amd64,linux/arm64 -t registry.example.com/app:1 --push .",
				Flags:     buildFlags(), Action: c.build, OnUsageError: onUsageError, HideHelpCommand: true,
				CustomHelpTemplate: helpOf("mbuild [build] [flags] PATH", buildFlags()),
			},
			{
				Name: "doctor", Usage: "show what works here: isolation, platforms, emulators, state directory",
				Flags: doctorFlags(), Action: c.doctor, OnUsageError: onUsageError, HideHelpCommand: true,
				CustomHelpTemplate: helpOf("mbuild doctor [flags]", doctorFlags()),
			},
			{
				Name: "prune", Usage: "delete everything mbuild has cached in its state directory",
				Flags: []cli.Flag{rootFlag()}, Action: c.prune, OnUsageError: onUsageError, HideHelpCommand: true,
				CustomHelpTemplate: helpOf("mbuild prune [flags]", []cli.Flag{rootFlag()}),
			},
			{Name: "version", Usage: "print the version", Action: c.version, HideHelpCommand: true},
		},
	}
}

const exitCodesHelp = `Exit codes: 0 done; 1 the Dockerfile, its context or a step is wrong; 2 usage;
3 a RUN ended with an error; 4 pulling or pushing failed; 5 something is missing here
(see "mbuild doctor"); 6 the state directory cannot be used or the disk is full;
130 interrupted.`

const appHelp = `{{.Name}}: {{.Usage}}

Usage:
{{range $line := .VisibleCommands}}  mbuild {{$line.Name}}	{{$line.Usage}}
{{end}}
Example:
  mbuild --platform linux/amd64,linux/arm64 -t registry.example.com/app:1 --push .

Flags of a command: mbuild COMMAND --help, such as mbuild build --help

{{.Description}}
`

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

func (c *command) version(*cli.Context) error {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	_, err := fmt.Fprintln(c.stdout, "mbuild", version)
	return err
}

// arrange makes the command line regular: the command, its flags, then the rest.
// Flags may stand behind PATH, as docker takes them, and "build" may be left out.
func arrange(app *cli.App, args []string) []string {
	if len(args) == 0 || slices.Contains([]string{"-h", "--help", "help"}, args[0]) {
		return nil
	}
	cmd := app.Command(args[0])
	if cmd == nil {
		cmd = app.Command("build")
	} else {
		args = args[1:]
	}
	var options, rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			rest = append(rest, args...)
			args = nil
		case len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
		default:
			options = append(options, arg)
			if takesValue(cmd, arg) && len(args) > 0 {
				options = append(options, args[0])
				args = args[1:]
			}
		}
	}
	return slices.Concat([]string{cmd.Name}, options, []string{"--"}, rest)
}

// takesValue reports whether the next argument belongs to the flag arg.
func takesValue(cmd *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// enter carries on in a build namespace. done is true when the half inside has done the
// work; otherwise this process goes on, and why says what it has to do without.
func (c *command) enter(ctx context.Context, args []string) (done bool, why *namespace.Unavailable, err error) {
	code, why, err := namespace.Enter(ctx, args, c.stderr)
	if err != nil || why != nil {
		return false, why, err
	}
	c.entered, c.code = true, code
	return true, nil, nil
}
