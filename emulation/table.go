package emulation

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoOwnBinfmt is what every *TableError is: the kernel gives us no binfmt_misc table of our own.
var ErrNoOwnBinfmt = errors.New("no binfmt_misc table of our own")

// TableError says why there is no table of our own.
type TableError struct {
	Reason string
	Hint   string // empty when nothing is known to help
	Err    error  // the kernel's, nil when we did not ask it
}

// Error is the reason in one line.
func (e *TableError) Error() string { return ErrNoOwnBinfmt.Error() + ": " + e.Reason }

// Is makes errors.Is(err, ErrNoOwnBinfmt) true.
func (e *TableError) Is(target error) bool { return target == ErrNoOwnBinfmt }

// Unwrap is the kernel's error.
func (e *TableError) Unwrap() error { return e.Err }

// table is a binfmt_misc of our user namespace. It lives as long as root is open: the mount itself is nowhere to be seen.
type table struct{ root *os.File }

// Close removes the table with all its entries. Programs that are running go on.
func (t *table) Close() error { return t.root.Close() }

// initialUserNamespace is the inode of the first user namespace of every kernel (PROC_USER_INIT_INO in include/linux/proc_ns.h).
const initialUserNamespace = 0xEFFFFFFD

// newTable mounts a fresh table and lets fill write to it, while it is mounted below dir.
func newTable(dir, release string, fill func(*table) error) (made *table, err error) {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &ns); err != nil {
		return nil, &TableError{Reason: fmt.Sprintf("cannot tell the user namespace: %v", err), Err: err}
	}
	if ns.Ino == initialUserNamespace {
		return nil, &TableError{Reason: "outside of a user namespace the table would be the host's"}
	}
	point, err := os.MkdirTemp(dir, "binfmt-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(point)
	if err := unix.Mount("binfmt_misc", point, "binfmt_misc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, explainMount(err, release)
	}
	defer func() {
		if e := unix.Unmount(point, unix.MNT_DETACH); err == nil && e != nil {
			err = errors.Join(os.NewSyscallError("unmounting binfmt_misc", e), made.Close())
			made = nil
		}
	}()
	root, err := os.OpenFile(point, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	t := &table{root}
	if err := t.fresh(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := fill(t); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return t, nil
}

func explainMount(err error, release string) error {
	e := &TableError{Reason: fmt.Sprintf("mounting binfmt_misc: %v (Linux %s)", err, release), Err: err}
	switch {
	case errors.Is(err, unix.ENODEV):
		e.Hint = "sudo modprobe binfmt_misc"
	case errors.Is(err, unix.EPERM) && !tablesInUserNamespaces(release):
		e.Reason = fmt.Sprintf("Linux %s has none for user namespaces, 6.7 has", release)
		e.Hint = "on the host: sudo apt-get install qemu-user-static"
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		e.Hint = "mbuild doctor says whether mounts are allowed here"
	}
	return e
}

// fresh makes sure that the table is a binfmt_misc without any entry: nobody else's.
func (t *table) fresh() error {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(t.root.Fd()), &s); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if s.Type != unix.BINFMTFS_MAGIC {
		return &TableError{Reason: fmt.Sprintf("the mount is of type %#x, want binfmt_misc (%#x)", s.Type, unix.BINFMTFS_MAGIC)}
	}
	names, err := t.root.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("listing binfmt_misc: %w", err)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"register", "status"}) {
		return &TableError{Reason: fmt.Sprintf("this user namespace has a table already, with %s", strings.Join(names, ", "))}
	}
	return nil
}

// register enters an emulator. The kernel opens it now (F), so that it need not exist in any root filesystem; it hands on
// argv[0] (P), and gives setuid programs their rights (C, which implies O).
func (t *table) register(a *arch, emulator string) error {
	line, err := a.entry(emulator)
	if err != nil {
		return err
	}
	if err := t.write(line); err != nil {
		return fmt.Errorf("registering %s for %s programs: %w", emulator, a.name, err)
	}
	return nil
}

func (t *table) write(line string) error {
	fd, err := unix.Openat(int(t.root.Fd()), "register", unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "binfmt_misc/register", Err: err}
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(line))
	return os.NewSyscallError("write", err)
}

// entry is what is written to the register file: :name:M:offset:magic:mask:interpreter:flags with any delimiter
// (Documentation/admin-guide/binfmt-misc.rst).
func (a *arch) entry(emulator string) (string, error) {
	const longest = 1920 // MAX_REGISTER_LENGTH in fs/binfmt_misc.c
	magic, mask := a.magic()
	for _, d := range []string{":", "|", "!", ","} {
		if strings.Contains(emulator, d) || strings.Contains(emulator, "\n") {
			continue
		}
		line := strings.Join([]string{"", "mbuild-" + a.qemu, "M", "", escape(magic), escape(mask), emulator, "POCF"}, d)
		if len(line) <= longest {
			return line, nil
		}
	}
	return "", fmt.Errorf("the path of the emulator %q cannot be registered: move it to a plain one", emulator)
}

// magic is how the kernel recognises a's programs: the first bytes of the file, as far as mask has bits. What the kernel's own loader looks at
// counts: class, byte order, executable or shared object (e_type 2 or 3), machine. The ABI's name and version and the padding after them do not:
// programs of one machine differ there. The values are those of the ELF specification; QEMU's scripts/qemu-binfmt-conf.sh has the same with less freedom.
func (a *arch) magic() (magic, mask []byte) {
	ident := a.ident()
	magic = a.order.AppendUint16(ident[:], uint16(elf.ET_EXEC))
	magic = a.order.AppendUint16(magic, uint16(a.machine))
	mask = make([]byte, len(magic))
	for i := range elf.EI_OSABI {
		mask[i] = 0xff
	}
	a.order.PutUint16(mask[elf.EI_NIDENT:], 0xfffe)
	a.order.PutUint16(mask[elf.EI_NIDENT+2:], 0xffff)
	return magic, mask
}

func escape(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}
