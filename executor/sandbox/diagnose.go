package sandbox

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// headSize is how much of a program is looked at to explain why the kernel would not execute it.
const headSize = 4096

// cannotExecute explains why the file name, which exists, was not executed as program.
func cannotExecute(program, name string, cause error) *ExitError {
	kind := "cannot be read to tell why"
	var h head
	if data, err := readHead(name); err == nil {
		h = parseHead(data)
		kind = h.String()
	}
	switch {
	case cause == unix.ENOENT && h.interpreter != "":
		return &ExitError{Code: 127, Err: fmt.Errorf("exec: %q: its interpreter %s is not in the root filesystem: %w", program, h.interpreter, cause)}
	case cause == unix.ENOENT:
		return &ExitError{Code: 127, Err: fmt.Errorf("exec: %q: its interpreter is not in the root filesystem: %w", program, cause)}
	case cause == unix.ENOEXEC:
		return &ExitError{Code: 126, Err: fmt.Errorf("exec: %q: %w: the file %s; this machine is linux/%s", program, cause, kind, runtime.GOARCH)}
	}
	return &ExitError{Code: 126, Err: fmt.Errorf("exec: %q: %w", program, cause)}
}

func readHead(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, headSize))
}

// head is what the beginning of a file tells about how it is executed.
type head struct {
	empty       bool
	script      bool
	machine     elf.Machine // of an ELF program, else elf.EM_NONE
	interpreter string      // "" when there is none or it is not within headSize
}

func (h head) String() string {
	switch {
	case h.empty:
		return "is empty"
	case h.machine != elf.EM_NONE:
		return fmt.Sprintf("is an ELF program for %s", h.machine)
	case h.script:
		return "is a script"
	}
	return "is neither an ELF program nor a script with a #! line"
}

func parseHead(data []byte) head {
	switch {
	case len(data) == 0:
		return head{empty: true}
	case bytes.HasPrefix(data, []byte("#!")):
		line, _, _ := bytes.Cut(data[2:], []byte("\n"))
		h := head{script: true}
		if fields := bytes.Fields(line); len(fields) > 0 {
			h.interpreter = string(fields[0])
		}
		return h
	case bytes.HasPrefix(data, []byte(elf.ELFMAG)) && len(data) > elf.EI_DATA:
		return parseELF(data)
	}
	return head{}
}

// parseELF reads the machine and the interpreter. debug/elf wants the whole file, and this one is not to be trusted.
func parseELF(data []byte) head {
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(data[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	if elf.Class(data[elf.EI_CLASS]) == elf.ELFCLASS32 {
		var header elf.Header32
		if binary.Read(bytes.NewReader(data), order, &header) != nil {
			return head{}
		}
		h := head{machine: elf.Machine(header.Machine)}
		for i := range int64(header.Phnum) {
			var p elf.Prog32
			if !readAt(data, int64(header.Phoff)+i*int64(header.Phentsize), order, &p) {
				break
			}
			if elf.ProgType(p.Type) == elf.PT_INTERP {
				h.interpreter = cString(data, uint64(p.Off), uint64(p.Filesz))
			}
		}
		return h
	}
	var header elf.Header64
	if binary.Read(bytes.NewReader(data), order, &header) != nil {
		return head{}
	}
	h := head{machine: elf.Machine(header.Machine)}
	for i := range int64(header.Phnum) {
		var p elf.Prog64
		if !readAt(data, int64(header.Phoff)+i*int64(header.Phentsize), order, &p) {
			break
		}
		if elf.ProgType(p.Type) == elf.PT_INTERP {
			h.interpreter = cString(data, p.Off, p.Filesz)
		}
	}
	return h
}

func readAt(data []byte, offset int64, order binary.ByteOrder, to any) bool {
	if offset < 0 || offset > int64(len(data)) {
		return false
	}
	return binary.Read(bytes.NewReader(data[offset:]), order, to) == nil
}

// cString gives the NUL-terminated string at an offset, "" if it is not within data.
func cString(data []byte, offset, size uint64) string {
	if offset > uint64(len(data)) || size > uint64(len(data))-offset {
		return ""
	}
	s, _, _ := bytes.Cut(data[offset:offset+size], []byte{0})
	return string(s)
}
