package executor

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"mbuild/dockerfile"
)

func TestCacheMountSharing(t *testing.T) {
	c := newCacheMounts(t.TempDir())
	take := func(id, sharing string) *cacheLock {
		t.Helper()
		l, err := c.open(t.Context(), id, sharing)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	one, two := take("a", "shared"), take("a", "shared")
	if one.dir != two.dir {
		t.Error("shared: two users have two directories")
	}
	if other := take("b", "shared"); other.dir == one.dir {
		t.Error("two ids have one directory")
	}
	first, second := take("p", "private"), take("p", "private")
	if first.dir == second.dir {
		t.Error("private: two users have one directory")
	}
	first.Close()
	if again := take("p", "private"); again.dir != first.dir {
		t.Error("private: a directory that is free again is not used")
	}
}

func TestLockedCacheMountWaits(t *testing.T) {
	c := newCacheMounts(t.TempDir())
	first, err := c.open(t.Context(), "a", "locked")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.open(ctx, "a", "locked"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second user: got %v, want to wait until the deadline", err)
	}
	first.Close()
	second, err := c.open(t.Context(), "a", "locked")
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestRelayPassesBothWays(t *testing.T) {
	agent := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", agent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c, buf); err == nil {
			_, _ = c.Write(append([]byte("re:"), buf...))
		}
	}()
	mode := uint32(0o660)
	r, err := newRelay(t.TempDir(), agent, dockerfile.Mount{Mode: &mode})
	if err != nil {
		t.Skipf("chown to 0:0 needs a namespace or root: %v", err)
	}
	c, err := net.Dial("unix", r.path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "re:ping" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", r.path()); err == nil {
		t.Error("the socket is still there after Close")
	}
}
