package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Location is a range of lines of a Dockerfile.
type Location struct {
	File       string   // name for messages
	Start, End int      // 1-based, inclusive; 0: the file as a whole
	Lines      []string // source text of the lines, without the passwords of URLs
}

// String is "Dockerfile:7", or the name alone for the file as a whole.
func (l Location) String() string {
	if l.Start == 0 {
		return l.File
	}
	return fmt.Sprintf("%s:%d", l.File, l.Start)
}

// Excerpt is the source text with line numbers in front, a newline after every line. It is empty
// for the file as a whole.
func (l Location) Excerpt() string {
	var b strings.Builder
	for i, line := range l.Lines {
		fmt.Fprintf(&b, "%4d | %s\n", l.Start+i, line)
	}
	return b.String()
}

// Error is a complaint about the Dockerfile that a person can act on. Its text is
// one line that begins with file and line; Excerpt and Hint are for showing below it.
type Error struct {
	Location
	Message string // what is wrong with which input
	Hint    string // what to do about it, may be empty
	Err     error  // cause, may be nil
}

func (e *Error) Error() string { return e.Location.String() + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Warning is a finding of the build checks.
type Warning struct {
	Location
	Rule        string // name of the rule, such as StageNameCasing
	Description string // what the rule is about
	Message     string // what was found
	URL         string // page about the rule, may be empty
}

// location finds the source lines of ranges.
func (f *File) location(ranges []parser.Range) Location {
	l := Location{File: f.Name}
	for i, r := range ranges {
		if i == 0 || r.Start.Line < l.Start {
			l.Start = r.Start.Line
		}
		l.End = max(l.End, r.End.Line)
	}
	return f.lineRange(l.Start, l.End)
}

func (f *File) lineRange(start, end int) Location {
	l := Location{File: f.Name}
	if start < 1 || start > len(f.lines) {
		return l
	}
	l.Start, l.End = start, min(max(start, end), len(f.lines))
	l.Lines = f.lines[l.Start-1 : l.End]
	if slices.ContainsFunc(l.Lines, userInfo.MatchString) {
		l.Lines = slices.Clone(l.Lines)
		for i := range l.Lines {
			l.Lines[i] = redact(l.Lines[i])
		}
	}
	return l
}

// fail makes an *Error of err. The place is the one err itself knows, else ranges. An *Error
// stays as it is.
func (f *File) fail(ranges []parser.Range, err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	msg, cause := err.Error(), err
	var located *parser.LocationError
	if errors.As(err, &located) {
		if len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
			ranges = located.Locations[0]
		}
		msg, cause = located.Unwrap().Error(), located.Unwrap()
	}
	e := &Error{Location: f.location(ranges), Message: msg, Err: cause}
	if text, suggestion, ok := strings.Cut(msg, " (did you mean "); ok {
		e.Message, e.Hint = text, "did you mean "+strings.TrimSuffix(suggestion, ")")
	}
	e.Message = nameInstruction(e.Location, e.Message)
	return e
}

// failf is fail for a complaint of our own, with a hint.
func (f *File) failf(ranges []parser.Range, hint, format string, args ...any) error {
	loc := f.location(ranges)
	return &Error{Location: loc, Hint: hint, Message: nameInstruction(loc, fmt.Sprintf(format, args...))}
}

// nameInstruction puts the instruction in front of a message that does not mention it.
func nameInstruction(loc Location, msg string) string {
	if len(loc.Lines) == 0 {
		return msg
	}
	word, _, _ := strings.Cut(strings.TrimSpace(loc.Lines[0]), " ")
	if _, ok := command.Commands[strings.ToLower(word)]; !ok || strings.Contains(strings.ToUpper(msg), strings.ToUpper(word)) {
		return msg
	}
	return strings.ToUpper(word) + ": " + msg
}
