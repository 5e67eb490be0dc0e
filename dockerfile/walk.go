package dockerfile

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var errTrigger = errors.New("an ONBUILD trigger has to be one instruction")

// walk carries out the instructions of one stage on its state.
type walk struct {
	*target
	*state
	stage *stage

	position, total int
	trigger         bool                      // the instruction comes from ONBUILD
	used            map[string][]parser.Range // where CMD, ENTRYPOINT and HEALTHCHECK were set in this stage
	doubtful        bool                      // the instruction has a variable that an unknown base may set
}

// countSteps counts the instructions that make steps.
func countSteps(commands []instructions.Command) int {
	n := 0
	for _, c := range commands {
		switch c.(type) {
		case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

func (w *walk) run(ctx context.Context) error {
	w.enter()
	triggers, err := w.triggers()
	if err != nil {
		return err
	}
	w.used = map[string][]parser.Range{}
	w.total = countSteps(w.stage.Commands) + countSteps(triggers)
	if w.step != nil && w.stage.parent == nil {
		w.position, w.total = 1, w.total+1
		if w.step.Stage == w.stage.label() {
			w.step.Total = w.total // now with the triggers
		}
	}
	w.trigger = true
	for _, c := range triggers {
		if err := w.carryOut(ctx, c); err != nil {
			return w.file.fail(w.stage.Location, err)
		}
	}
	w.trigger = false
	for _, c := range w.stage.Commands {
		if err := w.carryOut(ctx, c); err != nil {
			return w.file.fail(c.Location(), err)
		}
	}
	return nil
}

// carryOut carries out an instruction, and counts what it leaves in the history as expanded text.
func (w *walk) carryOut(ctx context.Context, c instructions.Command) error {
	before := len(w.image.own)
	w.doubtful = false
	err := w.expandIn(c)
	if err == nil && !w.doubtful {
		err = w.instruction(ctx, c)
	}
	if w.doubtful {
		w.leaveOut(c)
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range w.image.own[before:] {
		w.expand.left -= len(e.by)
	}
	if w.expand.left < 0 {
		return errExpansion
	}
	return nil
}

// enter makes the image's settings the stage's. What the image sets wins over an inherited ARG.
func (w *walk) enter() {
	w.image.ensurePath()
	for _, kv := range w.image.config.Env {
		k, v, _ := strings.Cut(kv, "=")
		w.env.set(k, v)
	}
	if dir := w.image.config.WorkingDir; dir != "" {
		w.image.config.WorkingDir = joinDir("/", dir)
	}
}

// triggers takes over what the base left to do with ONBUILD.
func (w *walk) triggers() ([]instructions.Command, error) {
	var out []instructions.Command
	for _, text := range w.image.config.OnBuild {
		c, err := parseTrigger(text, w.stage.Location)
		if err == nil {
			err = w.file.checkUnsupported(c)
		}
		if err != nil {
			return nil, w.file.failf(w.stage.Location, "", "ONBUILD trigger %q of the base image: %v", text, cause(err))
		}
		if a, ok := c.(*instructions.ArgCommand); ok {
			w.noteArg(a)
		}
		out = append(out, c)
	}
	w.image.config.OnBuild = nil
	return out, nil
}

// cause is an error without the place it knows.
func cause(err error) error {
	var located *parser.LocationError
	if errors.As(err, &located) {
		return located.Unwrap()
	}
	return err
}

func (w *walk) instruction(ctx context.Context, c instructions.Command) error {
	switch c := c.(type) {
	case *instructions.RunCommand:
		return w.runCommand(ctx, c)
	case *instructions.CopyCommand:
		return w.copyCommand(ctx, c)
	case *instructions.AddCommand:
		return w.addCommand(c)
	case *instructions.WorkdirCommand:
		w.workdir(c)
		return nil
	case *instructions.EnvCommand:
		return w.envCommand(c)
	case *instructions.ArgCommand:
		return w.argCommand(c)
	case *instructions.LabelCommand:
		return w.labelCommand(c)
	case *instructions.OnbuildCommand:
		w.image.config.OnBuild = append(slices.Clip(w.image.config.OnBuild), c.Expression)
		return nil
	case *instructions.ExposeCommand:
		return w.expose(c)
	case *instructions.VolumeCommand:
		return w.volume(c)
	case *instructions.StopSignalCommand:
		return w.stopSignal(c)
	case *instructions.CmdCommand:
		w.cmdCommand(c)
		return nil
	case *instructions.EntrypointCommand:
		w.entrypoint(c)
		return nil
	case *instructions.HealthCheckCommand:
		w.healthcheck(c)
		return nil
	case *instructions.ShellCommand:
		w.shell(c)
		return nil
	case *instructions.UserCommand:
		w.user(c)
		return nil
	case *instructions.MaintainerCommand:
		w.maintainer(c)
		return nil
	}
	return w.file.failf(c.Location(), "", "%s is not supported", strings.ToUpper(c.Name()))
}

// expandIn expands the words of an instruction. ARG expands its defaults itself, as it may not need them.
func (w *walk) expandIn(c instructions.Command) error {
	expand := func(lex *shell.Lex) instructions.SingleWordExpander {
		return func(word string) (string, error) {
			res, err := w.expand.word(lex, word, w.env)
			w.lintUndefined(c.Location(), res.Unmatched)
			return res.Result, err
		}
	}
	_, isArg := c.(*instructions.ArgCommand)
	if x, ok := c.(instructions.SupportsSingleWordExpansion); ok && !isArg {
		if err := x.Expand(expand(w.expand.lex)); err != nil {
			return err
		}
	}
	if x, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return x.ExpandRaw(expand(lex))
	}
	return nil
}

// add makes a step on top of the stage's filesystem.
func (w *walk) add(op Op, platform *ocispec.Platform, name string, at []parser.Range) {
	w.position++
	if w.trigger {
		name = "ONBUILD " + name
	}
	w.step = w.intern(&Step{
		Op: op, Parent: w.step, Platform: platform,
		Stage: w.stage.label(), Position: w.position, Total: w.total,
		Name: oneLine(name), Loc: w.file.location(at), NoCache: w.noCache(w.stage),
	}, w.target.platform)
}

// display is an instruction as it is shown, with the variables that are known.
func (w *walk) display(text string, vars shell.EnvGetter, raw bool) string {
	lex := shell.NewLex(w.file.escape)
	lex.RawQuotes, lex.SkipUnsetEnv = raw, raw
	if res, err := w.expand.word(lex, text, vars); err == nil {
		text = res.Result
	}
	word, rest, ok := strings.Cut(text, " ")
	if !ok {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + rest
}

// oneLine keeps line breaks, escape sequences and excess out of what is shown on a terminal.
func oneLine(s string) string {
	const limit = 2000
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// joinDir is dir seen from base, as WORKDIR means it: an absolute one stays as it is written.
func joinDir(base, dir string) string {
	switch {
	case dir == "":
		dir = base
	case !path.IsAbs(dir):
		dir = path.Join(base, dir)
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", dir)
	}
	return dir
}

// dir is the current directory, clean.
func (w *walk) dir() string {
	return path.Clean(joinDir("/", w.image.config.WorkingDir))
}
