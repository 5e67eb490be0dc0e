package emulation

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"testing"
)

func TestTheTinyProgramsAreWellFormedStaticExecutables(t *testing.T) {
	for _, a := range architectures() {
		file, err := elf.NewFile(bytes.NewReader(a.tiny()))
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
			continue
		}
		if file.Class != a.class || file.ByteOrder != a.order || file.Machine != a.machine || file.Type != elf.ET_EXEC {
			t.Errorf("%s: got %+v", a.name, file.FileHeader)
		}
		if len(file.Progs) != 1 {
			t.Errorf("%s: got %d segments, want 1", a.name, len(file.Progs))
			continue
		}
		p := file.Progs[0]
		if p.Type != elf.PT_LOAD || p.Filesz != uint64(len(a.tiny())) || file.Entry != p.Vaddr+p.Filesz-uint64(len(a.code)) {
			t.Errorf("%s: the code is not where the entry is: %+v, entry %#x", a.name, p, file.Entry)
		}
	}
}

// The machine code is right when QEMU runs it: called by name, without any binfmt_misc.
func TestTheTinyProgramsReturnTheFirstByteOfTheirArgv0UnderQEMU(t *testing.T) {
	for _, a := range architectures() {
		t.Run(a.name, func(t *testing.T) {
			qemu, err := exec.LookPath("qemu-" + a.qemu + "-static")
			if err != nil {
				t.Skipf("needs qemu-%s-static: %v", a.qemu, err)
			}
			file := t.TempDir() + "/tiny"
			if err := os.WriteFile(file, a.tiny(), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"Q", "\x07busybox"} {
				err := exec.Command(qemu, "-0", name, file).Run()
				exit, ok := err.(*exec.ExitError)
				if !ok || exit.ExitCode() != int(name[0]) {
					t.Errorf("called as %q: got %v, want exit status %d", name, err, name[0])
				}
			}
		})
	}
}

func TestTheMachinesOwnArchitectureIsProved(t *testing.T) {
	for _, a := range architectures() {
		if a.isHost() {
			if err := a.prove(); err != nil {
				t.Error(err)
			}
		}
	}
}

func BenchmarkProveOwn(b *testing.B) {
	for _, a := range architectures() {
		if !a.isHost() {
			continue
		}
		for b.Loop() {
			if err := a.prove(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
