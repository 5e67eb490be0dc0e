package bases

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// format goes into every key: raise it when the way bases are made changes.
const format = "2"

// Cache is a directory of finished bases, shared by all runs of one user.
type Cache struct{ Dir string }

// DefaultCache is $MBUILD_TEST_CACHE, else mbuild-test in the user's cache
// directory, else below the temporary directory.
func DefaultCache() Cache {
	if d := os.Getenv("MBUILD_TEST_CACHE"); d != "" {
		return Cache{d}
	}
	d, err := os.UserCacheDir()
	if err != nil {
		d = os.TempDir()
	}
	return Cache{filepath.Join(d, "mbuild-test")}
}

// key names what is made from the given inputs.
func key(kind string, inputs ...string) string {
	h := sha256.New()
	for _, s := range append([]string{format, kind}, inputs...) {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return kind + "-" + hex.EncodeToString(h.Sum(nil))[:16]
}

// lock makes the cache ours until the returned function is called: two test
// runs must not run apt-get in the same state directory at once.
func (c Cache) lock() (unlock func(), err error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// get returns the directory called name, made by the given function when it is
// not there. A directory that exists is whole: it is made beside and renamed.
func (c Cache) get(name string, make func(dir string) error) (string, error) {
	dir := filepath.Join(c.Dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	tmp, err := os.MkdirTemp(c.Dir, "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "new")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return "", err
	}
	if err := make(fresh); err != nil {
		return "", err
	}
	return dir, os.Rename(fresh, dir)
}
