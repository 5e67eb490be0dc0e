package emulation

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

// matches is what fs/binfmt_misc.c does with magic and mask.
func (a *arch) matches(program []byte) bool {
	magic, mask := a.magic()
	for i := range magic {
		if (program[i]^magic[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}

func TestEachMagicMatchesItsOwnProgramsAndNoOthers(t *testing.T) {
	for _, a := range architectures() {
		for _, b := range architectures() {
			if got := a.matches(b.tiny()); got != (a.name == b.name) {
				t.Errorf("magic of %s, program for %s: got %v", a.name, b.name, got)
			}
		}
	}
}

func TestWhatTheMagicLooksAt(t *testing.T) {
	for _, a := range architectures() {
		change := func(offset int, value byte) []byte {
			p := bytes.Clone(a.tiny())
			p[offset] = value
			return p
		}
		typeByte := 16 // the byte of e_type that has the value
		if a.order.Uint16([]byte{0, 1}) == 1 {
			typeByte = 17
		}
		for _, c := range []struct {
			rule    string
			program []byte
			want    bool
		}{
			{"shared objects (position-independent programs) run", change(typeByte, 3), true},
			{"relocatable files do not", change(typeByte, 1), false},
			{"core dumps do not", change(typeByte, 4), false},
			{"the ABI may be GNU", change(7, 3), true},
			{"the ABI may have a version", change(8, 1), true},
			{"padding may be used, as AppImage does", change(9, 'I'), true},
			{"the class counts", change(4, a.tiny()[4]^3), false},
			{"the byte order counts", change(5, a.tiny()[5]^3), false},
			{"it must be ELF", change(0, '#'), false},
		} {
			if got := a.matches(c.program); got != c.want {
				t.Errorf("%s: not true: %s", a.name, c.rule)
			}
		}
	}
}

func TestEntriesForTheRegisterFile(t *testing.T) {
	arm64 := archByName("arm64")
	const magic = `\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`
	const mask = `\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff`
	for _, c := range []struct{ rule, path, want string }{
		{"plain", "/usr/bin/qemu-aarch64-static", ":mbuild-aarch64:M::" + magic + ":" + mask + ":/usr/bin/qemu-aarch64-static:POCF"},
		{"a colon in the path needs another delimiter", "/a:b", "|mbuild-aarch64|M||" + magic + "|" + mask + "|/a:b|POCF"},
		{"a newline cannot be registered", "/a\nb", ""},
		{"nor can a path longer than the kernel's buffer", "/" + strings.Repeat("a", 1900), ""},
	} {
		got, err := arm64.entry(c.path)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: got %q, %v, want %q", c.rule, got, err, c.want)
		}
	}
}

func TestOutsideOfAUserNamespaceThereIsNoTableOfOurOwn(t *testing.T) {
	dir := t.TempDir()
	_, err := newTable(dir, "6.18", func(*table) error { t.Error("filled the host's table"); return nil })
	var e *TableError
	if !errors.Is(err, ErrNoOwnBinfmt) || !errors.As(err, &e) {
		t.Fatalf("got %v, want ErrNoOwnBinfmt", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
