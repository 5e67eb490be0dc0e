package emulation

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program is a static executable for a; with an interpreter it is a dynamically linked one.
func (a *arch) program(interpreter bool) []byte {
	p := a.tiny()
	if !interpreter {
		return p
	}
	offset := 52
	if a.class == elf.ELFCLASS64 {
		offset = 64
	}
	p = bytes.Clone(p)
	a.order.PutUint32(p[offset:], uint32(elf.PT_INTERP))
	return p
}

func host(t *testing.T) *arch {
	t.Helper()
	for _, a := range architectures() {
		if a.isHost() {
			return a
		}
	}
	t.Skip("needs a machine of a known architecture")
	return nil
}

// foreign is an architecture that is not this machine's.
func foreign(t *testing.T) *arch {
	t.Helper()
	if host(t).name == "riscv64" {
		return archByName("s390x")
	}
	return archByName("riscv64")
}

func put(t *testing.T, content []byte, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhichEmulatorIsTaken(t *testing.T) {
	h, a := host(t), foreign(t)
	static, dynamic := h.program(false), h.program(true)
	for _, c := range []struct {
		rule  string
		files map[string][]byte // below the test's directory
		given string            // --emulator
		want  string            // file, or part of the error
	}{
		{"the static name comes first", map[string][]byte{"p/qemu-A-static": static, "p/qemu-A": static}, "", "p/qemu-A-static"},
		{"a static program may have the plain name", map[string][]byte{"p/qemu-A": static}, "", "p/qemu-A"},
		{"beside the binary comes before $PATH", map[string][]byte{"p/qemu-A-static": static, "bin/qemu-A": static}, "", "bin/qemu-A"},
		{"directories of $PATH count in order", map[string][]byte{"q/qemu-A-static": static, "p/qemu-A": static}, "", "p/qemu-A"},
		{"a dynamic one is passed over", map[string][]byte{"p/qemu-A": dynamic, "q/qemu-A": static}, "", "q/qemu-A"},
		{"a dynamic one alone is refused", map[string][]byte{"p/qemu-A": dynamic}, "", "linked dynamically"},
		{"one for another machine is refused", map[string][]byte{"p/qemu-A": a.program(false)}, "", "not for this machine"},
		{"a script is refused", map[string][]byte{"p/qemu-A": []byte("#!/bin/sh\n")}, "", "not an ELF program"},
		{"a given one is taken before all", map[string][]byte{"bin/qemu-A": static, "my/qemu": static}, "my/qemu", "my/qemu"},
		{"a given one is not replaced when it is bad", map[string][]byte{"bin/qemu-A": static, "my/qemu": dynamic}, "my/qemu", "linked dynamically"},
		{"none at all", nil, "", fs.ErrNotExist.Error()},
	} {
		dir := t.TempDir()
		for name, content := range c.files {
			put(t, content, dir, strings.ReplaceAll(name, "A", a.qemu))
		}
		o := Options{Dir: dir + "/bin", Path: dir + "/p:relative:" + dir + "/q"}
		if c.given != "" {
			o.Emulators = map[string]string{a.name: filepath.Join(dir, c.given)}
		}
		got, err := o.emulator(a)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got error %v, want %q", c.rule, err, c.want)
			}
		} else if want := filepath.Join(dir, strings.ReplaceAll(c.want, "A", a.qemu)); got != want {
			t.Errorf("%s: got %s, want %s", c.rule, got, want)
		}
	}
}

func TestParseEmulators(t *testing.T) {
	h, a := host(t), foreign(t)
	good := put(t, h.program(false), t.TempDir(), "qemu")
	bad := put(t, h.program(true), t.TempDir(), "qemu")
	for _, c := range []struct{ rule, value, want string }{
		{"Go name", a.name + "=" + good, ""},
		{"QEMU name", a.qemu + "=" + good, ""},
		{"platform", "linux/" + a.name + "=" + good, ""},
		{"no path", a.name, "want ARCH=PATH"},
		{"empty path", a.name + "=", "want ARCH=PATH"},
		{"unknown architecture", "vax=" + good, `unknown architecture "vax"`},
		{"own architecture", h.name + "=" + good, "own architecture"},
		{"missing file", a.name + "=" + good + "x", "no such file"},
		{"dynamic", a.name + "=" + bad, "linked dynamically"},
	} {
		got, err := ParseEmulators([]string{c.value})
		if c.want == "" && (err != nil || got[a.name] != good) {
			t.Errorf("%s: got %v, %v", c.rule, got, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.rule, err, c.want)
		}
	}
}

func FuzzUsable(f *testing.F) {
	for _, a := range architectures() {
		f.Add(a.program(false))
		f.Add(a.program(true))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		err := usable(put(t, content, t.TempDir(), "qemu"))
		if err == nil && (len(content) < 20 || binary.BigEndian.Uint32(content) != 0x7f454c46) {
			t.Errorf("accepted %q", content)
		}
		if errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}
