package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// readme is the README's text.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func help(t *testing.T, mbuild string, args ...string) string {
	t.Helper()
	out, err := exec.Command(mbuild, append(args, "--help")...).Output()
	if err != nil {
		t.Fatalf("mbuild %v --help: %v", args, err)
	}
	return string(out)
}

// A flag that the README shows exists, and the exit codes of its table are those of
// the help text.
func TestReadmeIsTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: needs the binary")
	}
	mbuild, text := binary(t), readme(t)
	build := help(t, mbuild, "build")
	planned := map[string]bool{"--cache-to": true, "--load": true} // in "Limits"
	for _, f := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(text, -1) {
		if ok, err := regexp.MatchString(`(^|[\s,])`+f+`\b`, build); !planned[f] && (err != nil || !ok) {
			t.Errorf("the README has %s, which `mbuild build --help` does not list", f)
		}
	}
	var table, told []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(text, -1) {
		table = append(table, m[1])
	}
	for _, m := range regexp.MustCompile(`(?:^|[:;\s])\s*(\d+) [a-z]`).FindAllStringSubmatch(exitCodes(help(t, mbuild)), -1) {
		told = append(told, m[1])
	}
	if !slices.Equal(table, told) {
		t.Errorf("exit codes: the README has %q, `mbuild --help` has %q", table, told)
	}
}

func exitCodes(help string) string {
	return regexp.MustCompile(`(?s)Exit codes:.*`).FindString(help)
}

func TestDocumentsLinkToWhatExists(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(documents, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
	}
}
