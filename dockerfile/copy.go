package dockerfile

import (
	"context"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	mode "github.com/tonistiigi/dchapes-mode"
)

func (w *walk) copyCommand(ctx context.Context, c *instructions.CopyCommand) error {
	from := Source{Local: &Local{}}
	if c.From != "" {
		if strings.Contains(c.From, "$") {
			return w.file.failf(c.Location(), "define a stage with FROM, which global ARGs can name, and copy from that stage", "variables are not possible in --from")
		}
		var err error
		if from, err = w.source(ctx, w.stage, c.From, c.Location()); err != nil {
			return err
		}
	}
	op := &Copy{Owner: c.Chown, Mode: c.Chmod, Link: c.Link, Parents: c.Parents, Exclude: c.ExcludePatterns}
	for _, src := range c.SourcePaths {
		if kind := remoteKind(src); kind != "" {
			return w.file.failf(c.Location(), "ADD is for that", "source %q can't be a %s for COPY", redact(src), kind)
		}
	}
	if len(c.SourcePaths) > 0 {
		from.Paths = c.SourcePaths
		op.Sources = []Source{from}
	}
	return w.copyFiles(op, c.SourcesAndDest, c, c.String())
}

func (w *walk) addCommand(c *instructions.AddCommand) error {
	op := &Copy{Add: true, Owner: c.Chown, Mode: c.Chmod, Link: c.Link, Exclude: c.ExcludePatterns, Unpack: c.Unpack}
	var err error
	if op.Sources, err = w.addSources(c); err != nil {
		return err
	}
	return w.copyFiles(op, c.SourcesAndDest, c, c.String())
}

// copyFiles is what COPY and ADD have in common.
func (w *walk) copyFiles(op *Copy, sd instructions.SourcesAndDest, c instructions.Command, text string) error {
	if err := checkMode(op.Mode); err != nil {
		return w.file.failf(c.Location(), "", "%v", err)
	}
	if op.Mode != "" {
		op.Link = false // as documented by BuildKit: --link has no effect together with --chmod
	}
	op.Dest = w.destination(sd.DestPath)
	by := strings.ToUpper(c.Name())
	if op.Parents {
		by += " --parents"
	}
	if op.Owner != "" {
		by += " --chown=" + op.Owner
	}
	if op.Mode != "" {
		by += " --chmod=" + op.Mode
	}
	for _, src := range sd.SourcePaths {
		by += " " + redact(src)
	}
	for _, from := range op.Sources {
		if from.Local == nil || from.Local.Name != "" {
			continue
		}
		for _, src := range from.Paths {
			w.lintIgnored(c, src)
		}
	}
	for _, doc := range sd.SourceContents {
		if err := w.fileName(doc.Path, c.Location()); err != nil {
			return err
		}
		by += " <<" + doc.Path
		op.Sources = append(op.Sources, Source{Inline: &Inline{Name: doc.Path, Data: []byte(doc.Data), Mode: 0o644}})
	}
	w.add(op, nil, redact(w.display(text, w.env, false)), c.Location())
	w.image.commit(by+" "+sd.DestPath+" # buildkit", w.step)
	return nil
}

// destination is where to copy to, with a slash at the end when it says that it is a directory.
func (w *walk) destination(dest string) string {
	abs := w.inside(dest)
	if dest == "." || dest == "" || strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.") {
		return strings.TrimSuffix(abs, "/") + "/"
	}
	return abs
}

// checkMode refuses what --chmod cannot mean.
func checkMode(text string) error {
	if text == "" {
		return nil
	}
	if n, err := strconv.ParseUint(text, 8, 32); err == nil {
		if n > 0o7777 {
			return errors.New("invalid --chmod " + strconv.Quote(text) + ", octal modes are between 0 and 07777")
		}
		return nil
	}
	if _, err := mode.Parse(text); err != nil {
		return errors.New("invalid --chmod " + strconv.Quote(text) + ", it is neither an octal mode between 0 and 07777 nor a symbolic one such as u+x")
	}
	return nil
}

func (w *walk) workdir(c *instructions.WorkdirCommand) {
	if !w.workdirSet && !path.IsAbs(c.Path) {
		w.lint.Run(&linter.RuleWorkdirRelativePath, c.Location(), linter.RuleWorkdirRelativePath.Format(c.Path))
	}
	w.workdirSet = true
	dir := joinDir(w.dir(), c.Path)
	w.image.config.WorkingDir = dir
	if path.Clean(dir) == "/" {
		w.image.commit("WORKDIR "+dir, nil)
		return
	}
	w.add(&Mkdir{Path: path.Clean(dir), Owner: w.image.config.User}, nil, w.display(c.String(), w.env, false), c.Location())
	w.image.commit("WORKDIR "+dir, w.step)
}
