package dockerfile

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ignore decides what of a local context takes part in a build (.dockerignore). The zero value lets
// everything in. It may be used concurrently.
type Ignore struct {
	rules     []rule
	negations bool
}

type rule struct {
	matcher *patternmatcher.PatternMatcher // of the one pattern, without its exclamation mark
	parts   []string                       // of the pattern
	negated bool
	label   string // .dockerignore:3 ("dist/")
}

// ParseIgnore reads an ignore file. name is for messages. Errors name file and line and are *Error.
func ParseIgnore(name string, src []byte) (*Ignore, error) {
	ig := &Ignore{}
	for n, line := range splitLines(src) {
		fail := func(err error) error {
			return &Error{Location: Location{File: name, Start: n + 1, End: n + 1, Lines: []string{line}}, Message: err.Error(), Err: err}
		}
		if len(line) > maxLine {
			return nil, &Error{Location: Location{File: name, Start: n + 1, End: n + 1}, Message: "line is too long"}
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(line))
		if err != nil {
			return nil, fail(err)
		}
		for _, p := range patterns {
			r, err := newRule(p)
			if err != nil {
				return nil, fail(fmt.Errorf("invalid pattern %q: %w", p, err))
			}
			r.label = fmt.Sprintf("%s:%d (%q)", name, n+1, strings.TrimSpace(line))
			ig.rules = append(ig.rules, r)
			ig.negations = ig.negations || r.negated
		}
	}
	return ig, nil
}

func newRule(pattern string) (rule, error) {
	var r rule
	if pattern, r.negated = strings.CutPrefix(pattern, "!"); pattern == "" {
		return r, errors.New("nothing after the exclamation mark")
	}
	r.parts = strings.Split(path.Clean(pattern), "/")
	if pattern[0] == '!' {
		pattern = `\` + pattern // a second one is part of the name
	}
	var err error
	if r.matcher, err = patternmatcher.New([]string{pattern}); err != nil {
		return r, err
	}
	// The matcher compiles a pattern when it is first used, and complains then.
	_, err = r.matcher.MatchesOrParentMatches("x")
	return r, err
}

// Excluded decides about a path relative to the context, with slashes. rule names the rule that
// decided, file and line first, and is empty when none did. For an excluded directory prune
// says that nothing below it can be let in again. The context itself (".") is never excluded.
func (i *Ignore) Excluded(name string, isDir bool) (excluded, prune bool, rule string) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if i == nil || name == "" {
		return false, false, ""
	}
	last := -1
	for n := range i.rules {
		r := &i.rules[n]
		if r.negated != excluded {
			continue // it would change nothing
		}
		if match, err := r.matcher.MatchesOrParentMatches(name); err == nil && match {
			excluded, last = !r.negated, n
		}
	}
	if last < 0 {
		return false, false, ""
	}
	return excluded, excluded && isDir && !i.mayReturn(last+1, strings.Split(name, "/")), i.rules[last].label
}

// mayReturn reports whether a rule from the given one on may let something below a directory in.
func (i *Ignore) mayReturn(from int, dir []string) bool {
	for _, r := range i.rules[from:] {
		if r.negated && reachesBelow(r.parts, dir) {
			return true
		}
	}
	return false
}

// reachesBelow reports whether a pattern may match something below dir. When in doubt it says yes.
func reachesBelow(pattern, dir []string) bool {
	for n, name := range dir {
		switch {
		case n >= len(pattern):
			return false
		case strings.Contains(pattern[n], "**"):
			return true
		case !strings.ContainsAny(pattern[n], `*?[\`) && pattern[n] != name:
			return false
		}
	}
	return len(pattern) > len(dir)
}
