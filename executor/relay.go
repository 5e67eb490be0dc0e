package executor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"mbuild/dockerfile"
)

// relay is a socket that passes connections on to another one.
type relay struct {
	dir      string
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
	work  sync.WaitGroup
}

const relaySocket = "agent"

// newRelay listens in a new directory below dir and passes connections on to the
// socket to. Close ends it.
func newRelay(dir, to string, mount dockerfile.Mount) (_ *relay, err error) {
	r := &relay{to: to, conns: map[net.Conn]bool{}}
	if r.dir, err = os.MkdirTemp(dir, "ssh-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(r.dir))
		}
	}()
	// The address of a socket holds 107 bytes; the path by way of a descriptor always fits.
	at, err := os.Open(r.dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", at.Fd(), relaySocket)})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	r.listener = listener
	err = os.Chown(r.path(), orDefault(mount.UID, 0), orDefault(mount.GID, 0))
	if err == nil {
		err = os.Chmod(r.path(), os.FileMode(orDefault(mount.Mode, 0o600)))
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	r.work.Go(r.accept)
	return r, nil
}

func (r *relay) path() string { return filepath.Join(r.dir, relaySocket) }

// Close ends all connections and removes the socket.
func (r *relay) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	for c := range r.conns {
		c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.work.Wait()
	return errors.Join(err, os.RemoveAll(r.dir))
}

func (r *relay) accept() {
	for {
		from, err := r.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("unix", r.to)
		if err != nil || !r.add(from, to) {
			from.Close()
			continue
		}
		r.work.Go(func() { pass(from, to) })
		r.work.Go(func() { pass(to, from) })
	}
}

// add takes connections into the set that Close ends. It reports false, and closes to,
// when the relay is closed already.
func (r *relay) add(from, to net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		to.Close()
		return false
	}
	r.conns[from], r.conns[to] = true, true
	return true
}

// pass copies one direction; its end is the end of both.
func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from) // a connection that breaks has ended
	from.Close()
	to.Close()
}
