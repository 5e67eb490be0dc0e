package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rulePages shows every rule with a Dockerfile that breaks it, once and nothing else, and the one that puts it right.
var rulePages = []struct {
	rule, bad, good string
	line            int
	message         string
	options         []func(*Options)
}{
	{rule: "StageNameCasing", line: 1, message: "Stage name 'Base' should be lowercase",
		bad: "FROM scratch AS Base\n", good: "FROM scratch AS base\n"},
	{rule: "FromAsCasing", line: 1, message: "'as' and 'FROM' keywords' casing do not match",
		bad: "FROM scratch as base\n", good: "FROM scratch AS base\nFROM base\n"},
	{rule: "NoEmptyContinuation", line: 4, message: "Empty continuation line",
		bad: "FROM busybox\nRUN a && \\\n\n  b\n", good: "FROM busybox\nRUN a && \\\n# a comment\n  b\n"},
	{rule: "ConsistentInstructionCasing", line: 3, message: "Command 'run' should match the case of the command majority (uppercase)",
		bad: "FROM busybox\nRUN a\nrun b\n", good: "from busybox\nrun a\nrun b\n"},
	{rule: "DuplicateStageName", line: 2, message: `Duplicate stage name "a", stage names should be unique`,
		bad: "FROM scratch AS a\nFROM scratch AS a\n", good: "FROM scratch AS a\nFROM scratch AS b\n"},
	{rule: "ReservedStageName", line: 1, message: `Stage name should not use the same name as reserved stage "scratch"`,
		bad: "FROM busybox AS scratch\n", good: "FROM scratch\n"},
	{rule: "JSONArgsRecommended", line: 2, message: "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
		bad: "FROM busybox\nCMD serve\n", good: "FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nCMD serve\n"},
	{rule: "MaintainerDeprecated", line: 2, message: "Maintainer instruction is deprecated in favor of using label",
		bad: "FROM scratch\nMAINTAINER me\n", good: "FROM scratch\nLABEL org.opencontainers.image.authors=me\n"},
	{rule: "UndefinedArgInFrom", line: 2, message: "FROM argument 'VERSON' is not declared (did you mean VERSION?)",
		bad: "ARG VERSION\nFROM busybox${VERSON}\n", good: "ARG VERSION\nFROM busybox${VERSION}\n"},
	{rule: "WorkdirRelativePath", line: 2, message: `Relative workdir "app" can have unexpected results if the base image changes`,
		bad: "FROM busybox\nWORKDIR app\nWORKDIR src\n", good: "FROM busybox AS a\nWORKDIR /app\nFROM a\nWORKDIR src\n"},
	{rule: "UndefinedVar", line: 3, message: "Usage of undefined variable '$DIRS' (did you mean $DIR?)",
		bad: "FROM busybox\nENV DIR=/d\nCOPY $DIRS /d\n", good: "FROM busybox\nARG DIR\nCOPY $DIR$PATH /d\nRUN echo $OTHER\n"},
	{rule: "MultipleInstructionsDisallowed", line: 2, message: "Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
		bad: "FROM scratch\nHEALTHCHECK CMD [\"a\"]\nHEALTHCHECK NONE\n", good: "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n"},
	{rule: "LegacyKeyValueFormat", line: 2, message: `"ENV key=value" should be used instead of legacy "ENV key value" format`,
		bad: "FROM scratch\nENV a b\n", good: "FROM scratch\nENV a=b\nLABEL c=d\n"},
	{rule: "InvalidBaseImagePlatform", line: 1, message: `Base image intel was pulled with platform "linux/amd64", expected "linux/arm64" for current build`,
		bad: "FROM intel\n", good: "FROM busybox\n", options: with(on("linux/arm64"))},
	{rule: "RedundantTargetPlatform", line: 1, message: "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
		bad: "FROM --platform=${TARGETPLATFORM} busybox\n", good: "FROM --platform=$BUILDPLATFORM busybox\n"},
	{rule: "SecretsUsedInArgOrEnv", line: 2, message: `Do not use ARG or ENV instructions for sensitive data (ARG "DB_PASSWORD")`,
		bad: "FROM scratch\nARG DB_PASSWORD\n", good: "FROM scratch\nARG PUBLIC_KEY monkey\nENV KEYBOARD=de\n"},
	{rule: "InvalidDefaultArgInFrom", line: 2, message: "Default value for ARG busybox:$TAG results in empty or invalid base image name",
		bad: "ARG TAG\nFROM busybox:$TAG\n", good: "ARG TAG=latest\nFROM busybox:$TAG\n", options: with(arg("TAG", "latest"))},
	{rule: "FromPlatformFlagConstDisallowed", line: 1, message: `FROM --platform flag should not use constant value "linux/amd64"`,
		bad: "FROM --platform=linux/amd64 busybox\n", good: "FROM --platform=linux/amd64 busybox AS amd64-only\n"},
	{rule: "CopyIgnoredFile", line: 3, message: `Attempting to Add file "a.tmp" that is excluded by .dockerignore`,
		bad: "# check=experimental=CopyIgnoredFile\nFROM scratch\nADD a.tmp /\n", good: "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY a.txt /\n",
		options: with(ignoring("*.tmp\n"))},
	{rule: "InvalidDefinitionDescription", line: 3, message: "Comment for FROM should follow the format: `# app <description>`",
		bad: "# check=experimental=all\n# the application\nFROM scratch AS app\n", good: "# check=experimental=all\n# app is the application\nFROM scratch AS app\n# no words of A\n#\nARG A\n"},
	{rule: "ExposeProtoCasing", line: 2, message: "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
		bad: "FROM scratch\nEXPOSE 80/TCP\n", good: "FROM scratch\nEXPOSE 80/tcp 90\n"},
	{rule: "ExposeInvalidFormat", line: 2, message: "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
		bad: "FROM scratch\nEXPOSE 127.0.0.1:80:80\n", good: "FROM scratch\nEXPOSE :80\n"},
}

