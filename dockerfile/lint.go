package dockerfile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lintFile runs the checks that look at the file as it is written. The parser and the instructions have theirs.
func (p *planner) lintFile(stages []instructions.Stage) {
	for _, w := range p.file.warnings {
		if w.URL == linter.RuleNoEmptyContinuation.URL && w.Location != nil {
			p.lint.Run(&linter.RuleNoEmptyContinuation, []parser.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
	seen := map[string]bool{}
	for _, s := range stages {
		if s.Name == "context" || s.Name == "scratch" {
			p.lint.Run(&linter.RuleReservedStageName, s.Location, linter.RuleReservedStageName.Format(s.Name))
		}
		if s.Name != "" && seen[s.Name] {
			p.lint.Run(&linter.RuleDuplicateStageName, s.Location, linter.RuleDuplicateStageName.Format(s.Name))
		}
		seen[s.Name] = true
	}
	p.lintCasing(stages)
}

// lintCasing wants all instructions in the case that most of them have.
func (p *planner) lintCasing(stages []instructions.Stage) {
	type use struct {
		name string
		at   []parser.Range
	}
	var uses []use
	for _, s := range stages {
		uses = append(uses, use{s.OrigCmd, s.Location})
		for _, c := range s.Commands {
			uses = append(uses, use{c.Name(), c.Location()})
		}
	}
	lower, upper := 0, 0
	for _, u := range uses {
		switch u.name {
		case strings.ToLower(u.name):
			lower++
		case strings.ToUpper(u.name):
			upper++
		}
	}
	want, convert := "uppercase", strings.ToUpper
	if lower > upper {
		want, convert = "lowercase", strings.ToLower
	}
	for _, u := range uses {
		if u.name != convert(u.name) {
			p.lint.Run(&linter.RuleConsistentInstructionCasing, u.at, linter.RuleConsistentInstructionCasing.Format(u.name, want))
		}
	}
}

// lintDefaultArgs looks whether base names are valid when no build argument is given.
func (t *target) lintDefaultArgs(stages []instructions.Stage, globals []instructions.ArgCommand) {
	vars, err := t.globalArgs(t.platformArgs(stages), globals, nil)
	if err != nil {
		return // planning itself meets the same error, or build arguments avoid it
	}
	for _, s := range stages {
		res, err := t.expand.word(t.expand.lex, s.BaseName, vars)
		if err != nil {
			return
		}
		if _, err := reference.ParseNormalizedNamed(res.Result); err != nil {
			t.lint.Run(&linter.RuleInvalidDefaultArgInFrom, s.Location, linter.RuleInvalidDefaultArgInFrom.Format(s.BaseName))
		}
	}
}

func (t *target) lintUndefinedInFrom(unmatched map[string]struct{}, at []parser.Range) {
	for _, k := range sortedKeys(unmatched) {
		if t.global[k] {
			continue
		}
		match, _ := suggest.Search(k, slices.Concat(t.globals.Keys(), sortedKeys(t.global)), true)
		t.lint.Run(&linter.RuleUndefinedArgInFrom, at, linter.RuleUndefinedArgInFrom.Format(k, match))
	}
}

// lintPlatform checks how FROM --platform is written.
func (t *target) lintPlatform(def instructions.Stage, value shell.ProcessWordResult) {
	if _, ok := value.Matched["TARGETPLATFORM"]; ok && len(value.Matched) == 1 && len(value.Unmatched) == 0 {
		if v, _ := t.globals.Get("TARGETPLATFORM"); v == value.Result {
			t.lint.Run(&linter.RuleRedundantTargetPlatform, def.Location, linter.RuleRedundantTargetPlatform.Format(def.Platform))
		}
	}
	if len(value.Matched)+len(value.Unmatched) > 0 {
		return
	}
	p, err := platforms.Parse(value.Result)
	if err != nil || strings.Contains(def.Name, p.OS) || strings.Contains(def.Name, p.Architecture) {
		return
	}
	t.lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, def.Location, linter.RuleFromPlatformFlagConstDisallowed.Format(value.Result))
}

// checkBasePlatform compares what was asked for with what the image says it is. A stage on
// a base for another platform would be an image that says one thing and holds another, so it is
// refused; a check, and an image that files are only copied from, get the warning.
func (t *target) checkBasePlatform(b base, is ocispec.Platform) error {
	if is.OS == b.platform.OS && is.Architecture == b.platform.Architecture {
		return nil
	}
	want, got := platforms.FormatAll(platforms.Normalize(b.platform)), platforms.FormatAll(platforms.Normalize(is))
	if t.survey != nil || b.position == 0 || is.Architecture == "" {
		t.lint.Run(&linter.RuleInvalidBaseImagePlatform, b.loc, linter.RuleInvalidBaseImagePlatform.Format(b.name, want, got))
		return nil
	}
	return t.file.failf(b.loc, fmt.Sprintf("FROM --platform=%s takes it as it is", got),
		"the base image %s is for %s, and there is none for %s", b.name, got, want)
}

// lintUndefined reports variables that nothing sets. An ARG without a value counts as set; what an unknown base
// sets cannot be told.
func (w *walk) lintUndefined(at []parser.Range, unmatched map[string]struct{}) {
	for _, k := range sortedKeys(unmatched) {
		if internalArg(k) || w.hasArg(k) {
			continue
		}
		if w.open {
			w.doubtful = true
			continue
		}
		match, _ := suggest.Search(k, w.env.Keys(), true)
		w.lint.Run(&linter.RuleUndefinedVar, at, linter.RuleUndefinedVar.Format(k, match))
	}
}

func (w *walk) hasArg(key string) bool {
	for _, a := range w.args {
		if a.Key == key {
			return true
		}
	}
	return false
}

func (w *walk) lintEnv(c *instructions.EnvCommand) {
	for _, kv := range c.Env {
		w.lintKeyValue(c, kv)
		w.lintSecretName("ENV", kv.Key, c.Location())
	}
}

func (w *walk) lintKeyValue(c instructions.Command, kv instructions.KeyValuePair) {
	if kv.NoDelim {
		w.lint.Run(&linter.RuleLegacyKeyValueFormat, c.Location(), linter.RuleLegacyKeyValueFormat.Format(c.Name()))
	}
}

func (w *walk) lintShellForm(c instructions.Command) {
	if len(w.image.config.Shell) == 0 && !w.open {
		w.lint.Run(&linter.RuleJSONArgsRecommended, c.Location(), linter.RuleJSONArgsRecommended.Format(c.Name()))
	}
}

// lintUsedOnce reports the earlier of two instructions of which only the last counts.
func (w *walk) lintUsedOnce(c instructions.Command) {
	key := strings.ToUpper(c.Name())
	if at := w.used[key]; len(at) > 0 {
		w.lint.Run(&linter.RuleMultipleInstructionsDisallowed, at, linter.RuleMultipleInstructionsDisallowed.Format(c.Name()))
	}
	w.used[key] = c.Location()
}

var (
	secretName = regexp.MustCompile(`(?i)(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = regexp.MustCompile(`(?i)(?:^|_)public(?:_|$)`)
)

func (w *walk) lintSecretName(instruction, key string, at []parser.Range) {
	if secretName.MatchString(key) && !publicName.MatchString(key) {
		w.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, at, linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

// lintIgnored reports sources that the ignore file keeps out of the context.
func (w *walk) lintIgnored(c instructions.Command, src string) {
	if w.opts.Ignore == nil || w.opts.Ignore.negations {
		return
	}
	if out, _, _ := w.opts.Ignore.Excluded(src, false); out {
		name := strings.ToUpper(c.Name()[:1]) + strings.ToLower(c.Name()[1:])
		w.lint.Run(&linter.RuleCopyIgnoredFile, c.Location(), linter.RuleCopyIgnoredFile.Format(name, src))
	}
}
