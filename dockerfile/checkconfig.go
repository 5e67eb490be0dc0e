package dockerfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// checks says which findings count.
type checks struct {
	file  *linter.Config // for the whole file
	local []localChecks  // for single instructions
}

// localChecks comes from a comment directly above the instruction on these lines.
type localChecks struct {
	start, end int
	config     *linter.Config
}

// takeLocalChecks takes `check=…` out of the comments above instructions, which otherwise describe what is
// below. Of several for one instruction the first counts; one that is not well-formed is a comment like others.
func takeLocalChecks(nodes []*parser.Node) []localChecks {
	var out []localChecks
	for _, node := range nodes {
		taken := false
		node.PrevComment = slices.DeleteFunc(node.PrevComment, func(comment string) bool {
			config := checkComment(comment)
			if config != nil && !taken {
				taken = true
				out = append(out, localChecks{start: node.StartLine, end: node.EndLine, config: config})
			}
			return config != nil
		})
	}
	return out
}

func checkComment(comment string) *linter.Config {
	key, value, ok := strings.Cut(comment, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(key), "check") {
		return nil
	}
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	config, err := linter.ParseLintOptions(value)
	if err != nil {
		return nil
	}
	return config
}

// checks is how strict the build checks are: the build argument BUILDKIT_DOCKERFILE_CHECK replaces the
// directive. Comments above instructions count in both cases.
func (o *Options) checks(f *File) (checks, error) {
	text := f.checks
	if v, ok := o.BuildArgs["BUILDKIT_DOCKERFILE_CHECK"]; ok {
		text = v
	}
	config, err := linter.ParseLintOptions(text)
	if err != nil {
		return checks{}, fmt.Errorf("build argument BUILDKIT_DOCKERFILE_CHECK: %v", err)
	}
	return checks{file: config, local: f.local}, nil
}

// want reports whether a finding on a line counts. As in BuildKit, experimental rules are off until something
// turns them on, and the others are on until something skips them. What is not a rule always counts.
func (c *checks) want(name string, line int) bool {
	rules := rules()
	i := slices.IndexFunc(rules, func(r linter.LinterRuleI) bool { return r.RuleName() == name })
	if i < 0 {
		return true
	}
	configs := []*linter.Config{c.file}
	for _, l := range c.local {
		if l.start <= line && line <= l.end {
			configs = append(configs, l.config)
		}
	}
	experimental := rules[i].IsExperimental()
	return experimental == slices.ContainsFunc(configs, func(config *linter.Config) bool {
		if experimental {
			return config.ExperimentalAll || slices.Contains(config.ExperimentalRules, name)
		}
		return config.SkipAll || slices.Contains(config.SkipRules, name)
	})
}

// needImages reports whether a rule is on that looks at the configuration of images.
func (c *checks) needImages() bool {
	return c.want(linter.RuleInvalidBaseImagePlatform.Name, 0) ||
		c.want(linter.RuleUndefinedVar.Name, 0) || c.want(linter.RuleJSONArgsRecommended.Name, 0)
}

// warn records a finding that counts, once, however many platforms it is found for.
func (p *planner) warn(rule, description, url, msg string, ranges []parser.Range) {
	loc := p.file.location(ranges)
	f := finding{rule, msg, loc.Start}
	if p.warned[f] || !p.checks.want(rule, loc.Start) {
		return
	}
	p.warned[f] = true
	p.warnings = append(p.warnings, Warning{Location: loc, Rule: rule, Description: description, Message: msg, URL: url})
}
