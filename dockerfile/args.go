package dockerfile

import (
	"errors"
	"sort"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// proxyArgs need no ARG. They reach RUN but neither the definition of a step nor the history.
var proxyArgs = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

// predefinedArg reports whether a build argument means something without an ARG.
func predefinedArg(key string) bool {
	for _, p := range proxyArgs {
		if strings.EqualFold(p, key) {
			return true
		}
	}
	switch key {
	case "TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
		"BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT", "SOURCE_DATE_EPOCH":
		return true
	}
	return strings.HasPrefix(key, "BUILDKIT_")
}

// internalArg reports whether an ARG steers the build only and never becomes a variable.
func internalArg(key string) bool {
	return key == "BUILDKIT_SBOM_SCAN_CONTEXT" || key == "BUILDKIT_SBOM_SCAN_STAGE"
}

// platformArgs are the arguments that tell about platforms and the target stage.
func (t *target) platformArgs(stages []instructions.Stage) *env {
	b, p := t.opts.BuildPlatform, t.platform
	stage := t.opts.Target
	if stage == "" {
		stage = stages[len(stages)-1].Name
	}
	if stage == "" {
		stage = "default"
	}
	vars := newEnv()
	for _, kv := range [][2]string{
		{"BUILDPLATFORM", platforms.Format(b)},
		{"BUILDOS", b.OS},
		{"BUILDOSVERSION", b.OSVersion},
		{"BUILDARCH", b.Architecture},
		{"BUILDVARIANT", b.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(p)},
		{"TARGETOS", p.OS},
		{"TARGETOSVERSION", p.OSVersion},
		{"TARGETARCH", p.Architecture},
		{"TARGETVARIANT", p.Variant},
		{"TARGETSTAGE", stage},
	} {
		v := kv[1]
		if over, ok := t.opts.BuildArgs[kv[0]]; ok {
			v = over
		}
		vars.set(kv[0], v)
	}
	return vars
}

// setGlobals works out the ARGs in front of the first FROM.
func (t *target) setGlobals(stages []instructions.Stage, globals []instructions.ArgCommand) error {
	t.lintDefaultArgs(stages, globals)
	t.defined = map[string]globalArg{}
	var err error
	t.globals, err = t.globalArgs(t.platformArgs(stages), globals, t.opts.BuildArgs)
	return err
}

// globalArgs adds the values of ARGs to vars: what was given, else the default, expanded.
func (t *target) globalArgs(vars *env, globals []instructions.ArgCommand, given map[string]string) (*env, error) {
	for i := range globals {
		for _, kv := range globals[i].Args {
			t.global[kv.Key] = true
			at := globals[i].Location()
			if v, ok := given[kv.Key]; ok {
				vars.set(kv.Key, v)
				t.define(kv, v, nil, at)
				continue
			}
			if kv.Value == nil {
				t.define(kv, "", nil, at)
				continue
			}
			res, err := t.expand.word(t.expand.lex, *kv.Value, vars)
			if err != nil {
				return nil, t.file.fail(at, err)
			}
			vars.set(kv.Key, res.Result)
			t.define(kv, res.Result, res.Matched, at)
		}
	}
	return vars, nil
}

// noteArgs remembers which build arguments the file declares, in whatever stage.
func (p *planner) noteArgs(stages []instructions.Stage, globals []instructions.ArgCommand) {
	for i := range globals {
		p.noteArg(&globals[i])
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.ArgCommand:
				p.noteArg(c)
			case *instructions.OnbuildCommand:
				if x, err := parseTrigger(c.Expression, nil); err == nil {
					if a, ok := x.(*instructions.ArgCommand); ok {
						p.noteArg(a)
					}
				}
			}
		}
	}
}

func (p *planner) noteArg(c *instructions.ArgCommand) {
	for _, kv := range c.Args {
		p.declared[kv.Key] = true
	}
}

// proxy is the proxy settings among the build arguments as variables, in both spellings, without
// those that vars has.
func (t *target) proxy(vars *env) []string {
	var out []string
	for _, name := range proxyArgs {
		v, ok := "", false
		for _, k := range sortedKeys(t.opts.BuildArgs) {
			if strings.EqualFold(k, name) {
				v, ok = t.opts.BuildArgs[k], true
			}
		}
		if !ok || v == "" {
			continue
		}
		for _, k := range []string{name, strings.ToLower(name)} {
			if _, set := vars.Get(k); !set {
				out = append(out, k+"="+v)
			}
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// parseTrigger reads an ONBUILD trigger, a Dockerfile of one instruction. Its place is that of the FROM that
// runs it.
func parseTrigger(text string, at []parser.Range) (instructions.Command, error) {
	tree, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(tree.AST.Children) != 1 {
		return nil, errTrigger
	}
	node := tree.AST.Children[0]
	if strings.EqualFold(node.Value, command.From) {
		return nil, errors.New("FROM isn't allowed as an ONBUILD trigger")
	}
	node.StartLine, node.EndLine = 0, 0
	if len(at) > 0 {
		node.StartLine, node.EndLine = at[0].Start.Line, at[len(at)-1].End.Line
	}
	return instructions.ParseCommand(node)
}
