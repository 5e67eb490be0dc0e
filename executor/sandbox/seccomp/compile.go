package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	seccompbpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ErrUnsupported tells that no filter can be made for the architecture mbuild runs on.
var ErrUnsupported = errors.New("no system call table for this architecture")

// maxInstructions is the kernel's limit for one filter (BPF_MAXINSNS).
const maxInstructions = 4096

// Offsets in the kernel's struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
)

// Filter is a compiled program: an array of struct sock_filter in the machine's byte order, ready for the kernel.
type Filter []byte

// Default compiles Docker's default profile for a process that will have the capabilities caps ("CAP_CHOWN", …).
// Errors: ErrUnsupported.
func Default(caps []string) (Filter, error) {
	instructions, err := compile(runtime.GOARCH, caps)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp filter for %s: %w", runtime.GOARCH, err)
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	return encode(raw), nil
}

// conventions lists the system call tables that a process of goarch can use, grouped by the value the kernel reports for them.
func conventions(goarch string) ([][]*arch.Info, error) {
	switch goarch {
	case "amd64":
		return [][]*arch.Info{{arch.X86_64, arch.X32}, {arch.I386}}, nil
	case "arm64":
		return [][]*arch.Info{{arch.AARCH64}, {arch.ARM}}, nil
	case "386":
		return [][]*arch.Info{{arch.I386}}, nil
	case "arm":
		return [][]*arch.Info{{arch.ARM}}, nil
	}
	return nil, ErrUnsupported
}

// compile gives the whole program: one block per architecture value, behind a test for it, and a refusal for all others.
func compile(goarch string, caps []string) ([]bpf.Instruction, error) {
	groups, err := conventions(goarch)
	if err != nil {
		return nil, err
	}
	p, err := profile(caps)
	if err != nil {
		return nil, err
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}
	for _, group := range groups {
		var tables []*table
		for _, a := range group {
			t, err := newTable(a, p.Syscalls)
			if err != nil {
				return nil, err
			}
			tables = append(tables, t)
		}
		block, err := assembleGroup(tables)
		if err != nil {
			return nil, err
		}
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(group[0].ID), SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(block))})
		program = append(program, block...)
	}
	program = append(program, bpf.RetConstant{Val: uint32(errno(unix.EPERM))})
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("program has %d instructions, the kernel takes %d", len(program), maxInstructions)
	}
	return program, nil
}

// assembleGroup gives the block for tables with one architecture value, told apart by the mask in the system call number.
// The table without a mask comes first.
func assembleGroup(tables []*table) ([]bpf.Instruction, error) {
	block := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetNumber, Size: 4}}
	var code [][]bpf.Instruction
	for _, t := range tables {
		p := seccompbpf.NewProgram()
		t.search(&p, t.spans())
		c, err := p.Assemble()
		if err != nil {
			return nil, fmt.Errorf("system calls of %s: %w", t.arch.Name, err)
		}
		code = append(code, c)
	}
	for i, c := range code {
		if i+1 < len(code) {
			block = append(block,
				bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(tables[i+1].arch.SeccompMask), SkipFalse: 1},
				bpf.Jump{Skip: uint32(len(c))})
		}
		block = append(block, c...)
	}
	return block, nil
}

// span is a run of system call numbers, from first up to the next span, with the same verdict.
type span struct {
	first uint32
	verdict
}

// spans covers all numbers of the table, in order.
func (t *table) spans() []span {
	edges := []uint32{0, t.newest + 1, t.private}
	for _, n := range slices.Sorted(maps.Keys(t.rules)) {
		edges = append(edges, n, n+1)
	}
	slices.Sort(edges)
	var spans []span
	for _, n := range slices.Compact(edges) {
		s := span{first: n, verdict: t.verdict(n)}
		if len(spans) == 0 || !s.continues(spans[len(spans)-1]) {
			spans = append(spans, s)
		}
	}
	return spans
}

// continues tells whether s can be part of before. Conditions belong to one system call each.
func (s span) continues(before span) bool {
	return s.action == before.action && len(s.conditions) == 0 && len(before.conditions) == 0
}

// search emits a binary search over spans; each leaf returns. The accumulator holds the system call number.
func (t *table) search(p *seccompbpf.Program, spans []span) {
	if len(spans) == 1 {
		t.leaf(p, spans[0])
		return
	}
	middle := len(spans) / 2
	upper := p.NewLabel()
	p.JmpIfTrue(bpf.JumpGreaterOrEqual, spans[middle].first|uint32(t.arch.SeccompMask), upper)
	t.search(p, spans[:middle])
	p.SetLabel(upper)
	t.search(p, spans[middle:])
}

func (t *table) leaf(p *seccompbpf.Program, s span) {
	if len(s.conditions) > 0 {
		action, refuse := p.NewLabel(), p.NewLabel()
		call := seccompbpf.SyscallWithConditions{Num: s.first | uint32(t.arch.SeccompMask), Conditions: s.conditions}
		call.Assemble(p, false, action, refuse)
		p.SetLabel(refuse)
		p.Ret(errno(unix.EPERM))
		p.SetLabel(action)
	}
	p.Ret(s.action)
}
