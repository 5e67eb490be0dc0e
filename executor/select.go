package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"mbuild/snapshot"
)

// selection is one path that a pattern of COPY or ADD led to, with everything below
// it that will be copied.
type selection struct {
	files  Files
	base   string // the name it keeps when the destination is a directory
	picks  []pick // parents before children; the first is the path itself, "."
	remote bool   // it comes from a web server
}

// pick is one file of a selection.
type pick struct {
	name  string         // relative to the selection; "." is the selection itself
	entry snapshot.Entry // Path is the path in the source, Digest is set for regular files
	// parent marks a directory that only --parents brings in: it is made as the
	// source has it, but only when it is missing.
	parent bool
}

// selectPaths finds what one source pattern of COPY or ADD means in files, which
// patterns of --exclude leave out, and reads the content digests. No match for a
// pattern with wildcards is an empty result; a plain path has to exist.
func selectPaths(ctx context.Context, files Files, pattern string, exclude []string) ([]selection, error) {
	out, err := newExcluder(exclude)
	if err != nil {
		return nil, err
	}
	matches, wild, err := glob(files, pattern)
	if err != nil {
		return nil, err
	}
	var selected []selection
	for _, m := range matches {
		if wild && out.excludes(m.rel) || !wild && out.excludes(path.Base(m.path)) {
			continue
		}
		followed, err := resolve(files.Lookup, m.path, true)
		if err != nil {
			return nil, err
		}
		top, err := files.Lookup(followed)
		if err != nil {
			return nil, err
		}
		s := selection{files: files, base: path.Base(m.path)}
		if err := s.add(".", top, out); err != nil {
			return nil, err
		}
		selected = append(selected, s)
	}
	return selected, digestPicks(ctx, selected)
}

// add takes in an entry and everything below it that is not excluded.
func (s *selection) add(name string, e snapshot.Entry, out excluder) error {
	excluded := name != "." && out.excludes(name)
	if !excluded {
		s.picks = append(s.picks, pick{name: name, entry: e})
	}
	if e.Type != snapshot.Directory || excluded && !out.mayReturn {
		return nil
	}
	entries, err := s.files.ReadDir(e.Path)
	if err != nil {
		return err
	}
	mark := len(s.picks)
	for _, child := range entries {
		if err := s.add(path.Join(name, path.Base(child.Path)), child, out); err != nil {
			return err
		}
	}
	if excluded && len(s.picks) > mark { // an exception below brings its directory back
		s.picks = append(s.picks[:mark], append([]pick{{name: name, entry: e, parent: true}}, s.picks[mark:]...)...)
	}
	return nil
}

// selectParents finds what a source of COPY --parents means: the paths below the
// pivot "/./" (or the root) that match the rest of the pattern, with the directories
// on the way to them.
func selectParents(ctx context.Context, files Files, pattern string, exclude []string) ([]selection, error) {
	out, err := newExcluder(exclude)
	if err != nil {
		return nil, err
	}
	pivot, rest, ok := strings.Cut(pattern, "/./")
	if !ok {
		pivot, rest = "/", pattern
	}
	rest = strings.TrimPrefix(path.Clean("/"+rest), "/")
	if rest == "" {
		rest = "**"
	}
	want, err := patternmatcher.New([]string{rest})
	if err != nil {
		return nil, fmt.Errorf("invalid pattern %q: %w", pattern, err)
	}
	bases, wild, err := glob(files, pivot)
	if err != nil {
		return nil, err
	}
	var selected []selection
	for _, m := range bases {
		followed, err := resolve(files.Lookup, m.path, true)
		if err != nil {
			return nil, err
		}
		top, err := files.Lookup(followed)
		if err != nil {
			return nil, err
		}
		s := selection{files: files, base: path.Base(m.path)}
		s.picks = []pick{{name: ".", entry: top, parent: true}}
		if err := s.addMatching(".", followed, want, rest, out, patternmatcher.MatchInfo{}); err != nil {
			return nil, err
		}
		if len(s.picks) > 1 {
			selected = append(selected, s)
		}
	}
	if len(selected) == 0 && !wild && !hasWildcards(rest) {
		return nil, &fs.PathError{Op: "lookup", Path: path.Join(pivot, rest), Err: fs.ErrNotExist}
	}
	return selected, digestPicks(ctx, selected)
}

func (s *selection) addMatching(name, dir string, want *patternmatcher.PatternMatcher, pattern string, out excluder, above patternmatcher.MatchInfo) error {
	entries, err := s.files.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(name, path.Base(e.Path))
		matched, info, err := want.MatchesUsingParentResults(at, above)
		if err != nil {
			return err
		}
		matched = matched && !out.excludes(at)
		mark := len(s.picks)
		if matched {
			s.picks = append(s.picks, pick{name: at, entry: e})
		}
		if e.Type != snapshot.Directory || !matched && !leadsTo(at, pattern) {
			continue
		}
		if err := s.addMatching(at, e.Path, want, pattern, out, info); err != nil {
			return err
		}
		if !matched && len(s.picks) > mark {
			s.picks = append(s.picks[:mark], append([]pick{{name: at, entry: e, parent: true}}, s.picks[mark:]...)...)
		}
	}
	return nil
}

