package emulation

import (
	"debug/elf"
	"encoding/binary"
	"runtime"
)

// arch is what has to be known of an architecture to recognise its programs, to make one and to find its emulator.
type arch struct {
	name    string // as in a platform (GOARCH)
	qemu    string // as in qemu-NAME
	class   elf.Class
	order   byteOrder
	machine elf.Machine
	flags   uint32 // e_flags that QEMU and the kernel accept for the tiny program
	code    []byte // the tiny program, see tiny.go
}

// architectures returns the table. The instructions are those of each architecture's manual; each has its source in the comment. At the entry of a program
// the stack pointer points at argc, and the next word is argv[0] (System V ABI supplements).
func architectures() []*arch {
	le, be := binary.LittleEndian, binary.BigEndian
	return []*arch{
		{"amd64", "x86_64", elf.ELFCLASS64, le, elf.EM_X86_64, 0, []byte{
			0x48, 0x8b, 0x7c, 0x24, 0x08, // mov rdi, [rsp+8]
			0x0f, 0xb6, 0x3f, // movzx edi, byte [rdi]
			0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
			0x0f, 0x05, // syscall
		}},
		{"386", "i386", elf.ELFCLASS32, le, elf.EM_386, 0, []byte{
			0x8b, 0x5c, 0x24, 0x04, // mov ebx, [esp+4]
			0x0f, 0xb6, 0x1b, // movzx ebx, byte [ebx]
			0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
			0xcd, 0x80, // int 0x80
		}},
		{"arm64", "aarch64", elf.ELFCLASS64, le, elf.EM_AARCH64, 0, words(le,
			0xf94007e0, // ldr x0, [sp, #8]
			0x39400000, // ldrb w0, [x0]
			0xd2800ba8, // mov x8, #93 (SYS_exit)
			0xd4000001, // svc #0
		)},
		{"arm", "arm", elf.ELFCLASS32, le, elf.EM_ARM, 0x05000000 /* EABI version 5 */, words(le,
			0xe59d0004, // ldr r0, [sp, #4]
			0xe5d00000, // ldrb r0, [r0]
			0xe3a07001, // mov r7, #1 (SYS_exit)
			0xef000000, // svc 0
		)},
		{"riscv64", "riscv64", elf.ELFCLASS64, le, elf.EM_RISCV, 0, words(le,
			0x00813503, // ld a0, 8(sp)
			0x00054503, // lbu a0, 0(a0)
			0x05d00893, // li a7, 93 (SYS_exit)
			0x00000073, // ecall
		)},
		{"ppc64le", "ppc64le", elf.ELFCLASS64, le, elf.EM_PPC64, 2 /* ELFv2 */, words(le,
			0xe8610008, // ld r3, 8(r1)
			0x88630000, // lbz r3, 0(r3)
			0x38000001, // li r0, 1 (SYS_exit)
			0x44000002, // sc
		)},
		{"s390x", "s390x", elf.ELFCLASS64, be, elf.EM_S390, 0, []byte{
			0xe3, 0x20, 0xf0, 0x08, 0x00, 0x04, // lg %r2, 8(%r15)
			0xe3, 0x20, 0x20, 0x00, 0x00, 0x90, // llgc %r2, 0(%r2)
			0x0a, 0x01, // svc 1 (SYS_exit)
		}},
		{"mips64le", "mips64el", elf.ELFCLASS64, le, elf.EM_MIPS, 0x80000000 /* MIPS64r2, n64 */, words(le,
			0xdfa40008, // ld $a0, 8($sp)
			0x90840000, // lbu $a0, 0($a0)
			0x240213c2, // li $v0, 5058 (SYS_exit)
			0x0000000c, // syscall
		)},
		{"loong64", "loongarch64", elf.ELFCLASS64, le, elf.EM_LOONGARCH, 0x43 /* object ABI 1, double float */, words(le,
			0x28c02064, // ld.d $a0, $sp, 8
			0x2a000084, // ld.bu $a0, $a0, 0
			0x0281740b, // li.w $a7, 93 (SYS_exit)
			0x002b0000, // syscall 0
		)},
	}
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

func words(order byteOrder, instructions ...uint32) (code []byte) {
	for _, w := range instructions {
		code = order.AppendUint32(code, w)
	}
	return code
}

// archByName finds an architecture by its Go or QEMU name, nil when it is unknown.
func archByName(name string) *arch {
	for _, a := range architectures() {
		if name == a.name || name == a.qemu {
			return a
		}
	}
	return nil
}

// hostRuns reports whether this machine's processor may run a's programs besides its own, so that it is worth trying.
func (a *arch) hostRuns() bool {
	return runtime.GOARCH == "amd64" && a.name == "386" || runtime.GOARCH == "arm64" && a.name == "arm"
}

// isHost reports whether a is the architecture that we run as.
func (a *arch) isHost() bool { return a.name == runtime.GOARCH }
