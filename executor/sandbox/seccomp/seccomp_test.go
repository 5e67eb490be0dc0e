package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	seccompbpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var containerCaps = []string{"CAP_CHOWN", "CAP_SYS_CHROOT"}

const (
	allow  = uint32(seccompbpf.ActionAllow)
	eperm  = uint32(seccompbpf.ActionErrno) | uint32(unix.EPERM)
	enosys = uint32(seccompbpf.ActionErrno) | uint32(unix.ENOSYS)
)

// machine runs the program of a foreign or the native architecture.
func machine(t testing.TB, goarch string, caps []string) func(a *arch.Info, number uint32, args ...uint64) uint32 {
	t.Helper()
	program, err := compile(goarch, caps)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(a *arch.Info, number uint32, args ...uint64) uint32 {
		t.Helper()
		verdict, err := vm.Run(data(a, number, args...))
		if err != nil {
			t.Fatal(err)
		}
		return uint32(verdict)
	}
}

// data is a struct seccomp_data of a little-endian machine, each word in the order that the virtual machine reads: big-endian.
func data(a *arch.Info, number uint32, args ...uint64) []byte {
	words := make([]uint32, 16)
	words[0], words[1] = number, uint32(a.ID)
	for i, v := range args {
		words[4+2*i], words[5+2*i] = uint32(v), uint32(v>>32)
	}
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func call(t testing.TB, a *arch.Info, name string) uint32 {
	t.Helper()
	n, ok := a.SyscallNames[name]
	if !ok {
		t.Fatalf("%s has no %s", a.Name, name)
	}
	return uint32(n | a.SeccompMask)
}

func TestVerdicts(t *testing.T) {
	newNamespace := uint64(unix.CLONE_NEWUSER)
	for _, c := range []struct {
		name string
		args []uint64
		want uint32
	}{
		{"read", nil, allow},
		{"execve", nil, allow},
		{"chroot", nil, allow}, // by capability
		{"ptrace", nil, allow}, // by kernel version
		{"mount", nil, eperm},
		{"umount2", nil, eperm},
		{"pivot_root", nil, eperm},
		{"unshare", nil, eperm},
		{"setns", nil, eperm},
		{"bpf", nil, eperm},
		{"perf_event_open", nil, eperm},
		{"keyctl", nil, eperm},
		{"add_key", nil, eperm},
		{"init_module", nil, eperm},
		{"kexec_load", nil, eperm},
		{"reboot", nil, eperm},
		{"swapon", nil, eperm},
		{"clone3", nil, enosys},
		{"open_tree_attr", nil, enosys}, // newer than all the profile knows
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, allow},
		{"clone", []uint64{newNamespace}, eperm},
		{"clone", []uint64{newNamespace | unix.CLONE_VM}, eperm},
		{"clone", []uint64{1 << 40}, allow}, // only the masked bits count
		{"personality", []uint64{0}, allow},
		{"personality", []uint64{0x20008}, allow},
		{"personality", []uint64{0xffffffff}, allow},
		{"personality", []uint64{0x1_0000_0000}, eperm}, // the upper half counts
		{"personality", []uint64{7}, eperm},
		{"socket", []uint64{unix.AF_UNIX}, allow},
		{"socket", []uint64{unix.AF_INET6}, allow},
		{"socket", []uint64{unix.AF_NETLINK}, allow},
		{"socket", []uint64{unix.AF_VSOCK}, eperm},
		{"socket", []uint64{unix.AF_ALG}, eperm},
	} {
		for goarch, infos := range map[string][]*arch.Info{
			"amd64": {arch.X86_64, arch.X32},
			"arm64": {arch.AARCH64, arch.ARM},
		} {
			run := machine(t, goarch, containerCaps)
			for _, a := range infos {
				if _, ok := a.SyscallNames[c.name]; !ok {
					continue
				}
				if got := run(a, call(t, a, c.name), c.args...); got != c.want {
					t.Errorf("%s: %s(%#x): got %#x, want %#x", a.Name, c.name, c.args, got, c.want)
				}
			}
		}
	}
}

