package executor

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// paths lists what was selected as base:name, directories that only lead somewhere in
// parentheses.
func paths(selected []selection) string {
	var out []string
	for _, s := range selected {
		for _, p := range s.picks {
			name := s.base + ":" + p.name
			if p.parent {
				name = "(" + name + ")"
			}
			out = append(out, name)
		}
	}
	return strings.Join(out, " ")
}

func TestSelectPaths(t *testing.T) {
	files := tree(t,
		"dir 0755 0:0 src", "file 0644 0:0 src/a.go=a", "file 0644 0:0 src/b.txt=b", "dir 0755 0:0 src/sub", "file 0644 0:0 src/sub/c.go=c",
		"file 0644 0:0 arr[0].txt=x", "file 0644 0:0 top.go=t", "link ln=src", "link lf=top.go",
	)
	for _, tt := range []struct {
		name, pattern string
		exclude       []string
		want          string
	}{
		{"a file", "top.go", nil, "top.go:."},
		{"a directory with its content", "src", nil, "src:. src:a.go src:b.txt src:sub src:sub/c.go"},
		{"outside is clamped to the root", "../../src/a.go", nil, "a.go:."},
		{"wildcard", "*.go", nil, "top.go:."},
		{"wildcard in a directory", "src/*.go", nil, "a.go:."},
		{"wildcard does not cross a slash", "*/c.go", nil, ""},
		{"escaped bracket", "arr[[]0].txt", nil, "arr[0].txt:."},
		{"nothing matches a wildcard", "*.nomatch", nil, ""},
		{"link to a directory keeps its name", "l[n]", nil, "ln:. ln:a.go ln:b.txt ln:sub ln:sub/c.go"},
		{"link to a file", "lf", nil, "lf:."},
		{"exclude below", "src", []string{"*.txt"}, "src:. src:a.go src:sub src:sub/c.go"},
		{"exclude a directory", "src", []string{"sub"}, "src:. src:a.go src:b.txt"},
		{"exclude with an exception", "src", []string{"sub", "!sub/c.go"}, "src:. src:a.go src:b.txt (src:sub) src:sub/c.go"},
		{"exclude what a wildcard finds", "src/*", []string{"src/b.txt", "*.txt"}, "a.go:. sub:. sub:c.go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := selectPaths(t.Context(), files, tt.pattern, tt.exclude)
			if err != nil {
				t.Fatal(err)
			}
			if paths(got) != tt.want {
				t.Errorf("got  %s\nwant %s", paths(got), tt.want)
			}
		})
	}
}

func TestWildcardInClass(t *testing.T) {
	for pattern, want := range map[string]bool{
		"star[*]": true, "a[x?]b": true, "arr[[]0].txt": false, "*.go": false, "a\\[*": false, "[ab]*": false, "plain": false,
	} {
		if got := wildcardInClass(pattern); got != want {
			t.Errorf("%q: got %v, want %v", pattern, got, want)
		}
	}
}

func TestSelectPathsNeedsAPlainPath(t *testing.T) {
	if _, err := selectPaths(t.Context(), tree(t), "missing", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestSelectParents(t *testing.T) {
	files := tree(t,
		"dir 0755 0:0 a", "dir 0755 0:0 a/b", "file 0644 0:0 a/b/x.txt=x", "file 0644 0:0 a/b/y.md=y", "dir 0755 0:0 a/c", "file 0644 0:0 a/c/z.txt=z",
	)
	for _, tt := range []struct{ name, pattern, want string }{
		{"a file", "a/b/x.txt", "(.:.) (.:a) (.:a/b) .:a/b/x.txt"},
		{"a directory", "a/b", "(.:.) (.:a) .:a/b .:a/b/x.txt .:a/b/y.md"},
		{"a pivot", "a/./b/x.txt", "(a:.) (a:b) a:b/x.txt"},
		{"double star", "**/*.txt", "(.:.) (.:a) (.:a/b) .:a/b/x.txt (.:a/c) .:a/c/z.txt"},
		{"nothing for a wildcard", "q/*.txt", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := selectParents(t.Context(), files, tt.pattern, nil)
			if err != nil {
				t.Fatal(err)
			}
			if paths(got) != tt.want {
				t.Errorf("got  %s\nwant %s", paths(got), tt.want)
			}
		})
	}
	if _, err := selectParents(t.Context(), files, "a/none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plain path that is missing: got %v, want fs.ErrNotExist", err)
	}
}

// Two selections with different results must never have the same digest.
func TestSelectionDigestTellsContentsApart(t *testing.T) {
	trees := map[string]memFiles{
		"original":       tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/f=x"),
		"content":        tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/f=y"),
		"name":           tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/g=x"),
		"mode":           tree(t, "dir 0755 0:0 d", "file 0755 0:0 d/f=x"),
		"directory mode": tree(t, "dir 0700 0:0 d", "file 0644 0:0 d/f=x"),
		"owner":          tree(t, "dir 0755 0:0 d", "file 0644 1:0 d/f=x"),
		"group":          tree(t, "dir 0755 0:0 d", "file 0644 0:1 d/f=x"),
		"kind":           tree(t, "dir 0755 0:0 d", "link d/f=x"),
		"link target":    tree(t, "dir 0755 0:0 d", "link d/f=y"),
		"more":           tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/f=x", "dir 0755 0:0 d/e"),
		"framing 1":      tree(t, "dir 0755 0:0 d", "dir 0755 0:0 d/ab", "file 0644 0:0 d/ab/c=x"),
		"framing 2":      tree(t, "dir 0755 0:0 d", "dir 0755 0:0 d/a", "file 0644 0:0 d/a/bc=x"),
		"two files":      tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/f=x", "file 0644 0:0 d/g=x"),
		"hard links":     tree(t, "dir 0755 0:0 d", "file 0644 0:0 d/f=x", "hard d/g=d/f"),
	}
	seen := map[string]string{}
	for name, files := range trees {
		got, err := selectPaths(t.Context(), files, "d", nil)
		if err != nil {
			t.Fatal(err)
		}
		d := digestSelections(got).String()
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q have the same digest", name, other)
		}
		seen[d] = name
	}
}
