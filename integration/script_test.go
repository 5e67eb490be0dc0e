package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mbuild/integration/bases"
	"mbuild/integration/registry"
)

// binary is the mbuild under test: $MBUILD_BINARY, else built from the tree.
func binary(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("MBUILD_BINARY"); b != "" {
		abs, err := filepath.Abs(b)
		if err != nil {
			t.Fatal(err)
		}
		return abs
	}
	// Not t.TempDir: parallel scripts use it after the function that made it returned.
	out := filepath.Join(t.TempDir(), "mbuild")
	cmd := exec.Command("go", "build", "-o", out, "../cmd/mbuild")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/mbuild: %v\n%s", err, said)
	}
	return out
}

// TestScripts runs every scripts/*.txtar. Each has its own state directory, home
// and registries; $BASE is an OCI layout of busybox for amd64 and arm64.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the scripts build real images")
	}
	mbuild := binary(t)
	base, err := bases.Busybox(context.Background(), bases.DefaultCache(), "amd64", "arm64", "arm")
	if errors.Is(err, bases.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "scripts",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { return setup(e, mbuild, base) },
		Condition:           condition,
		Cmds:                commands,
	})
}

func setup(e *testscript.Env, mbuild, base string) error {
	for _, d := range []string{"home", "tmp", ".run"} {
		if err := os.Mkdir(filepath.Join(e.WorkDir, d), 0o755); err != nil {
			return err
		}
	}
	state := filepath.Join(e.WorkDir, "state")
	for k, v := range map[string]string{
		"PATH":            filepath.Dir(mbuild) + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"HOME":            filepath.Join(e.WorkDir, "home"),
		"TMPDIR":          filepath.Join(e.WorkDir, "tmp"),
		"MBUILD_ROOT":     state,
		"XDG_RUNTIME_DIR": filepath.Join(e.WorkDir, ".run"),
		"MBUILD":          mbuild,
		"BASE":            base,
		"FROM_BASE":       "--build-context=base=oci-layout://" + base + ":" + bases.Tag,
		"UID":             fmt.Sprint(os.Getuid()),
		"NATIVE":          "linux/" + runtime.GOARCH,
		"FOREIGN":         "linux/" + foreign(),
	} {
		e.Setenv(k, v)
	}
	s := &site{t: e.T(), mbuild: mbuild, base: base, work: e.WorkDir}
	e.Values[siteKey{}] = s
	e.Defer(func() {
		for _, r := range s.registries {
			if err := r.Close(); err != nil {
				e.T().Log("close registry:", err)
			}
		}
		removeState(e, state)
	})
	return nil
}

// foreign is an architecture of the busybox base that this machine's processor
// does not execute.
func foreign() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// removeState removes what an ordinary user may not: files that belong to the
// ids of mbuild's namespace.
func removeState(e *testscript.Env, state string) {
	if os.RemoveAll(state) == nil {
		return
	}
	out, err := exec.Command("unshare", "--map-auto", "--map-root-user", "rm", "-rf", state).CombinedOutput()
	if err != nil {
		e.T().Log(fmt.Sprintf("remove %s: %v: %s", state, err, out))
	}
}

// site is what a script has running.
type site struct {
	t                  testscript.T
	mbuild, base, work string
	registries         []*registry.Server
}

type siteKey struct{}

func siteOf(ts *testscript.TestScript) *site { return ts.Value(siteKey{}).(*site) }

func condition(c string) (bool, error) {
	switch c {
	case "root":
		return os.Getuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", c)
}
