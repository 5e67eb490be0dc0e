package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// unpacker is the sink that makes files of a layer while it is scanned, in the
// form overlayfs wants for a lower directory. Contents of regular files are
// written as they come, small ones by several goroutines; everything that has
// none waits for finish, when the table is in normal form.
//
// Whiteouts become character devices 0:0, opaque markers an xattr. Ids are
// taken as the current user namespace maps them. Extended attributes the
// kernel does not let us set are left out on disk (the table keeps them).
// Device nodes cannot be made in a user namespace: where that is so a whiteout
// takes their place, so that at least nothing of a lower layer shows there.
type unpacker struct {
	dir  string // temporary, ours
	to   string // its name when it is finished
	root dirFD
	sums bool            // digests of contents are wanted
	made map[string]bool // directories that exist already
	ctx  context.Context // of the scan: ends the workers

	jobs    chan job
	pending sync.WaitGroup // jobs handed out
	workers sync.WaitGroup
	mu      sync.Mutex
	err     error // first one of a worker
	ended   bool
	buf     []byte
}

// job is one small file.
type job struct {
	where string
	node  *inode
	data  *bytes.Buffer
}

const (
	smallFile = 256 << 10 // up to this size a file is handed to a worker
	queued    = 32        // files waiting for a worker
)

// newUnpacker unpacks into a directory in tmp and renames it to to at the end.
func newUnpacker(ctx context.Context, tmp, to string, sums bool) (*unpacker, error) {
	dir, err := os.MkdirTemp(tmp, "diff-*")
	if err != nil {
		return nil, err
	}
	root, err := openDir(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	u := &unpacker{dir: dir, to: to, root: root, sums: sums, ctx: ctx, made: map[string]bool{".": true}, jobs: make(chan job, queued)}
	for range runtime.GOMAXPROCS(0) {
		u.workers.Go(u.work)
	}
	return u, nil
}

// buffers are shared by all unpackers: what one does not need another may.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (u *unpacker) work() {
	for j := range u.jobs {
		if u.failed() == nil {
			if err := u.small(j); err != nil {
				u.fail(err)
			}
		}
		j.data.Reset()
		buffers.Put(j.data)
		u.pending.Done()
	}
}

func (u *unpacker) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *unpacker) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = &localError{fmt.Errorf("unpack: %w", err)}
	}
}

// flush waits until everything handed out is on disk.
func (u *unpacker) flush() error {
	u.pending.Wait()
	return u.failed()
}

// wait ends the workers.
func (u *unpacker) wait() error {
	if !u.ended {
		u.ended = true
		close(u.jobs)
		u.workers.Wait()
	}
	return u.failed()
}

// abort drops what was not finished.
func (u *unpacker) abort() {
	_ = u.wait()
	u.root.close()
	_ = os.RemoveAll(u.dir)
}

func (u *unpacker) file(where string, node *inode, content io.Reader) error {
	if err := u.failed(); err != nil {
		return err
	}
	if err := u.parents(where); err != nil {
		return err
	}
	if node.size > smallFile {
		return u.large(where, node, content)
	}
	data := buffers.Get().(*bytes.Buffer)
	data.Grow(int(node.size) + bytes.MinRead + 1)
	if _, err := data.ReadFrom(io.LimitReader(content, node.size+1)); err != nil {
		return err
	}
	u.pending.Add(1)
	u.jobs <- job{where, node, data}
	return nil
}

func (u *unpacker) link(target, where string) error {
	if err := u.flush(); err != nil {
		return err
	}
	if err := u.parents(where); err != nil {
		return err
	}
	return u.local(u.linkNow(target, where))
}

func (u *unpacker) linkNow(target, where string) error {
	return u.in(target, func(from dirFD, name string) error {
		return u.in(where, func(to dirFD, toName string) error { return from.link(name, to, toName) })
	})
}

func (u *unpacker) remove(where string) error {
	if err := u.flush(); err != nil {
		return err
	}
	clear(u.made)
	u.made["."] = true
	root, err := os.OpenRoot(u.dir)
	if err != nil {
		return u.local(err)
	}
	defer root.Close()
	return u.local(root.RemoveAll(where))
}

func (u *unpacker) local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{fmt.Errorf("unpack: %w", err)}
}

// parents makes the directories above where, for now for us alone.
func (u *unpacker) parents(where string) error {
	return u.local(u.mkdirAll(parentOf(where)))
}