// leadsTo reports whether something below the directory dir can match the pattern.
func leadsTo(dir, pattern string) bool {
	have, want := strings.Split(dir, "/"), strings.Split(pattern, "/")
	for i, part := range have {
		if i >= len(want) {
			return false
		}
		if want[i] == "**" {
			return true
		}
		if ok, err := path.Match(want[i], part); err == nil && !ok {
			return false
		}
	}
	return true
}

// excluder applies the patterns of --exclude.
type excluder struct {
	patterns  *patternmatcher.PatternMatcher
	mayReturn bool // a "!" pattern may bring back something below an excluded directory
}

func newExcluder(patterns []string) (excluder, error) {
	if len(patterns) == 0 {
		return excluder{}, nil
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return excluder{}, fmt.Errorf("invalid --exclude: %w", err)
	}
	return excluder{patterns: m, mayReturn: m.Exclusions()}, nil
}

func (x excluder) excludes(name string) bool {
	if x.patterns == nil {
		return false
	}
	yes, err := x.patterns.MatchesOrParentMatches(name)
	return err == nil && yes
}

// globMatch is a path that a pattern names; rel is the part the wildcards matched.
type globMatch struct{ path, rel string }

// glob expands a source pattern as filepath.Match has it, each component by itself.
// Links in front of the first wildcard are followed, links behind it are not. wild
// tells whether there was a wildcard; without one the only match is the path itself,
// whether it exists or not.
func glob(files Files, pattern string) (matches []globMatch, wild bool, err error) {
	parts := components(path.Clean("/" + pattern))
	fixed := 0
	for fixed < len(parts) && !hasWildcards(parts[fixed]) {
		fixed++
	}
	dir := path.Join(append([]string{"."}, parts[:fixed]...)...)
	if fixed == len(parts) {
		return []globMatch{{path: dir}}, false, nil
	}
	if dir, err = resolve(files.Lookup, dir, true); err != nil {
		return nil, true, err
	}
	matches = []globMatch{{path: dir, rel: "."}}
	for i := fixed; i < len(parts); i++ {
		if matches, err = globStep(files, matches, parts[i]); err != nil {
			return nil, true, err
		}
	}
	return matches, true, nil
}

func globStep(files Files, dirs []globMatch, part string) ([]globMatch, error) {
	var found []globMatch
	for _, d := range dirs {
		e, err := files.Lookup(d.path)
		if absent(err) || err == nil && e.Type != snapshot.Directory {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := files.ReadDir(d.path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := path.Base(e.Path)
			ok, err := path.Match(part, name)
			if err != nil {
				return nil, fmt.Errorf("invalid pattern %q: %w", part, err)
			}
			if ok {
				found = append(found, globMatch{path: e.Path, rel: path.Join(d.rel, name)})
			}
		}
	}
	return found, nil
}

// hasWildcards reports whether a component of a pattern can match more than itself.
func hasWildcards(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// wildcardInClass reports whether a pattern has a star or question mark inside
// brackets, such as "a[*]". In a local context it matches nothing, as in BuildKit, which
// reads the pattern with other rules than those of filepath.Match while it takes in
// the context.
func wildcardInClass(pattern string) bool {
	inside := false
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[':
			inside = true
		case ']':
			inside = false
		case '*', '?':
			if inside {
				return true
			}
		}
	}
	return false
}

// digestPicks reads the content of every selected file that has no digest yet. Files
// of layers have theirs; those of a local context are read here.
func digestPicks(ctx context.Context, selected []selection) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) * 2)
	for i := range selected {
		files := selected[i].files
		for j := range selected[i].picks {
			e := &selected[i].picks[j].entry
			if e.Type == snapshot.Regular && e.Digest == "" {
				g.Go(func() (err error) {
					e.Digest, err = digestFile(ctx, files, *e)
					return err
				})
			}
		}
	}
	return g.Wait()
}

func digestFile(ctx context.Context, files Files, e snapshot.Entry) (digest.Digest, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	f, err := files.Open(ctx, e.Path)
	if err != nil {
		return "", err
	}
	d, err := digest.SHA256.FromReader(f)
	return d, errors.Join(err, f.Close())
}

// digestSelections is the identity of what was selected: names, kinds, modes, owners,
// attributes, link targets, hard link groups and content, but no times.
func digestSelections(selected []selection) digest.Digest {
	e := newEncoder("selection")
	e.num(int64(len(selected)))
	for _, s := range selected {
		e.str(s.base)
		e.num(int64(len(s.picks)))
		first := map[string]string{} // hard link group -> its first name
		for _, p := range s.picks {
			link := p.entry.Link
			if p.entry.Type == snapshot.Regular && link != "" {
				if _, ok := first[link]; !ok {
					first[link] = p.name
				}
				link = first[link]
			}
			e.entry(p.name, p.entry, link)
			if p.parent {
				e.str("parent")
			} else {
				e.str("")
			}
		}
	}
	return digest.NewDigestFromEncoded(digest.SHA256, string(e.sum()))
}
