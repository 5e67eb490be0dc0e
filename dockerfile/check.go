package dockerfile

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Checked is what Check found.
type Checked struct {
	Warnings []Warning // each once, by position
	// Err is why the Dockerfile cannot be built as far as can be told without building, or says that
	// warnings count as errors (error=true). nil when there is no such reason.
	Err     *Error
	Missing []MissingImage
}

// MissingImage is an image that could not be looked up. The rules UndefinedVar, JSONArgsRecommended and
// InvalidBaseImagePlatform say nothing about what stands on it, and nor do its ONBUILD triggers.
type MissingImage struct {
	Location
	Name string // as written, expanded
	Err  error
}

// Check applies the build checks to a Dockerfile and makes no plan. Of o it uses what NewPlan uses,
// without asking for entitlements. No target means all stages. name is for messages.
//
// A nil error means that Checked says all there is to say, also about a Dockerfile that is broken. Images
// are asked for only while a rule is on that wants to know about them; one that is not to be had is
// reported in Missing and ends nothing.
func Check(ctx context.Context, name string, src []byte, o Options) (*Checked, error) {
	f, broken := parse(name, src)
	if broken != nil && f.syntax == nil {
		return checked(nil, broken)
	}
	p, err := newSurvey(f, o)
	if err != nil {
		return nil, err
	}
	p.survey.withoutImages = !p.checks.needImages()
	if broken != nil {
		_, _, err = f.instructions(p.lint) // for what precedes the mistake
		p.sortWarnings()
		return checked(p, errors.Join(err, broken))
	}
	for _, platform := range p.opts.Platforms {
		if err = p.checkStages(ctx, platform); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.sortWarnings()
	if err == nil {
		err = p.checksFailed()
	}
	return checked(p, err)
}

func checked(p *planner, err error) (*Checked, error) {
	c := &Checked{}
	if p != nil {
		c.Warnings, c.Missing = p.warnings, p.survey.missing
	}
	if err != nil && !errors.As(err, &c.Err) {
		return nil, err
	}
	return c, nil
}

// checkStages goes through the stages that are asked for.
func (p *planner) checkStages(ctx context.Context, platform ocispec.Platform) error {
	t, err := p.newTarget(platform)
	if err != nil {
		return err
	}
	stages := t.stages
	if p.opts.Target != "" {
		goal, err := t.goal()
		if err != nil {
			return err
		}
		stages = []*stage{goal}
	}
	for _, s := range stages {
		if _, err := t.build(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// errNotAsked is the answer to a question that was not asked.
var errNotAsked = errors.New("no rule wants to know about images")

// survey is how a planner works that makes no plan: what it cannot find out about a base image
// stays open, and so does what depends on it.
type survey struct {
	withoutImages bool // ask for none
	missing       []MissingImage
}

// newSurvey is a planner for looking only: nothing runs, so nothing needs an entitlement.
func newSurvey(f *File, o Options) (*planner, error) {
	o.AllowInsecure, o.AllowHostNetwork = true, true
	p, err := newPlanner(f, o)
	if err != nil {
		return nil, err
	}
	p.survey = &survey{}
	return p, nil
}

// leaveOpen decides whether to go on without an image, and takes note of it.
func (p *planner) leaveOpen(ctx context.Context, b base, err error) bool {
	if p.survey == nil || ctx.Err() != nil {
		return false
	}
	m := MissingImage{Location: p.file.location(b.loc), Name: b.name, Err: err}
	known := slices.ContainsFunc(p.survey.missing, func(x MissingImage) bool { return x.Name == m.Name })
	if !known && !errors.Is(err, errNotAsked) {
		p.survey.missing = append(p.survey.missing, m)
	}
	return true
}

// openBase stands for an image that nothing is known of. It has some working directory, for relative paths
// to be right or wrong on their own account.
func (t *target) openBase(p ocispec.Platform) *state {
	st := t.scratch(p)
	st.image.config.WorkingDir = "/unknown"
	st.open = true
	return st
}

// inDoubt reports whether a word has variables that the unknown base may set.
func (w *walk) inDoubt(word string) bool {
	if !w.open {
		return false
	}
	res, err := w.expand.word(w.expand.lex, word, w.env)
	return err != nil || len(res.Unmatched) > 0
}

// leaveOut passes over an instruction whose meaning depends on the unknown base, except for its form.
func (w *walk) leaveOut(c instructions.Command) {
	switch c := c.(type) {
	case *instructions.WorkdirCommand:
		w.workdirSet = true
	case *instructions.EnvCommand:
		w.lintEnv(c)
	case *instructions.LabelCommand:
		for _, kv := range c.Labels {
			w.lintKeyValue(c, kv)
		}
	}
}

func (p *planner) sortWarnings() {
	sort.SliceStable(p.warnings, func(i, j int) bool { return p.warnings[i].Start < p.warnings[j].Start })
}

// checksFailed is the error of a build whose warnings count as errors, nil when there is none.
func (p *planner) checksFailed() error {
	if !p.checks.file.ReturnAsError || len(p.warnings) == 0 {
		return nil
	}
	p.sortWarnings()
	rules := make([]string, 0, len(p.warnings))
	for _, w := range p.warnings {
		rules = append(rules, w.Rule)
	}
	slices.Sort(rules)
	first := p.warnings[0]
	e := &Error{
		Location: first.Location,
		Message:  "lint violation found for rules: " + strings.Join(slices.Compact(rules), ", "),
	}
	if p.survey == nil { // nobody has seen the warnings
		e.Hint = first.Rule + ": " + first.Message
		if len(p.warnings) > 1 {
			e.Hint += "; --check shows them all"
		}
	}
	return e
}

// rules are the build checks there are.
func rules() []linter.LinterRuleI {
	return []linter.LinterRuleI{
		&linter.RuleStageNameCasing, &linter.RuleFromAsCasing, &linter.RuleNoEmptyContinuation,
		&linter.RuleConsistentInstructionCasing, &linter.RuleDuplicateStageName, &linter.RuleReservedStageName,
		&linter.RuleJSONArgsRecommended, &linter.RuleMaintainerDeprecated, &linter.RuleUndefinedArgInFrom,
		&linter.RuleWorkdirRelativePath, &linter.RuleUndefinedVar, &linter.RuleMultipleInstructionsDisallowed,
		&linter.RuleLegacyKeyValueFormat, &linter.RuleInvalidBaseImagePlatform, &linter.RuleRedundantTargetPlatform,
		&linter.RuleSecretsUsedInArgOrEnv, &linter.RuleInvalidDefaultArgInFrom, &linter.RuleFromPlatformFlagConstDisallowed,
		&linter.RuleCopyIgnoredFile, &linter.RuleInvalidDefinitionDescription, &linter.RuleExposeProtoCasing,
		&linter.RuleExposeInvalidFormat,
	}
}
