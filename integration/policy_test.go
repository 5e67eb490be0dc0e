package integration

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Words of package names that say nothing.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base"}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if slices.Contains(emptyNames, p.Name) {
			t.Errorf("%s: the name %s says nothing", p.ImportPath, p.Name)
		}
	}
}

// Work in init runs in every re-executed half of mbuild, unseen.
func TestNoInitFunctions(t *testing.T) {
	eachFile(t, func(name string, f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s: func init", name)
			}
		}
	})
}

// A context that nobody can cancel keeps processes alive after Ctrl-C.
func TestNoUnfinishedContexts(t *testing.T) {
	eachFile(t, func(name string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "TODO" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "context" {
					t.Errorf("%s: context.TODO", name)
				}
			}
			return true
		})
	})
}

func eachFile(t *testing.T, check func(name string, f *ast.File)) {
	t.Helper()
	seen := 0
	for _, p := range packages(t) {
		for _, g := range p.GoFiles {
			name := filepath.Join(p.Dir, g)
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			seen++
			check(name, f)
		}
	}
	if seen == 0 {
		t.Fatal("no file was looked at")
	}
}

// mod is what `go mod edit -json` says of go.mod.
type mod struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Replace []struct{ Old struct{ Path string } }
	Exclude []struct{ Path string }
}

func goMod(t *testing.T) mod {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var m mod
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// go install …@version refuses a module with replace or exclude.
func TestModuleCanBeInstalled(t *testing.T) {
	f := goMod(t)
	for _, r := range f.Replace {
		t.Errorf("go.mod: replace %s", r.Old.Path)
	}
	for _, x := range f.Exclude {
		t.Errorf("go.mod: exclude %s", x.Path)
	}
}

// Every direct dependency earns its line in docs/rationale.md, and no line
// outlives its dependency.
func TestDependenciesAreExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/rationale.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		explained[m[1]] = true
	}
	direct := map[string]bool{}
	for _, r := range goMod(t).Require {
		if r.Indirect {
			continue
		}
		direct[r.Path] = true
		if !explained[r.Path] {
			t.Errorf("docs/rationale.md has no line for %s", r.Path)
		}
	}
	if len(direct) == 0 {
		t.Error("go.mod has no direct dependency: run go mod tidy")
	}
	for p := range explained {
		if !direct[p] {
			t.Errorf("docs/rationale.md explains %s, which is no direct dependency", p)
		}
	}
}

// Scripts that nobody runs prove nothing: every script says what it guards.
func TestScriptsSayWhatTheyGuard(t *testing.T) {
	scripts, err := filepath.Glob("scripts/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, s := range scripts {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s does not begin with a comment", s)
		}
	}
}
