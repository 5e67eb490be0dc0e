package progress

import (
	"bytes"
	"io"
	"sync"
)

// quiet shows nothing before Close, and then only what a failed step said last.
type quiet struct {
	mu     sync.Mutex
	out    sink
	book   *book
	closed bool
}

func newQuiet(w io.Writer, color bool) *quiet {
	return &quiet{out: sink{w: w}, book: newBook(color, tailLines)}
}

func (d *quiet) Handle(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || e.Step == "" {
		return
	}
	e = e.withTime()
	ignore := func(stamped) {}
	switch e.Kind {
	case Started:
		d.book.step(e)
	case Output:
		d.book.output(d.book.step(e), e, ignore)
	case Cached, Done, Failed, Canceled:
		d.book.finish(d.book.step(e), e, ignore)
	}
}

func (d *quiet) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		var b bytes.Buffer
		d.book.failures(&b)
		d.out.write(b.Bytes())
	}
	return d.out.err
}
