// Package registry gives tests and the demo registries on loopback: Debian's
// docker-registry as a process, an embedded one in this process, and a proxy
// that makes either misbehave.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	embedded "github.com/google/go-containerregistry/pkg/registry"
)

// ErrMissing means that docker-registry is not installed.
var ErrMissing = errors.New("docker-registry is not installed")

// Server is a running registry. Close it.
type Server struct {
	Addr  string // 127.0.0.1:PORT, plain HTTP
	close func() error
}

// Close stops the registry; nil when it ended as told.
func (s *Server) Close() error { return s.close() }

// Options of Start; the zero value is an open registry.
type Options struct {
	Htpasswd string // lines of an htpasswd file (bcrypt): only these users may read and write
}

const config = `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q, secret: loopback}
`

// Start runs Debian's docker-registry with its state below dir and returns when
// it answers. Errors: ErrMissing.
func Start(ctx context.Context, dir string, o Options) (*Server, error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return nil, ErrMissing
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(config, filepath.Join(dir, "data"), addr)
	if o.Htpasswd != "" {
		users := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(users, []byte(o.Htpasswd), 0o600); err != nil {
			return nil, err
		}
		text += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(program, "serve", file), done: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, err
	}
	if err := p.answers(ctx, addr); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return &Server{Addr: addr, close: p.stop}, nil
}

// Embedded serves a registry in this process: blobs below dir, which is created,
// manifests in memory.
func Embedded(dir string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return serve(embedded.New(embedded.WithBlobHandler(embedded.NewDiskBlobHandler(dir)), embedded.Logger(discard())))
}

// serve runs handler on a free loopback port.
func serve(handler http.Handler) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: handler, ErrorLog: discard(), ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return &Server{Addr: l.Addr().String(), close: func() error {
		err := s.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}}, nil
}

// freeAddr finds a loopback port that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// process is docker-registry; done closes when it ended.
type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer // valid once done is closed
	done chan struct{}
	err  error
	once sync.Once
}

func (p *process) start() error {
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	// Out of the terminal's process group: Ctrl-C in a test is for mbuild alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start docker-registry: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// answers waits until the registry speaks its protocol.
func (p *process) answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + addr + "/v2/"); err == nil {
			return resp.Body.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("docker-registry ended: %v\n%s", p.err, p.said.String())
		case <-ctx.Done():
			return fmt.Errorf("docker-registry does not answer on %s: %w", addr, ctx.Err())
		case <-tick.C:
		}
	}
}

func (p *process) stop() error {
	var err error
	p.once.Do(func() {
		err = p.cmd.Process.Kill()
		<-p.done
	})
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("docker-registry ended by itself: %v\n%s", p.err, p.said.String())
	}
	return err
}
