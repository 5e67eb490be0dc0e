package progress

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// build is a scripted build: it reports events to a display while a fake clock runs.
type build struct{ d Display }

func (b build) at(step string, k Kind, name string) {
	b.d.Handle(Event{Step: step, Kind: k, Name: name})
}
func (b build) says(step, text string) {
	b.d.Handle(Event{Step: step, Kind: Output, Data: []byte(text)})
}
func (b build) complains(step, text string) {
	b.d.Handle(Event{Step: step, Kind: Output, Stderr: true, Data: []byte(text)})
}
func (b build) done(step string) { b.d.Handle(Event{Step: step, Kind: Done}) }
func (b build) fails(step, why string) {
	b.d.Handle(Event{Step: step, Kind: Failed, Err: errors.New(why)})
}
func (b build) moves(step string, t Transfer) {
	b.d.Handle(Event{Step: step, Kind: Transferring, Transfer: &t})
}
func (b build) waits(d time.Duration) { time.Sleep(d); synctest.Wait() }

// play runs script against the plain display in a bubble with its own clock, and returns what it wrote.
func play(t *testing.T, color bool, script func(b build)) string {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		d := newPlain(&out, color)
		script(build{d})
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return out.String()
}

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		rule   string
		script func(build)
		want   string
	}{
		{"a step opens with its name and ends with its time", func(b build) {
			b.at("#1", Started, "[build 1/2] RUN make")
			b.waits(532 * time.Millisecond)
			b.says("#1", "one\ntw")
			b.waits(500 * time.Millisecond)
			b.says("#1", "o\n")
			b.done("#1")
			b.at("#2", Cached, "[build 2/2] COPY . .")
		}, `#1 [build 1/2] RUN make
#1 0.532 one
#1 1.032 two
#1 DONE 1.0s

#2 [build 2/2] COPY . .
#2 CACHED

`},
		{"a platform stands in front of each line", func(b build) {
			b.d.Handle(Event{Step: "#7", Kind: Started, Name: "[linux/arm64 build 3/7] RUN apt-get update", Emulated: true, Platforms: []string{"linux/arm64"}})
			b.says("#7", "Get:1\n")
			b.complains("#7", "W: x\n")
			b.d.Handle(Event{Step: "#7", Kind: Done, Duration: 83 * time.Second})
		}, `#7 [linux/arm64 build 3/7] RUN apt-get update (emulated)
#7 [linux/arm64 build 3/7] 0.000 Get:1
#7 [linux/arm64 build 3/7] 0.000 W: x
#7 DONE 83.0s

`},
		{"a position is no platform", func(b build) {
			b.at("#1", Started, "[3/7] RUN x")
			b.says("#1", "y\n")
			b.done("#1")
		}, `#1 [3/7] RUN x
#1 0.000 y
#1 DONE 0.0s

`},
		{"the two streams keep their own lines", func(b build) {
			b.at("#1", Started, "x")
			b.says("#1", "out")
			b.complains("#1", "err\n")
			b.says("#1", "put\n")
			b.done("#1")
		}, `#1 x
#1 0.000 err
#1 0.000 output
#1 DONE 0.0s

`},
		{"who has the floor keeps it while it speaks", func(b build) {
			b.at("#1", Started, "a")
			b.at("#2", Started, "b")
			for i := range 4 {
				b.says("#1", fmt.Sprintf("a%d\n", i))
				b.says("#2", fmt.Sprintf("b%d\n", i))
				b.waits(500 * time.Millisecond)
			}
			b.done("#1")
			b.done("#2")
		}, `#1 a
#1 0.000 a0
#1 0.500 a1
#1 1.000 a2
#1 1.500 a3
#1 DONE 2.0s

#2 b
#2 0.000 b0
#2 0.500 b1
#2 1.000 b2
#2 1.500 b3
#2 DONE 2.0s

`},
		{"silence loses the floor", func(b build) {
			b.at("#1", Started, "a")
			b.says("#1", "a0\n")
			b.at("#2", Started, "b")
			b.says("#2", "b0\n")
			b.waits(2 * time.Second)
			b.says("#2", "b1\n")
			b.done("#2")
			b.done("#1")
		}, `#1 a
#1 0.000 a0
#1 ...

#2 b
#2 0.000 b0
#2 2.000 b1
#2 DONE 2.0s

#1 a
#1 DONE 2.0s

`},
		{"nobody waits for ever", func(b build) {
			b.at("#1", Started, "a")
			b.at("#2", Started, "b")
			for range 11 {
				b.says("#1", "a\n")
				b.waits(500 * time.Millisecond)
			}
		}, `#1 a
` + strings.Join(stampedLines("#1", "a", 0, 10), "") + `#1 ...

#2 b

#1 a
#1 5.000 a

`},
		{"messages stand alone, warnings say so", func(b build) {
			b.at("", Message, "using cache\nfrom here")
			b.at("#1", Started, "a")
			b.at("#1", Message, "resolved")
			b.at("#1", Warning, "slow")
			b.at("", Warning, "no tag")
			b.done("#1")
		}, `using cache
from here
#1 a
#1 resolved
#1 WARNING: slow
WARNING: no tag
#1 DONE 0.0s

`},
		{"transfers are reported now and then", func(b build) {
			b.at("#1", Started, "pull")
			for i := range int64(8) {
				b.moves("#1", Transfer{ID: "sha256:ab", Verb: "pulling", Current: i * 1e6, Total: 8e6})
				b.waits(time.Second)
			}
			b.moves("#1", Transfer{ID: "sha256:ab", Verb: "pulling", Current: 8e6, Total: 8e6, Done: true})
			b.moves("#1", Transfer{ID: "sha256:cd", Verb: "extracting", Current: 5, Done: true})
			b.moves("#1", Transfer{ID: "sha256:cd", Verb: "extracting", Current: 5, Done: true})
			b.done("#1")
		}, `#1 pull
#1 pulling sha256:ab 5MB / 8MB 5.0s
#1 pulling sha256:ab 8MB / 8MB 8.0s done
#1 extracting sha256:cd 5B 0.0s done
#1 DONE 8.0s

`},
		{"a failure's last lines come again", func(b build) {
			b.at("#1", Started, "[linux/arm64 1/1] RUN false")
			b.at("#2", Started, "other")
			b.says("#1", "half a line")
			b.fails("#1", "exit code: 1\nmore")
			b.d.Handle(Event{Step: "#2", Kind: Canceled, Err: errors.New("canceled")})
			b.d.Handle(Event{Step: "#2", Kind: Failed, Err: errors.New("too late")})
		}, `#1 [linux/arm64 1/1] RUN false
#1 [linux/arm64 1/1] 0.000 half a line
#1 ERROR: exit code: 1
#1 more

#2 other
#2 CANCELED

------
 > [linux/arm64 1/1] RUN false:
0.000 half a line
------
`},
		{"what runs at the end is written out", func(b build) {
			b.at("#1", Started, "a")
			b.at("#2", Started, "b")
			b.says("#2", "open")
		}, `#1 a

#2 b
#2 0.000 open

`},
		{"output without a start has a name", func(b build) {
			b.says("#9", "x\n")
			b.done("#9")
			b.says("#9", "late\n")
		}, `#9 #9
#9 0.000 x
#9 DONE 0.0s

#9 #9
#9 0.000 late

`},
		{"names, errors and warnings are cleaned", func(b build) {
			b.at("#1", Started, "RUN \x1b]0;evil\aecho\nx\u202e")
			b.at("#1", Warning, "a\x1b[2Jb")
			b.fails("#1", "bad\r\x1b[31mred")
		}, `#1 RUN echo x
#1 WARNING: ab
#1 ERROR: bad
#1 red

`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := play(t, false, c.script); got != c.want {
				t.Fatalf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func stampedLines(step, text string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s %.3f %s\n", step, float64(i)/2, text))
	}
	return out
}

func TestPlainTailIsTwentyLines(t *testing.T) {
	got := play(t, false, func(b build) {
		b.at("#1", Started, "a")
		for i := range 50 {
			b.says("#1", fmt.Sprintf("line %d\n", i))
		}
		b.fails("#1", "x")
	})
	_, tail, _ := strings.Cut(got, "------\n")
	if n := strings.Count(tail, "line"); n != tailLines || !strings.Contains(tail, "0.000 line 30\n") || !strings.HasSuffix(tail, "line 49\n------\n") {
		t.Fatalf("%d lines in tail:\n%s", n, tail)
	}
}

func TestPlainNeverLosesOutput(t *testing.T) {
	const size = 3 << 20 // more than may be held back
	got := play(t, false, func(b build) {
		b.at("#1", Started, "a")
		b.at("#2", Started, "b")
		for range size >> 10 {
			b.says("#2", strings.Repeat("x", 1023)+"\n")
		}
	})
	if n := strings.Count(got, "x"); n != size>>10*1023 {
		t.Fatalf("%d bytes of %d", n, size>>10*1023)
	}
}

func TestPlainHoldsBackNoMoreThanItsLimit(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		d := newPlain(&out, false)
		b := build{d}
		b.at("#1", Started, "a")
		b.at("#2", Started, "b")
		for range 2 << 10 {
			b.says("#2", strings.Repeat("x", 1023)+"\n")
		}
		if out.Len() < maxBacklog {
			t.Errorf("%d bytes written of 2 MiB", out.Len())
		}
		d.Close()
	})
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestCloseReportsTheFirstWriteError(t *testing.T) {
	for _, mode := range []Mode{Plain, TTY, RawJSON} {
		d, err := New(mode, brokenPipe{}, Options{Size: fixed(80, 24)})
		if err != nil {
			t.Fatal(err)
		}
		d.Handle(Event{Step: "#1", Kind: Started, Name: "a"})
		for range 2 {
			if err := d.Close(); err == nil || err.Error() != "broken pipe" {
				t.Errorf("%s: got %v", mode, err)
			}
		}
		d.Handle(Event{Step: "#1", Kind: Done})
	}
}

func fixed(columns, rows int) func() (int, int, error) {
	return func() (int, int, error) { return columns, rows, nil }
}

// TestConcurrentHandle lets eight steps talk at once to each display; the race detector judges, and each line must come out whole.
func TestConcurrentHandle(t *testing.T) {
	for _, mode := range []Mode{Plain, TTY, Quiet, None, RawJSON} {
		t.Run(string(mode), func(t *testing.T) {
			var out bytes.Buffer
			d, err := New(mode, &out, Options{Size: fixed(80, 24), NoColor: true})
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					b, id := build{d}, fmt.Sprintf("#%d", i)
					b.at(id, Started, "step")
					for range 200 {
						b.says(id, "some words ")
						b.complains(id, "others\n")
						b.says(id, "and an end\n")
						b.moves(id, Transfer{ID: "x", Verb: "pulling", Current: 1})
					}
					b.done(id)
				})
			}
			wg.Wait()
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if mode == Plain && strings.Count(out.String(), " some words and an end\n") != 1600 {
				t.Fatal("a line is broken or missing")
			}
		})
	}
}
