package emulation

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestTheWayOfEachPlatform(t *testing.T) {
	h, a := host(t), foreign(t)
	hiddenByHost(t, a)
	dir := t.TempDir()
	qemu := put(t, h.program(false), dir, "with", "qemu-"+a.qemu+"-static")
	put(t, h.program(true), dir, "dynamic", "qemu-"+a.qemu)
	foreignPlatform := ocispec.Platform{OS: "linux", Architecture: a.name}
	for _, c := range []struct {
		rule     string
		o        Options
		release  string
		platform ocispec.Platform
		want     Kind
		emulator string
		reason   string
		hint     string
	}{
		{rule: "our own architecture is native", platform: ocispec.Platform{OS: "linux", Architecture: h.name}, want: Native},
		{rule: "another with an emulator on a new kernel", o: Options{Path: dir + "/with"}, platform: foreignPlatform, want: QEMU, emulator: qemu},
		{
			rule: "another without one", o: Options{Path: dir}, platform: foreignPlatform,
			reason: "no qemu-" + a.qemu + "-static found", hint: "sudo apt-get install qemu-user-static, or --emulator " + a.name + "=/path/to/qemu-" + a.qemu + "-static",
		},
		{rule: "another with a dynamic one only", o: Options{Path: dir + "/dynamic"}, platform: foreignPlatform, reason: "linked dynamically", hint: "qemu-user-static"},
		{
			rule: "an old kernel has no table for us", release: "6.6.30", o: Options{Path: dir + "/with"}, platform: foreignPlatform,
			reason: "Linux 6.6.30 has no binfmt_misc for user namespaces", hint: "on the host: sudo apt-get install",
		},
		{rule: "a given emulator that is not there", o: Options{Emulators: map[string]string{a.name: "/nonexistent"}}, platform: foreignPlatform, reason: "/nonexistent"},
		{rule: "another system", platform: ocispec.Platform{OS: "windows", Architecture: h.name}, reason: "windows"},
		{rule: "an unknown architecture", platform: ocispec.Platform{OS: "linux", Architecture: "vax"}, reason: `"vax"`},
		{rule: "an emulator's name is no platform", platform: ocispec.Platform{OS: "linux", Architecture: "loongarch64"}, reason: `"loongarch64"`},
	} {
		s := Find(c.o)
		s.release = "6.7.0"
		if c.release != "" {
			s.release = c.release
		}
		got := s.Way(c.platform)
		if got.Kind != c.want || got.Emulator != c.emulator || !strings.Contains(got.Reason, c.reason) || !strings.Contains(got.Hint, c.hint) {
			t.Errorf("%s: got %+v", c.rule, got)
		}
	}
}

func TestAMD64Levels(t *testing.T) {
	v2 := "flags\t\t: cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
	v3 := v2 + " avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
	for _, c := range []struct {
		rule, cpuinfo string
		level         int
		lacks         []string
	}{
		{"nothing known is level 1", "", 1, amd64Levels()[0]},
		{"level 2", v2, 2, amd64Levels()[1]},
		{"all of level 3 but one feature is level 2", strings.Replace(v3, " avx2", "", 1), 2, []string{"avx2"}},
		{"level 3", v3, 3, amd64Levels()[2]},
		{"level 4", v3 + " avx512f avx512bw avx512cd avx512dq avx512vl", 4, nil},
		{"only the first processor counts", v2 + "\n" + v3, 2, amd64Levels()[1]},
	} {
		level, lacks := amd64Level(cpuFeatures(strings.NewReader(c.cpuinfo)))
		if level != c.level || !slices.Equal(lacks, c.lacks) {
			t.Errorf("%s: got %d, lacks %v", c.rule, level, lacks)
		}
	}
}

func TestVariantsLimitTheWay(t *testing.T) {
	for _, c := range []struct {
		arch, variant string
		way           Way
		want          Kind
	}{
		{"amd64", "v3", Way{Kind: QEMU}, QEMU},
		{"amd64", "v4", Way{Kind: QEMU}, Missing},
		{"amd64", "v9", Way{Kind: Native}, Missing},
		{"amd64", "", Way{Kind: Native}, Native},
		{"arm64", "v8", Way{Kind: QEMU}, QEMU},
		{"arm", "v6", Way{Kind: QEMU}, QEMU},
	} {
		got := archByName(c.arch).limit(c.way, c.variant)
		if got.Kind != c.want || got.Kind == Missing && (got.Reason == "" || got.Hint == "") {
			t.Errorf("%s/%s %v: got %+v, want %v", c.arch, c.variant, c.way.Kind, got, c.want)
		}
	}
}

func TestIdentifyTellsVersionAndDigestOfTheEmulator(t *testing.T) {
	p := platforms.MustParse("linux/riscv64")
	s := Find(Options{})
	if w := s.Way(p); w.Kind != QEMU || w.Version != "" {
		t.Skipf("needs QEMU for riscv64: got %+v", w)
	}
	w, err := s.Identify(t.Context(), p)
	if err != nil || w.Version == "" || w.Version[0] < '0' || w.Version[0] > '9' || w.Digest.Validate() != nil {
		t.Errorf("got %+v, %v", w, err)
	}
	file, err := os.Open(w.Emulator)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := w.Digest.Algorithm().FromReader(file); got != w.Digest || err != nil {
		t.Errorf("got %s, want %s", w.Digest, got)
	}
}

func TestTheSurveyHasARowForEveryKnownPlatform(t *testing.T) {
	rows, err := Find(Options{}).Survey(t.Context())
	if err != nil || len(rows) != len(known()) {
		t.Fatalf("got %d rows, %v", len(rows), err)
	}
	for _, r := range rows {
		t.Logf("%-15s %-12s %-35s %s %s", r.Platform, r.Way.Kind, r.Way.Emulator, r.Way.Version, r.Note)
		if r.Way.Kind == Missing && (r.Way.Reason == "" || r.Note != r.Way.Reason) {
			t.Errorf("%s: missing without a reason: %+v", r.Platform, r)
		}
		if r.Way.Kind == QEMU && (r.Way.Version == "" || r.Way.Digest == "") {
			t.Errorf("%s: not identified: %+v", r.Platform, r)
		}
	}
}
