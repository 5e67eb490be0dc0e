package emulation

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loadAddress is where the tiny program is put: a multiple of every page size, low enough for 32 bits.
const loadAddress = 0x400000

// tiny returns a static ELF executable that ends with the first byte of its argv[0] as exit status.
func (a *arch) tiny() []byte {
	var b bytes.Buffer
	if a.class == elf.ELFCLASS64 {
		const size = 64 + 56 // Elf64_Ehdr and one Elf64_Phdr
		total := uint64(size + len(a.code))
		binary.Write(&b, a.order, elf.Header64{
			Ident: a.ident(), Type: uint16(elf.ET_EXEC), Machine: uint16(a.machine), Version: uint32(elf.EV_CURRENT),
			Entry: loadAddress + size, Phoff: 64, Flags: a.flags, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
		})
		binary.Write(&b, a.order, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: loadAddress, Paddr: loadAddress,
			Filesz: total, Memsz: total, Align: 0x10000,
		})
	} else {
		const size = 52 + 32 // Elf32_Ehdr and one Elf32_Phdr
		total := uint32(size + len(a.code))
		binary.Write(&b, a.order, elf.Header32{
			Ident: a.ident(), Type: uint16(elf.ET_EXEC), Machine: uint16(a.machine), Version: uint32(elf.EV_CURRENT),
			Entry: loadAddress + size, Phoff: 52, Flags: a.flags, Ehsize: 52, Phentsize: 32, Phnum: 1, Shentsize: 40,
		})
		binary.Write(&b, a.order, elf.Prog32{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: loadAddress, Paddr: loadAddress,
			Filesz: total, Memsz: total, Align: 0x10000,
		})
	}
	b.Write(a.code)
	return b.Bytes()
}

func (a *arch) ident() (ident [elf.EI_NIDENT]byte) {
	copy(ident[:], elf.ELFMAG)
	ident[elf.EI_CLASS] = byte(a.class)
	ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	if a.order == binary.BigEndian {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	return ident
}

// What a proof can find out besides that a program does not run.
var (
	errLosesArgv0 = errors.New("programs lose their argv[0], which breaks multi-call programs such as busybox")
	errNoFlagF    = errors.New("the handler opens its emulator for each program anew (it lacks the flag F), so there is none inside a root filesystem")
)

// proofTime is more than any emulator needs to start on a loaded machine.
const proofTime = 20 * time.Second

// calledAs is the argv[0] of a tiny program in a proof.
const calledAs = "Q"

// prove runs the tiny program of a. A nil error means that it ran, whoever ran it, and saw its argv[0].
// The program is never on a disk: no mount option can stand in its way, and nothing is left.
func (a *arch) prove() error {
	file, err := memoryFile(a.tiny())
	if err != nil {
		return err
	}
	defer file.Close()
	return a.judge(&exec.Cmd{Path: "/proc/self/fd/3", ExtraFiles: []*os.File{file}})
}

// proveInRoot runs the tiny program of a as a RUN would: in a root filesystem with nothing else in it, made below dir and removed again. Needs
// CAP_SYS_CHROOT or a user namespace.
func (a *arch) proveInRoot(dir string) (err error) {
	root, err := os.MkdirTemp(dir, "root-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := writeProgram(filepath.Join(root, "tiny"), a.tiny()); err != nil {
		return err
	}
	in := &syscall.SysProcAttr{Chroot: root}
	err = a.judge(&exec.Cmd{Path: "/tiny", Dir: "/", SysProcAttr: in})
	if errors.Is(err, syscall.EPERM) {
		in.Cloneflags = syscall.CLONE_NEWUSER
		in.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		in.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		err = a.judge(&exec.Cmd{Path: "/tiny", Dir: "/", SysProcAttr: in})
	}
	if errors.Is(err, syscall.ENOENT) { // the program is there, so it is what should run it that is not
		return errNoFlagF
	}
	return err
}

// judge runs cmd, which is a's tiny program.
func (a *arch) judge(cmd *exec.Cmd) error {
	cmd.Args, cmd.Env = []string{calledAs}, []string{}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("a tiny %s program does not run: %w", a.name, err)
	}
	late := time.AfterFunc(proofTime, func() { cmd.Process.Kill() })
	defer late.Stop()
	exit := (*exec.ExitError)(nil)
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("a tiny %s program: %w", a.name, err)
	}
	switch cmd.ProcessState.ExitCode() {
	case int(calledAs[0]):
		return nil
	case '/': // it was called by its path
		return errLosesArgv0
	default:
		return fmt.Errorf("a tiny %s program ended with %v, want exit status %d", a.name, cmd.ProcessState, calledAs[0])
	}
}

// writeProgram writes an executable file. No other process is started meanwhile: it would hold the file open for writing
// until its exec, and the kernel does not run such a file.
func writeProgram(name string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, content, 0o755)
}

// memoryFile is an executable file without a name.
func memoryFile(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("tiny", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 every such file was executable
		fd, err = unix.MemfdCreate("tiny", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "tiny")
	if _, err := file.Write(content); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
