package namespace

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// helpers are newuidmap(1) and newgidmap(1), which write the maps of a process of ours for us, by the right of /etc/subuid and /etc/subgid.
type helpers struct{ uid, gid string }

func findHelpers(path string) (*helpers, *Unavailable) {
	if path == "" {
		// A stripped environment is no reason to go without: this is where the package puts them.
		path = os.Getenv("PATH") + ":/usr/bin"
	}
	h := &helpers{uid: look(path, "newuidmap"), gid: look(path, "newgidmap")}
	var missing []string
	if h.uid == "" {
		missing = append(missing, "newuidmap")
	}
	if h.gid == "" {
		missing = append(missing, "newgidmap")
	}
	if missing != nil {
		return nil, &Unavailable{
			Reason: strings.Join(missing, " and ") + " not found in " + path,
			Hint:   "sudo apt-get install uidmap (Debian, Ubuntu), sudo dnf install shadow-utils (Fedora), apk add shadow-uidmap (Alpine)",
		}
	}
	return h, nil
}

// look finds an executable file by name in a list of directories.
func look(path, name string) string {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && filepath.IsAbs(file) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// write maps the ids of process pid. Both helpers work at the same time.
func (h *helpers) write(pid int, p plan, evidence host) *Unavailable {
	uid, gid := mapCommand(h.uid, pid, p.uids), mapCommand(h.gid, pid, p.gids)
	done := make(chan error, 1)
	go func() { done <- gid.Run() }()
	uidErr := uid.Run()
	gidErr := <-done
	if uidErr != nil {
		return evidence.explainHelper(uid, uidErr)
	}
	if gidErr != nil {
		return evidence.explainHelper(gid, gidErr)
	}
	return nil
}

func mapCommand(path string, pid int, m []user.IDMap) *exec.Cmd {
	args := []string{strconv.Itoa(pid)}
	for _, r := range m {
		for _, n := range []int64{r.ID, r.ParentID, r.Count} {
			args = append(args, strconv.FormatInt(n, 10))
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// privilege says by what right a helper could act.
type privilege struct{ setuid, fileCaps, nosuid bool }

func privilegeOf(path string) (p privilege) {
	if info, err := os.Stat(path); err == nil {
		p.setuid = info.Mode()&os.ModeSetuid != 0
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	p.fileCaps = err == nil && n > 0
	var s unix.Statfs_t
	p.nosuid = unix.Statfs(path, &s) == nil && s.Flags&unix.ST_NOSUID != 0
	return p
}
