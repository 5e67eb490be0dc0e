package namespace

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host reads the evidence that explanations rest on. The zero value reads the real files; tests put others below root.
type host struct{ root string }

func (h host) path(p string) string { return filepath.Join("/", h.root, p) }

// read is the trimmed content of a small file, empty when there is none.
func (h host) read(p string) string {
	data, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return strings.Trim(string(data), " \t\r\n\x00")
}

func (h host) sysctl(name string) string { return h.read("/proc/sys/" + name) }

// status is a field of /proc/self/status.
func (h host) status(field string) string {
	for line := range strings.Lines(h.read("/proc/self/status")) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// lacking are those of the capabilities that are not in effect.
func (h host) lacking(names ...string) (missing []string) {
	numbers := map[string]int{"CAP_SETUID": unix.CAP_SETUID, "CAP_SETGID": unix.CAP_SETGID, "CAP_SETFCAP": unix.CAP_SETFCAP}
	for _, name := range names {
		if !h.capability("CapEff", numbers[name]) {
			missing = append(missing, name)
		}
	}
	return missing
}

// bounded reports whether the limit of what a setuid program can get includes the capability.
func (h host) bounded(c int) bool { return h.capability("CapBnd", c) }

func (h host) capability(set string, c int) bool {
	mask, err := strconv.ParseUint(h.status(set), 16, 64)
	return err == nil && mask&(1<<c) != 0
}

// apparmor is the name of the profile that confines us, empty without AppArmor.
func (h host) apparmor() string {
	profile := h.read("/proc/self/attr/apparmor/current")
	if profile == "" && h.sysctl("kernel/apparmor_restrict_unprivileged_userns") != "" {
		profile = h.read("/proc/self/attr/current") // before Linux 5.8 the only place, shared with SELinux
	}
	name, _, _ := strings.Cut(profile, " (")
	return name
}