func ignoring(rules string) func(*Options) {
	return func(o *Options) { o.Ignore, _ = ParseIgnore(".dockerignore", []byte(rules)) }
}

// TestEveryRule also wants a row for every rule.
func TestEveryRule(t *testing.T) {
	missing := map[string]bool{}
	for _, r := range rules() {
		missing[r.RuleName()] = true
	}
	for _, page := range rulePages {
		delete(missing, page.rule)
		t.Run(page.rule, func(t *testing.T) {
			for i := range 2 { // one platform, then two: a finding stays one finding
				o := options(page.options...)
				if i == 1 && len(page.options) == 0 {
					both(&o)
				}
				o.Images = withIntel()
				got := checkOf(t, page.bad, o)
				if got.Err != nil || len(got.Warnings) != 1 {
					t.Fatalf("bad: error %v, warnings %v", got.Err, got.Warnings)
				}
				w := got.Warnings[0]
				if w.Rule != page.rule || w.Start != page.line || w.Message != page.message || w.Description == "" {
					t.Errorf("bad: got %d %s %q (%q)\nwant %d %s %q", w.Start, w.Rule, w.Message, w.Description, page.line, page.rule, page.message)
				}
				if (w.URL == "") != (page.rule == "InvalidBaseImagePlatform") {
					t.Errorf("the page is %q", w.URL)
				}
				if page.rule == "InvalidBaseImagePlatform" { // more than a warning when something is built
					refusesForeignBase(t, page.bad, o)
				} else if plan := planOf(t, page.bad, o); len(plan.Warnings) != 1 || plan.Warnings[0].Rule != page.rule {
					t.Errorf("a build warns %v", plan.Warnings)
				}
				if got := checkOf(t, page.good, o); got.Err != nil || len(got.Warnings) > 0 {
					t.Errorf("good: error %v, warnings %v", got.Err, got.Warnings)
				}
			}
		})
	}
	for name := range missing {
		t.Errorf("rule %s has no test", name)
	}
}

// refusesForeignBase plans a build on a base that exists for another platform only.
func refusesForeignBase(t *testing.T, src string, o Options) {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewPlan(t.Context(), f, o)
	var refused *Error
	if !errors.As(err, &refused) || refused.Start != 1 || refused.Hint != "FROM --platform=linux/amd64 takes it as it is" ||
		!strings.Contains(refused.Message, "is for linux/amd64, and there is none for linux/arm64") {
		t.Errorf("a build on a base for another platform: got %v, want a refusal with a hint", err)
	}
}

