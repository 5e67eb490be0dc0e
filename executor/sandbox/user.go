package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxAccounts bounds /etc/passwd and /etc/group of an image.
const maxAccounts = 10 << 20

// account is a resolved USER.
type account struct {
	identity
	home string
}

// lookupUser resolves spec in the account files of the root filesystem root.
func lookupUser(root, spec string, maps idMaps) (account, error) {
	if spec == "" {
		spec = "0"
	}
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return account{}, err
	}
	defer dir.Close()
	passwd, err := readAccounts(dir, "etc/passwd")
	if err != nil {
		return account{}, err
	}
	group, err := readAccounts(dir, "etc/group")
	if err != nil {
		return account{}, err
	}
	// The defaults hold for a uid without an entry.
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return account{}, err
	}
	a := account{home: u.Home, identity: identity{UID: u.Uid, GID: u.Gid, SetGroups: maps.setGroups}}
	if a.home == "" {
		a.home = "/"
	}
	if maps.setGroups { // the primary group is one of them, as other builders have it
		a.Groups = append([]int{u.Gid}, slices.DeleteFunc(u.Sgids, func(gid int) bool { return gid == u.Gid })...)
	}
	if err := maps.check(a.UID, append([]int{a.GID}, a.Groups...)...); err != nil {
		return account{}, err
	}
	return a, nil
}

// readAccounts gives the content of a file below root, empty when there is none.
func readAccounts(root *os.File, name string) (io.Reader, error) {
	f, err := openRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return bytes.NewReader(nil), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAccounts {
		return nil, fmt.Errorf("/%s is larger than %d bytes", name, maxAccounts)
	}
	return bytes.NewReader(data), nil
}

// openRegular opens a file for reading without leaving root and without ever opening anything but a regular file: opening
// a device or a pipe can have effects of its own.
func openRegular(root *os.File, name string) (*os.File, error) {
	fd, err := openInRoot(int(root.Fd()), name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/" + name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: "/" + name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("/%s is not a regular file", name)
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// openInRoot gives a descriptor (O_PATH) for name inside the directory root; links in it do not lead out.
func openInRoot(root int, name string) (int, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	// EAGAIN: something was renamed meanwhile and the kernel could not be sure that ".." stayed inside.
	const attempts = 64
	for range attempts {
		fd, err := unix.Openat2(root, firstOf(strings.TrimLeft(name, "/"), "."), how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}
