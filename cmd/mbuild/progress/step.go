package progress

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// step is what a display remembers of a step.
type step struct {
	id, name string
	emulated bool
	began    time.Time
	outcome  Kind // 0 while it runs
	took     time.Duration
	err      string // of a failed step, clean

	streams [2]lines // stdout, stderr
	tail    []stamped
}

// stamped is a line of output and when it came, counted from the step's beginning.
type stamped struct {
	at   time.Duration
	text string
}

// book holds the steps of a build in the order in which they were first heard of.
type book struct {
	color bool
	keep  int // lines of output to remember per step
	byID  map[string]*step
	order []*step
}

func newBook(color bool, keep int) *book {
	return &book{color: color, keep: keep, byID: map[string]*step{}}
}

// step finds the step e speaks of and brings its description up to date.
func (b *book) step(e Event) *step {
	s := b.byID[e.Step]
	if s == nil {
		s = &step{id: cleanName(e.Step), name: cleanName(e.Step), began: e.Time}
		s.streams[0].color, s.streams[1].color = b.color, b.color
		b.byID[e.Step] = s
		b.order = append(b.order, s)
	}
	switch e.Kind {
	case Started:
		s.began, s.outcome, s.err = e.Time, 0, ""
		s.name, s.emulated = cleanName(e.Name), e.Emulated
	case Cached:
		if e.Name != "" {
			s.name = cleanName(e.Name)
		}
	}
	return s
}

// output feeds e's bytes to the step and calls emit with each line they complete.
func (b *book) output(s *step, e Event, emit func(stamped)) {
	s.streams[index(e.Stderr)].write(e.Data, e.Time, b.keeper(s, e.Time, emit))
}

// finish records how the step ended and calls emit with the lines that were still open. It reports false when the step had ended
// before: the first outcome counts.
func (b *book) finish(s *step, e Event, emit func(stamped)) bool {
	if !s.running() {
		return false
	}
	b.flush(s, e.Time, emit)
	s.streams[0].line, s.streams[1].line = nil, nil
	s.outcome, s.took = e.Kind, e.Duration
	if s.took == 0 {
		s.took = max(e.Time.Sub(s.began), 0)
	}
	if e.Err != nil {
		s.err = strings.Join(cleanLines(e.Err.Error()), "\n")
	}
	if e.Kind != Failed {
		s.tail = nil
	}
	return true
}

func (b *book) flush(s *step, now time.Time, emit func(stamped)) {
	for i := range s.streams {
		s.streams[i].flush(now, b.keeper(s, now, emit))
	}
}

func (b *book) keeper(s *step, now time.Time, emit func(stamped)) func(string) {
	at := max(now.Sub(s.began), 0)
	return func(text string) {
		line := stamped{at, text}
		if len(s.tail) >= b.keep {
			copy(s.tail, s.tail[len(s.tail)-b.keep+1:])
			s.tail = s.tail[:b.keep-1]
		}
		s.tail = append(s.tail, line)
		emit(line)
	}
}

func (s *step) running() bool { return s.outcome == 0 }

// title is the step's name as shown.
func (s *step) title() string {
	if s.emulated {
		return s.name + " (emulated)"
	}
	return s.name
}

// bracket is what the name begins with, "[linux/arm64 build 3/7]", "" when there is none.
func (s *step) bracket() string {
	end := strings.IndexByte(s.name, ']')
	if !strings.HasPrefix(s.name, "[") || end < 0 {
		return ""
	}
	return s.name[:end+1]
}

// label is the bracket if it begins with a platform, else "".
func (s *step) label() string {
	first, _, _ := strings.Cut(strings.Trim(s.bracket(), "[]"), " ")
	if !strings.Contains(first, "/") || first[0] >= '0' && first[0] <= '9' { // "[3/7]" is a position, not a platform
		return ""
	}
	return s.bracket()
}

// failures writes the last lines of every failed step, as many as tailLines.
func (b *book) failures(out *bytes.Buffer) {
	for _, s := range b.order {
		if s.outcome != Failed || len(s.tail) == 0 {
			continue
		}
		fmt.Fprintf(out, "------\n > %s:\n", s.title())
		for _, line := range s.tail[max(len(s.tail)-tailLines, 0):] {
			fmt.Fprintf(out, "%.3f %s\n", line.at.Seconds(), line.text)
		}
		out.WriteString("------\n")
	}
}

// amount is how far a transfer is: "3.4MB / 10MB".
func (t *Transfer) amount() string {
	current := units.HumanSize(float64(max(t.Current, 0)))
	if t.Total <= 0 {
		return current
	}
	return current + " / " + units.HumanSize(float64(t.Total))
}

func (t *Transfer) subject() string {
	return strings.TrimSpace(cleanName(t.Verb) + " " + cleanName(t.ID))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func index(second bool) int {
	if second {
		return 1
	}
	return 0
}