// withIntel knows an image that exists for amd64 only and is what everybody gets.
func withIntel() *images {
	k := known()
	k.configs["intel"] = strings.Replace(busybox, `{%s,`, `{"os":"linux","architecture":"amd64",`, 1) + "%.0s"
	return k
}

func checkOf(t *testing.T, src string, o Options) *Checked {
	t.Helper()
	c, err := Check(t.Context(), "Dockerfile", []byte(src), o)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	for _, w := range c.Warnings {
		if w.File != "Dockerfile" {
			t.Errorf("warning about %q", w.File)
		}
	}
	return c
}

// TestCheck wants exactly the given findings, as "line Rule", the error, and the images that are missing and asked for.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name, src                  string
		with                       []func(*Options)
		want, err, missing, images string
	}{
		{name: "without a target all stages are checked", src: "FROM scratch AS a\nENV a b\nFROM scratch\nENV a b\n", want: "2 LegacyKeyValueFormat, 4 LegacyKeyValueFormat"},
		{name: "with a target what it needs is checked", with: with(goal("a")), src: "FROM scratch AS a\nENV a b\nFROM scratch\nENV a b\n", want: "2 LegacyKeyValueFormat"},
		{name: "a target that is not there", with: with(goal("x")), src: "FROM scratch AS a\n", err: `target stage "x" could not be found`},
		{name: "every line of the file counts when it is sorted", src: "FROM scratch AS A\nCMD a\nMAINTAINER b\n", want: "1 StageNameCasing, 2 JSONArgsRecommended, 3 MaintainerDeprecated"},
		{name: "nothing needs an entitlement", src: "FROM busybox\nRUN --security=insecure --network=host x\n", with: with(func(o *Options) { o.Network = "host" }), images: "busybox"},
		{name: "platforms each ask", src: "FROM busybox\nCMD a\n", with: with(both), want: "2 JSONArgsRecommended", images: "busybox, busybox"},

		{name: "warnings before a mistake", src: "FROM scratch AS Bad\nMAINTAINER me\nBADCMD\nMAINTAINER you\n", want: "1 StageNameCasing, 2 MaintainerDeprecated", err: "Dockerfile:3: unknown instruction: BADCMD"},
		{name: "a file that is no Dockerfile", src: "FROM scratch\nCOPY <<X /a\n", err: "unterminated heredoc"},
		{name: "an empty file", src: "# nothing\n", err: "the Dockerfile is empty"},
		{name: "a directive that is wrong", src: "# check=what\nFROM scratch\nMAINTAINER a\n", err: `invalid check option "what"`},
		{name: "a mistake in a stage", src: "FROM scratch\nMAINTAINER a\nCOPY --from=9 a /\nMAINTAINER b\n", want: "2 MaintainerDeprecated, 4 MaintainerDeprecated", err: "Dockerfile:3: COPY: invalid stage index 9"},

		{name: "warnings are errors", src: "# check=error=true\nFROM scratch\nMAINTAINER a\nCMD x\n", want: "3 MaintainerDeprecated, 4 JSONArgsRecommended", err: "Dockerfile:3: lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated"},
		{name: "no warnings are no errors", src: "# check=error=true;skip=MaintainerDeprecated\nFROM scratch\nMAINTAINER a\n"},
		{name: "the build argument replaces the directive", src: "# check=error=true\nFROM scratch\nMAINTAINER a\n", with: with(arg("BUILDKIT_DOCKERFILE_CHECK", "skip=JSONArgsRecommended")), want: "3 MaintainerDeprecated"},
		{name: "the build argument makes errors", src: "# check=skip=all\nFROM scratch\nMAINTAINER a\n", with: with(arg("BUILDKIT_DOCKERFILE_CHECK", "error=true")), want: "3 MaintainerDeprecated", err: "lint violation"},
		{name: "experimental rules survive skip=all", src: "# check=skip=all;experimental=CopyIgnoredFile\nFROM scratch\nCOPY a.tmp /\nMAINTAINER a\n", with: with(ignoring("*.tmp")), want: "3 CopyIgnoredFile"},
		{name: "experimental rules are off", src: "FROM scratch\nCOPY a.tmp /\n", with: with(ignoring("*.tmp"))},
		{name: "an ignore file with exceptions settles nothing", src: "# check=experimental=all\nFROM scratch\nCOPY a.tmp /\n", with: with(ignoring("*.tmp\n!b.tmp"))},
		{name: "a copy from a stage is not from the context", src: "# check=experimental=all\nFROM scratch AS a\nFROM scratch\nCOPY --from=a a.tmp /\n", with: with(ignoring("*.tmp"))},

		{name: "a comment above an instruction is for that one", src: "FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER a\nMAINTAINER b\n", want: "4 MaintainerDeprecated"},
		{name: "it may stand among others", src: "FROM scratch\n# why\n#check = skip=SecretsUsedInArgOrEnv,LegacyKeyValueFormat because\n# how\nENV \\\n  password x\n"},
		{name: "it may skip all", src: "FROM scratch\n# check=skip=all\nENV password x\n"},
		{name: "it may turn on", src: "FROM scratch\n# check=experimental=CopyIgnoredFile\nCOPY a.tmp /\nCOPY a.tmp /\n", with: with(ignoring("*.tmp")), want: "3 CopyIgnoredFile"},
		{name: "an empty comment parts it from the instruction", src: "FROM scratch\n# check=skip=all\n#\nENV a b\n", want: "4 LegacyKeyValueFormat"},
		{name: "what it skips is no error", src: "# check=error=true\nFROM scratch\n# check=skip=all\nENV a b\n"},
		{name: "it describes nothing", src: "# check=experimental=all\n# a is a stage\n# check=skip=FromAsCasing\nFROM scratch as a\n"},
		{name: "one that is wrong is a comment like others", src: "FROM scratch\n# check=skipp=all\nENV a b\n", want: "3 LegacyKeyValueFormat"},

		{name: "an image that is missing leaves open what it decides", missing: "nowhere", images: "nowhere",
			src:  "FROM nowhere\nCMD a\nENV A=$B\nWORKDIR $C\nWORKDIR d\nEXPOSE $P/tcp 1:2\nRUN --mount=target=. x\nSTOPSIGNAL $S\nENV $N=x\nARG D=${E:?}\nMAINTAINER x\n",
			want: "6 ExposeInvalidFormat, 11 MaintainerDeprecated"},
		{name: "its working directory is some directory", src: "FROM nowhere\nRUN --mount=target=. x\n", missing: "nowhere", images: "nowhere"},
		{name: "it does not leave open what the file decides", src: "FROM nowhere AS a\nWORKDIR d\nENV A=1\nENV B=$A\nFROM a\nCMD [\"$A\"]\nCMD [\"b\"]\n", missing: "nowhere", images: "nowhere", want: "2 WorkdirRelativePath, 6 MultipleInstructionsDisallowed"},
		{name: "a missing image is asked for once", src: "FROM nowhere\nFROM nowhere\nCOPY --from=nowhere a /\n", missing: "nowhere", images: "nowhere"},
		{name: "a missing image to copy from", src: "FROM busybox\nCOPY --from=nowhere a /\nRUN --mount=from=nowhere,target=/x a\nCMD a\n", missing: "nowhere", images: "busybox, nowhere", want: "4 JSONArgsRecommended"},
		{name: "no image is asked for when no rule wants to know", src: "# check=skip=UndefinedVar,JSONArgsRecommended,InvalidBaseImagePlatform\nFROM busybox\nCMD a\nENV a $b\n", want: "4 LegacyKeyValueFormat"},
		{name: "no image is asked for when all is skipped", src: "# check=skip=all;experimental=all\nFROM nowhere\nCOPY a.tmp /\n", with: with(ignoring("*.tmp")), want: "3 CopyIgnoredFile"},
		{name: "what the base sets is defined", src: "FROM busybox\nENV A=$PATH\n", images: "busybox"},
		{name: "triggers of the base are checked at FROM", src: "FROM triggers\nWORKDIR z\n", images: "triggers, busybox"},
		{name: "a name that is no image", src: "FROM Not/An/Image\n", want: "1 InvalidDefaultArgInFrom", err: "invalid image reference"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(tc.with...)
			k := known()
			o.Images = k
			c := checkOf(t, tc.src, o)
			if got := findings(c.Warnings); got != tc.want {
				t.Errorf("warnings %s\nwant     %s", got, tc.want)
			}
			switch {
			case tc.err == "" && c.Err != nil:
				t.Errorf("error %v", c.Err)
			case tc.err != "" && (c.Err == nil || !strings.Contains(c.Err.Error(), tc.err)):
				t.Errorf("error %v, want %s", c.Err, tc.err)
			}
			var missing, asked []string
			for _, m := range c.Missing {
				if missing = append(missing, m.Name); m.Start == 0 || !errors.Is(m.Err, errNoImage) {
					t.Errorf("incomplete report of a missing image: %+v", m)
				}
			}
			for _, a := range k.asked {
				name, _, _ := strings.Cut(a, " ")
				asked = append(asked, name)
			}
			if got := strings.Join(missing, ", "); got != tc.missing {
				t.Errorf("missing %s, want %s", got, tc.missing)
			}
			if got := strings.Join(asked, ", "); got != tc.images {
				t.Errorf("asked for %s, want %s", got, tc.images)
			}
		})
	}
}

