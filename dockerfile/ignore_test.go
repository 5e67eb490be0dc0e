package dockerfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func TestIgnore(t *testing.T) {
	const file = "\ufeff# comment\r\n*.tmp\r\n\n  dist/  \n/abs\nlogs/**\n!logs/keep/*.txt\nnode\n!node/a/b\ndeep/**/x\nsub/../sub2\n!!odd\n.dockerignore\n"
	ig, err := ParseIgnore(".dockerignore", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path            string
		dir             bool
		excluded, prune bool
		rule            string
	}{
		{path: "."},
		{path: "/"},
		{path: "a.go"},
		{"a.tmp", false, true, false, `.dockerignore:2 ("*.tmp")`},
		{path: "x/a.tmp"}, // a star is not for directories
		{"dist", true, true, true, `.dockerignore:4 ("dist/")`},
		{"dist/a/b", false, true, false, `.dockerignore:4 ("dist/")`},
		{path: "distant"},
		{"/abs", false, true, false, `.dockerignore:5 ("/abs")`},
		{"logs/x", true, true, true, `.dockerignore:6 ("logs/**")`},
		{"logs/keep", true, true, false, `.dockerignore:6 ("logs/**")`},
		{"logs/keep/a.txt", false, false, false, `.dockerignore:7 ("!logs/keep/*.txt")`},
		{"node", true, true, false, `.dockerignore:8 ("node")`},
		{"node/a", true, true, false, `.dockerignore:8 ("node")`},
		{"node/c", true, true, true, `.dockerignore:8 ("node")`},
		{"node/a/b/c", false, false, false, `.dockerignore:9 ("!node/a/b")`},
		{"deep/1/2/x", true, true, true, `.dockerignore:10 ("deep/**/x")`},
		{path: "deep/1"},
		{"sub2/f", false, true, false, `.dockerignore:11 ("sub/../sub2")`},
		{path: "!odd"},
		{"../a.tmp", false, true, false, `.dockerignore:2 ("*.tmp")`},
	} {
		excluded, prune, rule := ig.Excluded(tc.path, tc.dir)
		if excluded != tc.excluded || prune != tc.prune || rule != tc.rule {
			t.Errorf("%s: got %v %v %s, want %v %v %s", tc.path, excluded, prune, rule, tc.excluded, tc.prune, tc.rule)
		}
	}
}

func TestNoIgnoreFileExcludesNothing(t *testing.T) {
	var none *Ignore
	for _, ig := range []*Ignore{none, {}} {
		if ex, _, rule := ig.Excluded("a", false); ex || rule != "" {
			t.Errorf("excluded by %q", rule)
		}
	}
}

func TestBadIgnoreFiles(t *testing.T) {
	for src, want := range map[string]string{
		"a\n!\n":                       `.dockerignore:2: invalid pattern "!"`,
		"a\nb\n[x\n":                   `.dockerignore:3: invalid pattern "[x"`,
		strings.Repeat("x", maxLine+1): `.dockerignore:1: line is too long`,
	} {
		_, err := ParseIgnore(".dockerignore", []byte(src))
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// FuzzIgnore compares decisions with those of the library for the file as a whole, and pruning with the decisions below.
func FuzzIgnore(f *testing.F) {
	f.Add("*\n!a/**/b\n", "a/x", "b")
	f.Add("a\n!a/b*\na/bc\n", "a", "bd/e")
	f.Add("**/x\n!y/x\n", "y", "x")
	f.Add("a/*/c\n!a/b\n", "a", "b/c")
	f.Fuzz(func(t *testing.T, file, dir, below string) {
		ig, err := ParseIgnore("i", []byte(file))
		if err != nil {
			return
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(file))
		if err != nil {
			return
		}
		whole, err := patternmatcher.New(patterns)
		if err != nil {
			return
		}
		clean := func(p string) bool {
			for _, part := range strings.Split(p, "/") {
				if part == "" || part == "." || part == ".." {
					return false
				}
			}
			return true
		}
		if !clean(dir) || !clean(below) {
			return
		}
		for _, p := range []string{dir, dir + "/" + below} {
			want, err := whole.MatchesOrParentMatches(p)
			if err != nil {
				continue
			}
			if got, _, rule := ig.Excluded(p, false); got != want {
				t.Errorf("%q with %q: got %v by %s, want %v", p, file, got, rule, want)
			}
		}
		if _, prune, _ := ig.Excluded(dir, true); prune {
			if ex, _, rule := ig.Excluded(dir+"/"+below, false); !ex {
				t.Errorf("%q below the pruned %q is let in by %s of %q", below, dir, rule, file)
			}
		}
	})
}

func BenchmarkIgnore(b *testing.B) {
	ig, err := ParseIgnore(".dockerignore", []byte("**/node_modules\n**/*.log\n.git\ndist\n!dist/keep\n**/__pycache__\n"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ig.Excluded("src/pkg/deep/down/file.go", false)
	}
}
