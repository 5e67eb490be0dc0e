package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// skip ends a script as skipped, saying what this machine lacks.
func skip(ts *testscript.TestScript, reason string) {
	siteOf(ts).t.Skip(reason)
}

// needs WHAT...: skip the script, saying what was found, unless this machine has
// all of: userns (user namespaces), subids (subordinate ids and newuidmap),
// emulation (QEMU for $FOREIGN and a way to register it), a program's name.
func cmdNeeds(ts *testscript.TestScript, neg bool, args []string) {
	for _, what := range args {
		var lacks string
		switch what {
		case "userns":
			lacks = lacksUserns()
		case "subids":
			lacks = lacksSubids()
		case "emulation":
			lacks = lacksEmulation()
		default:
			if _, err := exec.LookPath(what); err != nil {
				if _, err := exec.LookPath(filepath.Join("/usr/sbin", what)); err != nil {
					lacks = "the program " + what
				}
			}
		}
		if lacks != "" {
			skip(ts, "this machine lacks "+lacks)
		}
	}
}

func lacksUserns() string {
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").CombinedOutput(); err != nil {
		return fmt.Sprintf("user namespaces: unshare: %v: %s", err, strings.TrimSpace(string(out)))
	}
	return ""
}

func lacksSubids() string {
	if lacks := lacksUserns(); lacks != "" || os.Getuid() == 0 {
		return lacks
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return "newuidmap (Debian package uidmap)"
	}
	me, err := user.Current()
	if err != nil {
		return err.Error()
	}
	f, err := os.Open("/etc/subuid")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), me.Username+":") || strings.HasPrefix(s.Text(), me.Uid+":") {
			return ""
		}
	}
	return "subordinate ids for " + me.Username + " in /etc/subuid"
}

// lacksEmulation says why programs for the foreign platform cannot be run here. It
// knows of binfmt_misc mounts in user namespaces (Linux 6.7) and of the host's own
// table.
func lacksEmulation() string {
	qemu := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[foreign()]
	if _, err := exec.LookPath(qemu + "-static"); err != nil {
		return qemu + "-static (Debian package qemu-user-static)"
	}
	if _, err := os.Stat("/proc/sys/fs/binfmt_misc/" + qemu); err == nil {
		return ""
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 7 {
		return "a binfmt_misc handler for " + foreign() + ", and its kernel " + release + " has no binfmt_misc in user namespaces (6.7 has)"
	}
	return ""
}

func match(pattern, s string) (bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false, err
	}
	return re.MatchString(s), nil
}
