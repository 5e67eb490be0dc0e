package dockerfile

import (
	"fmt"
	"strings"
	"testing"
)

// TestWarnings wants exactly the given findings, as "line Rule".
func TestWarnings(t *testing.T) {
	ignore, err := ParseIgnore(".dockerignore", []byte("*.tmp\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, src, want string
		with            []func(*Options)
	}{
		{name: "nothing to complain about", src: "FROM busybox AS b\nARG X\nENV A=$X\nRUN echo $UNDEFINED\nCMD [\"a\"]\n"},
		{name: "a variable that nothing sets", src: "FROM scratch\nENV FOO=1\nENV A=$FO\nCOPY <<E /a\n$NONE\nE\n", want: "3 UndefinedVar, 4 UndefinedVar"},
		{name: "an argument of FROM that nothing sets", src: "ARG TAG=latest\nFROM busybox:${TGA:-latest}\n", want: "2 UndefinedArgInFrom"},
		{name: "a default that makes no base", src: "ARG TAG\nFROM busybox:$TAG\n", with: with(arg("TAG", "latest")), want: "2 InvalidDefaultArgInFrom"},
		{name: "casing", src: "FROM busybox as b\nrun x\nFROM busybox AS C\nCOPY --from=b /a /a\n", want: "1 FromAsCasing, 2 ConsistentInstructionCasing, 3 StageNameCasing"},
		{name: "names of stages", src: "FROM scratch AS a\nFROM scratch AS a\nFROM scratch AS context\n", want: "2 DuplicateStageName, 3 ReservedStageName"},
		{name: "forms of instructions", src: "FROM scratch\nENV a b\nMAINTAINER x\nCMD a\nCMD [\"b\"]\nWORKDIR x\nWORKDIR y\n", want: "2 LegacyKeyValueFormat, 3 MaintainerDeprecated, 4 JSONArgsRecommended, 4 MultipleInstructionsDisallowed, 6 WorkdirRelativePath"},
		{name: "ports", src: "FROM scratch\nEXPOSE 80/TCP 1:2\n", want: "2 ExposeInvalidFormat, 2 ExposeProtoCasing"},
		{name: "secrets by name", src: "FROM scratch\nARG GITHUB_TOKEN PUBLIC_KEY monkey\nENV api_key=1\n", want: "2 SecretsUsedInArgOrEnv, 3 SecretsUsedInArgOrEnv"},
		{name: "platforms in FROM", src: "FROM --platform=$TARGETPLATFORM busybox AS a\nFROM --platform=linux/amd64 busybox AS b\nFROM --platform=linux/amd64 busybox AS for-amd64\n", want: "1 RedundantTargetPlatform, 2 FromPlatformFlagConstDisallowed"},
		{name: "empty continuation line", src: "FROM scratch\nENV a=b \\\n\n  c=d\n", want: "4 NoEmptyContinuation"},
		{name: "a source that is ignored", src: "# check=experimental=all\nFROM scratch\nCOPY a.tmp b /\n", with: with(func(o *Options) { o.Ignore = ignore }), want: "3 CopyIgnoredFile"},
		{name: "a finding for several platforms is one", src: "FROM scratch\nMAINTAINER x\n", with: with(both), want: "2 MaintainerDeprecated"},
		{name: "skipped rules", src: "# check=skip=MaintainerDeprecated\nFROM scratch\nMAINTAINER x\nWORKDIR y\n", want: "4 WorkdirRelativePath"},
		{name: "all skipped", src: "# check=skip=all;error=true\nFROM scratch\nMAINTAINER x\n"},
		{name: "skipped by build argument", src: "FROM scratch\nMAINTAINER x\n", with: with(arg("BUILDKIT_DOCKERFILE_CHECK", "skip=all"))},
		{name: "a build argument that nothing declares is no matter of rules", src: "# check=skip=all\nFROM scratch\n", with: with(arg("STRANGER", "1")), want: "0 UnusedBuildArg"},
		{name: "build arguments that nothing declares", src: "ARG G\nFROM scratch AS a\nARG A\nONBUILD ARG O\nFROM scratch\n",
			with: with(arg("G", "1", "A", "1", "O", "1", "http_proxy", "p", "TARGETARCH", "x", "BUILDKIT_X", "1", "SOURCE_DATE_EPOCH", "0", "STRANGER", "1")), want: "0 UnusedBuildArg"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := planOf(t, tc.src, options(tc.with...))
			var got []string
			for _, w := range p.Warnings {
				got = append(got, fmt.Sprintf("%d %s", w.Start, w.Rule))
				if w.Message == "" || w.File != "Dockerfile" {
					t.Errorf("incomplete warning %+v", w)
				}
			}
			for i := 1; i < len(got); i++ { // rules of one line in alphabetical order
				for j := i; j > 0 && p.Warnings[j].Start == p.Warnings[j-1].Start && got[j] < got[j-1]; j-- {
					got[j], got[j-1] = got[j-1], got[j]
				}
			}
			if text := strings.Join(got, ", "); text != tc.want {
				t.Errorf("warnings %s\nwant     %s", text, tc.want)
			}
		})
	}
}
