package snapshot

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrReader reads the extended attributes of one file.
type xattrReader struct {
	list func([]byte) (int, error)
	get  func(string, []byte) (int, error)
}

func fdXattrs(fd int) xattrReader {
	return xattrReader{
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(k string, b []byte) (int, error) { return unix.Fgetxattr(fd, k, b) },
	}
}

// pathXattrs is for files that cannot be opened. It follows no symlink at the end.
func pathXattrs(name string) xattrReader {
	return xattrReader{
		func(b []byte) (int, error) { return unix.Llistxattr(name, b) },
		func(k string, b []byte) (int, error) { return unix.Lgetxattr(name, k, b) },
	}
}

// all returns every attribute this process may see.
func (x xattrReader) all() (map[string]string, error) {
	var small [256]byte
	n, err := x.list(small[:])
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	list, err := grow(x.list)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for key := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return x.get(key, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[key] = string(value)
	}
	return all, nil
}

// grow calls f with a buffer that is large enough.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := f(buf)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

func (e *Entry) set(key, value string) {
	if e.Xattrs == nil {
		e.Xattrs = make(map[string]string)
	}
	e.Xattrs[key] = value
}

// unsettable names the attributes that need privilege outside of any user namespace.
func unsettable(key string) bool {
	return strings.HasPrefix(key, "trusted.") || strings.HasPrefix(key, "security.") && key != "security.capability"
}
