package executor

import (
	"strings"
	"testing"
	"testing/quick"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

func layers(names ...string) []snapshot.Layer {
	var l []snapshot.Layer
	for _, n := range names {
		l = append(l, snapshot.Layer{DiffID: digest.FromString(n)})
	}
	return l
}

// Everything that can change a result changes the key.
func TestStepKeysDiffer(t *testing.T) {
	amd64, arm64 := &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	run := func(args ...string) *dockerfile.Run { return &dockerfile.Run{Args: args, Dir: "/"} }
	a, b := digest.FromString("a"), digest.FromString("b")
	keys := map[string]Key{
		"a RUN":                        stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2"), nil),
		"other arguments":              stepKey(&dockerfile.Step{Op: run("x", "z"), Platform: amd64}, layers("1", "2"), nil),
		"arguments cut elsewhere":      stepKey(&dockerfile.Step{Op: run("xy"), Platform: amd64}, layers("1", "2"), nil),
		"other platform":               stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: arm64}, layers("1", "2"), nil),
		"no platform":                  stepKey(&dockerfile.Step{Op: run("x", "y")}, layers("1", "2"), nil),
		"other layers":                 stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "3"), nil),
		"fewer layers":                 stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1"), nil),
		"an input":                     stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2"), []digest.Digest{a}),
		"other input":                  stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2"), []digest.Digest{b}),
		"inputs in another order":      stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2"), []digest.Digest{b, a}),
		"two inputs":                   stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2"), []digest.Digest{a, b}),
		"a layer in place of an input": stepKey(&dockerfile.Step{Op: run("x", "y"), Platform: amd64}, layers("1", "2", "a"), nil),
	}
	seen := map[Key]string{}
	for name, k := range keys {
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the same key", name, other)
		}
		seen[k] = name
	}
}

// What has no effect on the result is not in the key.
func TestStepKeysIgnoreWhatDoesNotMatter(t *testing.T) {
	op := dockerfile.Run{Args: []string{"x"}, Dir: "/", Proxy: []string{"HTTP_PROXY=a"}}
	one := stepKey(&dockerfile.Step{Op: &op, ID: 1, Stage: "a", Name: "RUN x", Position: 2}, nil, nil)
	other := op
	other.Proxy = []string{"HTTP_PROXY=b"}
	if two := stepKey(&dockerfile.Step{Op: &other, ID: 7, Stage: "b", Name: "RUN y", Position: 3}, nil, nil); one != two {
		t.Error("the proxy, the position or a name is part of the key")
	}
}

// Two different sequences of fields never encode to the same bytes.
func TestEncoderFramesFields(t *testing.T) {
	sum := func(fields []string) Key {
		e := newEncoder("test")
		for _, f := range fields {
			e.str(f)
		}
		return e.sum()
	}
	property := func(a, b []string) bool {
		same := len(a) == len(b) && strings.Join(a, "\x00") == strings.Join(b, "\x00")
		return same == (sum(a) == sum(b)) || strings.Contains(strings.Join(append(a, b...), ""), "\x00")
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
	// The same letters, cut in every way into two fields.
	seen := map[Key]bool{}
	for i := range len("abcdef") + 1 {
		k := sum([]string{"abcdef"[:i], "abcdef"[i:]})
		if seen[k] {
			t.Errorf("cutting at %d gives a key that was there before", i)
		}
		seen[k] = true
	}
}