func (u *unpacker) mkdirAll(dir string) error {
	if u.made[dir] {
		return nil
	}
	if err := u.mkdirAll(parentOf(dir)); err != nil {
		return err
	}
	err := u.in(dir, func(d dirFD, name string) error { return d.mkdir(name, 0o700) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	u.made[dir] = true
	return nil
}

func parentOf(p string) string {
	dir, _ := splitPath(p)
	return dir
}

// in runs f on the directory that has p, and the name p has there.
func (u *unpacker) in(p string, f func(dirFD, string) error) error {
	dir, name := splitPath(p)
	if dir == "." {
		return f(u.root, name)
	}
	fd, err := u.root.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dirFD(fd).close()
	return f(dirFD(fd), name)
}

func (u *unpacker) create(where string) (int, error) {
	return u.root.open(where, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
}

func (u *unpacker) small(j job) (err error) {
	if u.sums {
		sum := sha256.Sum256(j.data.Bytes())
		j.node.sum = string(sum[:])
	}
	fd, err := u.create(j.where)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pathErr("close", j.where, unix.Close(fd))) }()
	if err := writeAll(fd, j.data.Bytes()); err != nil {
		return pathErr("write", j.where, err)
	}
	return setMetadata(fd, j.where, &j.node.record)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, data) })
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// large writes a file as it comes. Blocks of zeros become holes.
func (u *unpacker) large(where string, node *inode, content io.Reader) error {
	fd, err := u.create(where)
	if err != nil {
		return u.local(err)
	}
	defer unix.Close(fd)
	if u.buf == nil {
		u.buf = make([]byte, copyBuffer)
	}
	h := sha256.New()
	for at := int64(0); at < node.size; {
		b := fill(content, u.buf[:min(node.size-at, copyBuffer)])
		if u.sums {
			h.Write(b.data)
		}
		if !allZero(b.data) {
			if _, err := unix.Pwrite(fd, b.data, at); err != nil {
				return u.local(pathErr("write", where, err))
			}
		}
		if at += int64(len(b.data)); b.err == io.EOF && at < node.size {
			return io.ErrUnexpectedEOF
		} else if b.err != nil && b.err != io.EOF {
			return b.err
		}
	}
	node.sum = string(h.Sum(nil))
	if err := unix.Ftruncate(fd, node.size); err != nil {
		return u.local(pathErr("truncate", where, err))
	}
	return u.local(setMetadata(fd, where, &node.record))
}

// zeros is what a hole reads as.
var zeros [copyBuffer]byte

func allZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// setMetadata gives an open file its owner, mode, xattrs and time. The order
// matters: chown clears set-user-ID bits and capabilities.
func setMetadata(fd int, where string, r *record) error {
	if err := unix.Fchown(fd, int(r.uid), int(r.gid)); err != nil {
		return ownerError(where, r, err)
	}
	if err := unix.Fchmod(fd, r.mode); err != nil {
		return pathErr("chmod", where, err)
	}
	for _, x := range r.xattrs {
		if err := tolerable(unix.Fsetxattr(fd, x.key, []byte(x.value), 0)); err != nil {
			return pathErr("setxattr "+x.key, where, err)
		}
	}
	t, err := unix.TimeToTimespec(r.modTime())
	if err == nil {
		err = futimes(fd, t)
	}
	return pathErr("utimes", where, err)
}

// tolerable forgives that an xattr cannot be set here.
func tolerable(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// IDError is returned when a layer has a file of an owner that the user
// namespace of this process does not map.
type IDError struct {
	Path     string
	UID, GID int
	Maps     string // what is mapped, for messages
}

// Error implements error.
func (e *IDError) Error() string {
	return fmt.Sprintf("%s: owner %d:%d is not mapped here (%s)", e.Path, e.UID, e.GID, e.Maps)
}

// Hint says what to do about it.
func (e *IDError) Hint() string {
	return fmt.Sprintf("give this user a range of more than %d ids in /etc/subuid and /etc/subgid", max(e.UID, e.GID))
}

func ownerError(where string, r *record, err error) error {
	if errors.Is(err, unix.EINVAL) {
		return &IDError{Path: where, UID: int(r.uid), GID: int(r.gid), Maps: mappedIDs()}
	}
	return pathErr(fmt.Sprintf("chown %d:%d", r.uid, r.gid), where, err)
}

// mappedIDs describes the id maps in one line.
func mappedIDs() string {
	var out []string
	for _, kind := range []string{"uid", "gid"} {
		text, err := os.ReadFile("/proc/self/" + kind + "_map")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var inside, outside, n int64
			if _, err := fmt.Sscan(line, &inside, &outside, &n); err == nil {
				out = append(out, fmt.Sprintf("%ss %d-%d", kind, inside, inside+n-1))
			}
		}
	}
	return strings.Join(out, ", ")
}
