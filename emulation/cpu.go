package emulation

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
)

// amd64Levels are the features of each microarchitecture level above the first, in the words of /proc/cpuinfo
// (x86-64 psABI, table 3.1; lahf_lm is LAHF-SAHF, pni SSE3, abm LZCNT, xsave stands for OSXSAVE).
func amd64Levels() [][]string {
	return [][]string{
		{"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
		{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
		{"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
	}
}

// amd64Level is the level that a processor with these features has, and which features it lacks for the next.
func amd64Level(features map[string]bool) (level int, lacks []string) {
	level = 1
	for _, needed := range amd64Levels() {
		for _, f := range needed {
			if !features[f] {
				lacks = append(lacks, f)
			}
		}
		if lacks != nil {
			break
		}
		level++
	}
	return level, lacks
}

// cpuFeatures reads the flags of the first processor in the format of /proc/cpuinfo on x86.
func cpuFeatures(cpuinfo io.Reader) map[string]bool {
	features := map[string]bool{}
	lines := bufio.NewScanner(cpuinfo)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "flags" {
			for _, f := range strings.Fields(value) {
				features[f] = true
			}
			break
		}
	}
	return features
}

// limit turns w, which is right for the architecture, into the way for one of its variants.
func (a *arch) limit(w Way, variant string) Way {
	want := variantNumber(variant)
	switch {
	case w.Kind == Missing || want == 0:
		return w
	case a.name == "amd64" && w.Kind == Native:
		return limitAMD64(w, want)
	case a.name == "amd64" && want > 3:
		return Way{Reason: "QEMU does not emulate AVX-512, which x86-64-v4 needs", Hint: "build for linux/amd64/v3"}
	case a.name == "arm" && a.isHost() && want > variantNumber(platforms.DefaultSpec().Variant):
		return Way{
			Reason: fmt.Sprintf("this processor is ARMv%d", variantNumber(platforms.DefaultSpec().Variant)),
			Hint:   "build for " + platforms.Format(platforms.DefaultSpec()),
		}
	}
	return w
}

func limitAMD64(w Way, want int) Way {
	cpuinfo, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return Way{Reason: fmt.Sprintf("cannot tell whether this processor is x86-64-v%d: %v", want, err), Hint: "build for linux/amd64"}
	}
	defer cpuinfo.Close()
	level, lacks := amd64Level(cpuFeatures(cpuinfo))
	if want <= level {
		return w
	}
	if len(amd64Levels()) < want-1 {
		return Way{Reason: fmt.Sprintf("there is no x86-64-v%d", want), Hint: "build for linux/amd64"}
	}
	hint := "build for linux/amd64"
	if level > 1 {
		hint += "/v" + strconv.Itoa(level)
	}
	return Way{Reason: fmt.Sprintf("this processor is x86-64-v%d: for the next level it lacks %s", level, strings.Join(lacks, ", ")), Hint: hint}
}

// variantNumber is 3 for "v3", and 0 for what is no such number.
func variantNumber(variant string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(variant, "v"))
	if err != nil {
		return 0
	}
	return n
}
