package dockerfile

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	maxFile         = 4 << 20 // bytes of a Dockerfile
	maxInstructions = 10_000
	maxLine         = 64<<10 - 1 // bytes of a line, as the syntax says
)

// newestMinor is the newest version of the Dockerfile language, 1.newestMinor, that this package covers.
const newestMinor = 20

// File is a parsed Dockerfile. It may be planned any number of times, also concurrently.
type File struct {
	Name string // for messages

	lines    []string
	syntax   *parser.Node // tree of instructions, not changed after Parse
	escape   rune
	warnings []parser.Warning
	checks   string // value of the check directive
	local    []localChecks
}

// Parse reads a Dockerfile. name is for messages. No I/O.
//
// Whatever can be seen without build arguments is checked here: a nil error means that all
// directives and instructions, also those of stages that a build does not use, are well-formed and that there
// is at least one stage. Every error is an *Error.
func Parse(name string, src []byte) (*File, error) {
	f, err := parse(name, src)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// parse is Parse that returns the file also when there is an error. Its syntax is nil unless all that is wrong
// is what instructions say.
func parse(name string, src []byte) (*File, error) {
	f := &File{Name: name}
	if len(src) > maxFile {
		return f, f.failf(nil, "", "a Dockerfile of %d bytes is too long, the limit is %d", len(src), maxFile)
	}
	f.lines = splitLines(src)
	if err := f.checkText(); err != nil {
		return f, err
	}
	if err := f.checkDirectives(src); err != nil {
		return f, err
	}
	tree, err := parser.Parse(bytes.NewReader(src))
	if tree == nil && err != nil && !hasInstruction(f.lines) {
		return f, f.failf(nil, "", "the Dockerfile is empty: it has no build stage")
	}
	if err != nil {
		return f, f.fail(nil, err)
	}
	if n := len(tree.AST.Children); n > maxInstructions {
		return f, f.failf(nil, "", "a Dockerfile of %d instructions is too long, the limit is %d", n, maxInstructions)
	}
	f.syntax, f.escape, f.warnings = tree.AST, tree.EscapeToken, tree.Warnings
	f.local = takeLocalChecks(tree.AST.Children)
	stages, _, err := f.instructions(nil)
	if err != nil {
		return f, err
	}
	if len(stages) == 0 {
		return f, f.failf(nil, "begin with FROM", "the Dockerfile has no build stage")
	}
	return f, nil
}

// instructions makes the typed instructions, new ones on every call, because planning expands
// them in place.
func (f *File) instructions(lint *linter.Linter) ([]instructions.Stage, []instructions.ArgCommand, error) {
	stages, global, err := instructions.Parse(f.syntax, lint)
	if err != nil {
		return nil, nil, f.fail(nil, err)
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			if err := f.checkUnsupported(c); err != nil {
				return nil, nil, err
			}
		}
	}
	return stages, global, nil
}

// checkUnsupported refuses what the grammar has and this package has not.
func (f *File) checkUnsupported(c instructions.Command) error {
	if run, ok := c.(*instructions.RunCommand); ok && len(instructions.GetDevices(run)) > 0 {
		return f.failf(c.Location(), "devices of the host are not available to RUN", "RUN --device is not supported")
	}
	return nil
}

func splitLines(src []byte) []string {
	text := strings.TrimPrefix(string(src), "\ufeff")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	return lines
}

func hasInstruction(lines []string) bool {
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			return true
		}
	}
	return false
}

func (f *File) checkText() error {
	for i, l := range f.lines {
		at := lines(i+1, i+1)
		if len(l) > maxLine {
			return f.longLine(i+1, len(l))
		}
		if strings.IndexByte(l, 0) >= 0 {
			return f.failf(at, "a Dockerfile is UTF-8 text", "line %d has a NUL byte", i+1)
		}
	}
	return nil
}

// longLine complains without showing the line.
func (f *File) longLine(n, size int) error {
	return &Error{
		Location: Location{File: f.Name, Start: n, End: n},
		Message:  "a line of " + strconv.Itoa(size) + " bytes is too long, the limit is " + strconv.Itoa(maxLine),
		Hint:     "break it with a continuation, or move long text to a file",
	}
}

func lines(start, end int) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: start}, End: parser.Position{Line: end}}}
}

// checkDirectives reads the comments at the top that are directives.
func (f *File) checkDirectives(src []byte) error {
	var d parser.DirectiveParser
	for i, l := range f.lines {
		directive, err := d.ParseLine([]byte(strings.TrimLeftFunc(l, unicode.IsSpace)))
		if err != nil {
			return f.fail(lines(i+1, i+1), err)
		}
		if directive == nil {
			break
		}
		if v := directive.Value; directive.Name == "escape" && v != `\` && v != "`" {
			return f.failf(lines(i+1, i+1), "", "invalid escape token %q, only \\ and ` are possible", v)
		}
	}
	if ref, _, at, ok := parser.DetectSyntax(src); ok {
		if err := checkFrontend(ref); err != "" {
			return f.failf(at, "mbuild has the Dockerfile language built in; use docker/dockerfile:1 or remove the line", "%s", err)
		}
	}
	_, f.checks, _, _ = parser.ParseDirective("check", src)
	if _, err := linter.ParseLintOptions(f.checks); err != nil {
		_, _, at, _ := parser.ParseDirective("check", src)
		return f.fail(at, err)
	}
	return nil
}

var (
	frontendName    = regexp.MustCompile(`^(?:(?:index\.)?docker\.io/)?docker/dockerfile(?:-upstream)?(?::([\w.-]+))?(?:@sha256:[0-9a-f]{64})?$`)
	frontendVersion = regexp.MustCompile(`^1(?:\.(\d{1,6})(?:\.\d+)?)?(?:-labs|-experimental)?$`)
)

// checkFrontend says what is wrong with a frontend that syntax= or BUILDKIT_SYNTAX asks for,
// "" if it is the language of this package.
func checkFrontend(ref string) string {
	if ref == "dockerfile.v0" {
		return ""
	}
	m := frontendName.FindStringSubmatch(ref)
	if m == nil {
		return "frontend " + strconv.Quote(ref) + " is not supported"
	}
	switch m[1] {
	case "", "latest", "labs", "experimental":
		return ""
	}
	v := frontendVersion.FindStringSubmatch(m[1])
	if v == nil {
		return "frontend " + strconv.Quote(ref) + " is not supported"
	}
	if minor, _ := strconv.Atoi(v[1]); minor > newestMinor {
		return "frontend " + strconv.Quote(ref) + " is newer than 1." + strconv.Itoa(newestMinor) + ", the version of the language that is supported"
	}
	return ""
}
