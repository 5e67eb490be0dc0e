package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "mbuild"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Doc          string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %s", exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// arrows says which of the module's top-level folders a folder's code may import,
// besides itself, and why no other.
var arrows = map[string]struct {
	may    []string
	reason string
}{
	"dockerfile":  {nil, "the language knows nothing of how steps run: a plan can be made and tested with no filesystem and no network"},
	"snapshot":    {nil, "layers are files; nothing in them depends on who asked for them or for which platform"},
	"emulation":   {nil, "how a platform's programs run is a question about this machine, not about the build"},
	"index":       {nil, "images are published as they are; how their layers were made is no business of a registry client"},
	"executor":    {[]string{"dockerfile", "snapshot"}, "it runs plans and makes layers; registries and emulators reach it through its own small interfaces"},
	"cmd":         {[]string{"dockerfile", "snapshot", "emulation", "index", "executor"}, "the only place that knows everybody and wires them"},
	"integration": {nil, "it tests the built binary from outside and must not share its mistakes"},
}

func folder(importPath string) (string, bool) {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return "", false
	}
	first, _, _ := strings.Cut(rest, "/")
	return first, true
}

func TestImportArrows(t *testing.T) {
	for _, p := range packages(t) {
		from, ok := folder(p.ImportPath)
		if !ok {
			t.Errorf("%s: the module's root holds no package", p.ImportPath)
			continue
		}
		rule, known := arrows[from]
		if !known {
			t.Errorf("%s: no rule for the folder %s: state in arrows what it may import and why", p.ImportPath, from)
			continue
		}
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		slices.Sort(imports)
		for _, im := range slices.Compact(imports) {
			to, ours := folder(im)
			if ours && to != from && !slices.Contains(rule.may, to) {
				t.Errorf("%s imports %s, but %s may import only %q: %s", p.ImportPath, im, from, rule.may, rule.reason)
			}
		}
	}
}

// Sub-packages of a folder serve the folder: they know nothing of what is above.
func TestSubpackagesDoNotImportTheirFolder(t *testing.T) {
	for _, p := range packages(t) {
		top, ok := folder(p.ImportPath)
		if !ok || p.ImportPath == path.Join(module, top) || top == "cmd" {
			continue
		}
		if slices.Contains(p.Imports, path.Join(module, top)) {
			t.Errorf("%s imports its folder %s: arrows inside a folder point down", p.ImportPath, top)
		}
	}
}
