package emulation

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Options says where emulators are looked for. The zero value looks in $PATH only.
type Options struct {
	// Emulators maps an architecture, by its Go or QEMU name, to an emulator (--emulator, see ParseEmulators). It is used or
	// complained about; for its architecture nothing else is looked for.
	Emulators map[string]string
	// Dir is searched before Path: the directory of the mbuild binary. Empty: none.
	Dir string
	// Path is a list like $PATH. Empty: the environment's.
	Path string
}

// ParseEmulators reads the values of --emulator, each ARCH=PATH with a Go or QEMU name of the architecture, and checks every file.
// The keys of the result are Go names, the paths absolute.
func ParseEmulators(values []string) (map[string]string, error) {
	emulators := map[string]string{}
	for _, v := range values {
		name, path, ok := strings.Cut(v, "=")
		a := archByName(strings.TrimPrefix(name, "linux/"))
		switch {
		case !ok || path == "":
			return nil, fmt.Errorf("emulator %q: want ARCH=PATH, such as arm64=/usr/bin/qemu-aarch64-static", v)
		case a == nil:
			return nil, fmt.Errorf("emulator %q: unknown architecture %q", v, name)
		case a.isHost():
			return nil, fmt.Errorf("emulator %q: %s is this machine's own architecture", v, a.name)
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("emulator %q: %w", v, err)
		}
		if err := usable(path); err != nil {
			return nil, fmt.Errorf("emulator %q: %w", v, err)
		}
		emulators[a.name] = path
	}
	return emulators, nil
}

// emulator finds a usable QEMU for a. The error of an unusable one is only returned when there is no other; fs.ErrNotExist: there is none at all.
func (o Options) emulator(a *arch) (path string, err error) {
	for _, name := range []string{a.name, a.qemu} {
		if path := o.Emulators[name]; path != "" {
			return path, usable(path)
		}
	}
	err = fs.ErrNotExist
	for _, path := range o.candidates(a) {
		switch e := usable(path); {
		case e == nil:
			return path, nil
		case errors.Is(e, fs.ErrNotExist):
		case errors.Is(err, fs.ErrNotExist):
			err = e
		}
	}
	return "", err
}

func (o Options) candidates(a *arch) (paths []string) {
	path := o.Path
	if path == "" {
		path = os.Getenv("PATH")
	}
	for _, dir := range append([]string{o.Dir}, filepath.SplitList(path)...) {
		if filepath.IsAbs(dir) { // a relative one would mean another file in each step
			paths = append(paths, filepath.Join(dir, "qemu-"+a.qemu+"-static"), filepath.Join(dir, "qemu-"+a.qemu))
		}
	}
	return paths
}

// usable reports why the file at path cannot emulate inside a root filesystem that is not its own: it must be an executable for this
// machine that is linked statically, because there the kernel still has the emulator open but not the libraries it would ask for.
func usable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is not an ELF program: %v", path, err)
	}
	defer file.Close()
	if host := archByName(runtime.GOARCH); host != nil && (file.Machine != host.machine || file.Class != host.class) {
		return fmt.Errorf("%s is a program for %v, not for this machine", path, file.Machine)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically: inside a root filesystem its libraries are missing", path)
		}
	}
	return nil
}
