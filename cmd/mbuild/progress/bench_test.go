package progress

import (
	"fmt"
	"io"
	"testing"
	"time"
)

// BenchmarkLine is the cost of one line of output with eight steps talking: at 1,000 lines a second, 50,000 ns are 5 % of a core. The
// frames of the tty display, at most ten a second, are BenchmarkFrame's.
func BenchmarkLine(b *testing.B) {
	const text = "Get:1 http://deb.debian.org/debian bookworm/main amd64 \x1b[32mlibexpat1\x1b[0m amd64 2.5.0-1 [98.9 kB]\n"
	for _, mode := range []Mode{Plain, TTY, Quiet, RawJSON} {
		b.Run(string(mode), func(b *testing.B) {
			d, err := New(mode, io.Discard, Options{Size: fixed(80, 24)})
			if err != nil {
				b.Fatal(err)
			}
			var steps [8]string
			for i := range steps {
				steps[i] = fmt.Sprintf("#%d", i)
				d.Handle(Event{Step: steps[i], Kind: Started, Name: "[linux/arm64 build 3/7] RUN apt-get update"})
			}
			data := []byte(text)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d.Handle(Event{Step: steps[i%8], Kind: Output, Data: data})
			}
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkFrame is the cost of one redraw with eight steps on a large terminal.
func BenchmarkFrame(b *testing.B) {
	d := newTTY(io.Discard, Options{Size: fixed(200, 60)})
	for i := range 8 {
		id := fmt.Sprintf("#%d", i)
		d.Handle(Event{Step: id, Kind: Started, Name: "[linux/arm64 build 3/7] RUN apt-get update"})
		for range 10 {
			d.Handle(Event{Step: id, Kind: Output, Data: []byte("a line of output that is neither short nor long\n")})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		d.mu.Lock()
		d.draw(time.Now())
		d.mu.Unlock()
	}
	d.Close()
}