// findings are warnings as "line Rule". They have to be sorted by line.
func findings(warnings []Warning) string {
	var out []string
	for _, w := range warnings {
		out = append(out, fmt.Sprintf("%d %s", w.Start, w.Rule))
	}
	sorted := slices.Clone(out)
	slices.SortStableFunc(sorted, func(a, b string) int {
		var m, n int
		fmt.Sscan(a, &m)
		fmt.Sscan(b, &n)
		return m - n
	})
	if !slices.Equal(out, sorted) {
		return "not by line: " + strings.Join(out, ", ")
	}
	return strings.Join(out, ", ")
}

func TestCheckRefusesOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no platform":          {},
		"a check that is none": options(arg("BUILDKIT_DOCKERFILE_CHECK", "what")),
	} {
		if c, err := Check(t.Context(), "Dockerfile", []byte("FROM scratch\n"), o); err == nil {
			t.Errorf("%s: got %+v and no error", name, c)
		}
	}
}

func TestCheckEndsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := options()
	o.Images = cancelling{cancel}
	if _, err := Check(ctx, "Dockerfile", []byte("FROM busybox\nFROM other\n"), o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

type cancelling struct{ cancel func() }

func (c cancelling) Image(ctx context.Context, _ string, _ ocispec.Platform) (BaseImage, error) {
	c.cancel()
	return BaseImage{}, ctx.Err()
}

func TestWarningsThatAreErrorsEndABuild(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("# check=error=true\nFROM scratch\nCMD x\nMAINTAINER a\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewPlan(t.Context(), f, options())
	var e *Error
	if !errors.As(err, &e) || e.Start != 3 || !strings.HasPrefix(e.Hint, "JSONArgsRecommended: ") || !strings.HasSuffix(e.Hint, "--check shows them all") {
		t.Errorf("got %#v", err)
	}
}

// FuzzCheck looks at any text whose images are all missing.
func FuzzCheck(f *testing.F) {
	for _, page := range rulePages {
		f.Add(page.bad)
		f.Add(strings.ReplaceAll(page.bad, "scratch", "nowhere"))
	}
	f.Add("FROM nowhere\n# check=skip=all\nARG A=${B:?}\nEXPOSE $A/$B\nRUN --mount=type=cache,target=$A x\n")
	f.Fuzz(func(t *testing.T, src string) {
		c, err := Check(t.Context(), "Dockerfile", []byte(src), Options{Platforms: targets("linux/amd64"), Images: known()})
		if err != nil {
			t.Fatalf("Check: %v", err)
		}
		lines := len(splitLines([]byte(src)))
		for i, w := range c.Warnings {
			if w.Start > lines || i > 0 && w.Start < c.Warnings[i-1].Start {
				t.Fatalf("warning %d of %d is on line %d of %d", i, len(c.Warnings), w.Start, lines)
			}
		}
	})
}