// Every number of every table gives what the rules say, so the search tree is right whatever it looks like.
func TestProgramIsItsTable(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64", "386", "arm"} {
		for _, caps := range [][]string{nil, containerCaps, {"CAP_SYS_ADMIN", "CAP_BPF"}} {
			run := machine(t, goarch, caps)
			p, err := profile(caps)
			if err != nil {
				t.Fatal(err)
			}
			groups, err := conventions(goarch)
			if err != nil {
				t.Fatal(err)
			}
			for _, group := range groups {
				for _, a := range group {
					table, err := newTable(a, p.Syscalls)
					if err != nil {
						t.Fatal(err)
					}
					checkTable(t, fmt.Sprintf("%s on %s with %v", a.Name, goarch, caps), table, run)
				}
			}
		}
	}
}

func checkTable(t *testing.T, name string, table *table, run func(a *arch.Info, number uint32, args ...uint64) uint32) {
	t.Helper()
	const above = 2000
	var numbers []uint32
	for n := range uint32(8) { // around arm's private ones
		numbers = append(numbers, 0xf0000-1+n)
	}
	for n := range uint32(above) {
		numbers = append(numbers, n)
	}
	for _, n := range numbers {
		v := table.verdict(n)
		if len(v.conditions) > 0 {
			continue
		}
		if got := run(table.arch, n|uint32(table.arch.SeccompMask)); got != uint32(v.action) {
			t.Errorf("%s: %d (%s): got %#x, want %#x", name, n, table.arch.SyscallNumbers[int(n)], got, uint32(v.action))
		}
	}
}

func TestUnknownConventionIsRefused(t *testing.T) {
	run := machine(t, "arm64", containerCaps)
	if got := run(arch.X86_64, call(t, arch.X86_64, "read")); got != eperm {
		t.Errorf("got %#x, want %#x", got, eperm)
	}
}

func TestProgramFitsTheKernel(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		program, err := compile(goarch, containerCaps)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d instructions", goarch, len(program))
		if len(program) >= maxInstructions {
			t.Errorf("%s: %d instructions, the kernel takes %d", goarch, len(program), maxInstructions)
		}
	}
}

func TestNoTableIsAnError(t *testing.T) {
	if _, err := compile("riscv64", nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v, want %v", err, ErrUnsupported)
	}
}

func TestMaskedEqual(t *testing.T) {
	for _, c := range []struct{ mask, want uint64 }{
		{0xf0, 0}, {0xf0, 0x50}, {0xf0, 0xf0}, {1<<40 | 2, 1 << 40}, {1<<40 | 2, 2},
	} {
		conditions, err := maskedEqual(0, c.mask, c.want)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []uint64{0, 0x50, 0x5f, 0x51, 0xf0, 0xff, 0x10, 1 << 40, 1<<40 | 2, 2, 1<<40 | 1, ^uint64(0)} {
			if got, want := holds(t, conditions, v), v&c.mask == c.want; got != want {
				t.Errorf("%#x & %#x == %#x: got %v, want %v", v, c.mask, c.want, got, want)
			}
		}
	}
	if _, err := maskedEqual(0, 1, 2); err == nil {
		t.Error("a comparison that never holds was accepted")
	}
}

// holds evaluates conditions on the first argument as a compiled program does.
func holds(t *testing.T, conditions seccompbpf.ArgumentConditions, argument uint64) bool {
	t.Helper()
	p := seccompbpf.NewProgram()
	yes, no := p.NewLabel(), p.NewLabel()
	p.LdLo(0) // replaced below: the system call number
	seccompbpf.SyscallWithConditions{Num: 7, Conditions: []seccompbpf.ArgumentConditions{conditions}}.Assemble(&p, false, yes, no)
	p.SetLabel(no)
	p.Ret(seccompbpf.ActionKillThread)
	p.SetLabel(yes)
	p.Ret(seccompbpf.ActionAllow)
	program, err := p.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	program[0] = bpf.LoadAbsolute{Off: offsetNumber, Size: 4}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := vm.Run(data(arch.X86_64, 7, argument))
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict) == allow
}

func TestLoadRefusesWhatIsNoProgram(t *testing.T) {
	for _, f := range []Filter{nil, make(Filter, 7), make(Filter, 12), make(Filter, (maxInstructions+1)*instructionSize)} {
		if err := f.Load(); err == nil {
			t.Errorf("a filter of %d bytes was loaded", len(f))
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(containerCaps); err != nil {
			b.Fatal(err)
		}
	}
}
