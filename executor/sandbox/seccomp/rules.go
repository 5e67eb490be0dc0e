package seccomp

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// privateFrom is where the system calls begin that belong to a alone, above the numbers that grow with the kernel.
func privateFrom(a *arch.Info) uint32 {
	switch a {
	case arch.ARM:
		return 0xf0000
	case arch.X32:
		return 512
	}
	return math.MaxUint32
}

// verdict says what happens to one system call: action, if conditions is empty or one of its sets holds.
type verdict struct {
	action     bpf.Action
	conditions []bpf.ArgumentConditions
}

// table holds the verdicts of one calling convention.
type table struct {
	arch    *arch.Info
	rules   map[uint32]verdict // by number, without arch.SeccompMask
	newest  uint32             // the newest system call that any rule of the profile names, for whatever capabilities
	private uint32             // from here on system calls are not told to be new by their numbers
}

// profile is Docker's default profile as it applies to a process with the capabilities caps on this kernel.
func profile(caps []string) (*specs.LinuxSeccomp, error) {
	process := &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}
	return seccomp.GetDefaultProfile(&specs.Spec{Process: process})
}

// newTable applies the resolved rules to the system call numbers of a. Names that a does not have are skipped: rules name
// the system calls of all architectures.
func newTable(a *arch.Info, rules []specs.LinuxSyscall) (*table, error) {
	t := &table{arch: a, rules: map[uint32]verdict{}, private: privateFrom(a)}
	for _, s := range seccomp.DefaultProfile().Syscalls {
		for _, name := range s.Names {
			if n, ok := a.SyscallNames[name]; ok && uint32(n) < t.private {
				t.newest = max(t.newest, uint32(n))
			}
		}
	}
	for _, s := range rules {
		action, err := actionOf(s)
		if err != nil {
			return nil, err
		}
		conditions, err := conditionsOf(s.Args)
		if err != nil {
			return nil, fmt.Errorf("system calls %v: %w", s.Names, err)
		}
		for _, name := range s.Names {
			if n, ok := a.SyscallNames[name]; ok {
				t.add(uint32(n), action, conditions)
			}
		}
	}
	return t, nil
}

// add merges a rule for system call n: permission wins over refusal, and what is allowed without conditions stays so.
func (t *table) add(n uint32, action bpf.Action, c bpf.ArgumentConditions) {
	v, known := t.rules[n]
	switch {
	case !known || v.action != bpf.ActionAllow:
		v = verdict{action: action}
		if len(c) > 0 {
			v.conditions = []bpf.ArgumentConditions{c}
		}
	case action != bpf.ActionAllow || len(v.conditions) == 0:
		return
	case len(c) == 0:
		v.conditions = nil
	default:
		v.conditions = append(slices.Clip(v.conditions), c)
	}
	t.rules[n] = v
}

// verdict decides about any number, named by a rule or not.
func (t *table) verdict(n uint32) verdict {
	if v, ok := t.rules[n]; ok {
		return v
	}
	if n > t.newest && n < t.private {
		return verdict{action: errno(unix.ENOSYS)}
	}
	return verdict{action: errno(unix.EPERM)}
}

func errno(e unix.Errno) bpf.Action { return bpf.ActionErrno | bpf.Action(e) }

func actionOf(s specs.LinuxSyscall) (bpf.Action, error) {
	switch s.Action {
	case specs.ActAllow:
		return bpf.ActionAllow, nil
	case specs.ActErrno:
		if s.ErrnoRet != nil {
			return errno(unix.Errno(*s.ErrnoRet)), nil
		}
		return errno(unix.EPERM), nil
	}
	return 0, fmt.Errorf("system calls %v: action %s is not supported", s.Names, s.Action)
}

func conditionsOf(args []specs.LinuxSeccompArg) (bpf.ArgumentConditions, error) {
	operations := map[specs.LinuxSeccompOperator]bpf.Operation{
		specs.OpEqualTo:      bpf.Equal,
		specs.OpNotEqual:     bpf.NotEqual,
		specs.OpGreaterThan:  bpf.GreaterThan,
		specs.OpGreaterEqual: bpf.GreaterOrEqual,
		specs.OpLessThan:     bpf.LessThan,
		specs.OpLessEqual:    bpf.LessOrEqual,
	}
	var cs bpf.ArgumentConditions
	for _, a := range args {
		if a.Op == specs.OpMaskedEqual {
			masked, err := maskedEqual(uint32(a.Index), a.Value, a.ValueTwo)
			if err != nil {
				return nil, err
			}
			cs = append(cs, masked...)
			continue
		}
		op, ok := operations[a.Op]
		if !ok {
			return nil, fmt.Errorf("operator %s is not supported", a.Op)
		}
		cs = append(cs, bpf.Condition{Argument: uint32(a.Index), Operation: op, Value: a.Value})
	}
	return cs, nil
}

// maskedEqual expresses "argument & mask == want" in the library's terms: no bit that must be clear is set, and each
// bit that must be set is (its BitsSet asks for any bit of the value, hence one condition per bit).
func maskedEqual(argument uint32, mask, want uint64) (bpf.ArgumentConditions, error) {
	if want&^mask != 0 {
		return nil, fmt.Errorf("masked comparison of %#x with mask %#x never holds", want, mask)
	}
	var cs bpf.ArgumentConditions
	if zero := mask &^ want; zero != 0 {
		cs = append(cs, bpf.Condition{Argument: argument, Operation: bpf.BitsNotSet, Value: zero})
	}
	for left := want; left != 0; left &= left - 1 {
		bit := uint64(1) << bits.TrailingZeros64(left)
		cs = append(cs, bpf.Condition{Argument: argument, Operation: bpf.BitsSet, Value: bit})
	}
	return cs, nil
}
