package snapshot

import (
	"errors"
	"io"
	"sync"
)

// readahead reads its source in a goroutine, some blocks ahead of its reader,
// so that what makes the bytes and what uses them run side by side.
type readahead struct {
	full    chan block
	empty   chan []byte
	stop    chan struct{}
	once    sync.Once
	done    sync.WaitGroup
	cur     block // being read
	at      int   // next byte of cur.data
	release func()
}

// block is a piece of the source and the error that came after it.
type block struct {
	data []byte
	err  error
}

const (
	readaheadBlocks = 4
	readaheadBlock  = 256 << 10
)

// newReadahead starts reading r. release, if any, is called when r is not used
// any more. The caller must call Close, which waits for the goroutine.
func newReadahead(r io.Reader, release func()) *readahead {
	a := &readahead{full: make(chan block, readaheadBlocks), empty: make(chan []byte, readaheadBlocks), stop: make(chan struct{}), release: release}
	for range readaheadBlocks {
		a.empty <- nil // allocated when first used: most layers are small
	}
	a.done.Go(func() { a.run(r) })
	return a
}

func (a *readahead) run(r io.Reader) {
	for {
		var buf []byte
		select {
		case <-a.stop:
			return
		case buf = <-a.empty:
		}
		if buf == nil {
			buf = make([]byte, readaheadBlock)
		}
		b := fill(r, buf[:readaheadBlock])
		select {
		case <-a.stop:
			return
		case a.full <- b:
		}
		if b.err != nil {
			return
		}
	}
}

// fill is io.ReadFull that keeps the source's own error.
func fill(r io.Reader, buf []byte) block {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return block{buf[:n], err}
		}
	}
	return block{buf, nil}
}

// Read implements io.Reader.
func (a *readahead) Read(p []byte) (int, error) {
	for a.at == len(a.cur.data) {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.data != nil {
			a.empty <- a.cur.data
		}
		select {
		case a.cur = <-a.full:
			a.at = 0
		case <-a.stop:
			return 0, errors.New("read after Close")
		}
	}
	n := copy(p, a.cur.data[a.at:])
	a.at += n
	return n, nil
}

// Close stops the goroutine. It waits for a read of the source that is under way.
func (a *readahead) Close() error {
	a.once.Do(func() {
		close(a.stop)
		a.done.Wait()
		if a.release != nil {
			a.release()
		}
	})
	return nil
}
