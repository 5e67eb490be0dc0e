package namespace

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleTime is how long a cancelled context waits for the signal that may have caused it.
	settleTime = 100 * time.Millisecond
	// graceTime is what a cancelled build gets to end by itself.
	graceTime = 10 * time.Second
)

// relay passes signals on to the process inside, each once.
//
// A terminal sends SIGINT and SIGQUIT to every process of its foreground group, so the process inside has already got what we got. Nothing tells
// a signal from the keyboard from one sent with kill(1); so when we are in the foreground the first of them is taken for the keyboard's and is not
// passed on, and any further one is, since by then repeating does no harm.
type relay struct {
	signals chan os.Signal
	done    chan struct{}
	count   atomic.Int32
	running sync.WaitGroup
}

func newRelay() *relay {
	r := &relay{signals: make(chan os.Signal, 8), done: make(chan struct{})}
	signal.Notify(r.signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	return r
}

// start begins passing on to p, also what has come since newRelay.
func (r *relay) start(ctx context.Context, p *os.Process) {
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		r.run(ctx, p)
	}()
}

// stop gives the signals their former effect. It is called after p has been waited for.
func (r *relay) stop() {
	signal.Stop(r.signals)
	close(r.done)
	r.running.Wait()
}

// heard reports whether any signal came.
func (r *relay) heard() bool { return r.count.Load() > 0 }

func (r *relay) run(ctx context.Context, p *os.Process) {
	cancelled := ctx.Done()
	var settled, over <-chan time.Time
	for {
		// An error of Signal means that p is gone, which is what run waits for anyway.
		select {
		case s := <-r.signals:
			if r.count.Add(1) > 1 || !fromKeyboard(s) {
				p.Signal(s)
			}
		case <-cancelled:
			cancelled, settled, over = nil, time.After(settleTime), time.After(graceTime)
		case <-settled:
			if !r.heard() {
				p.Signal(syscall.SIGTERM)
			}
		case <-over:
			p.Kill()
		case <-r.done:
			return
		}
	}
}

// fromKeyboard reports whether s may have come from the terminal to our whole process group.
func fromKeyboard(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false // no controlling terminal
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
