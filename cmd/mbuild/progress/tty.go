package progress

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	frameEvery = 100 * time.Millisecond // least time between two redraws

	minColumns, maxColumns = 20, 400
	defaultColumns         = 80
	defaultRows            = 24
)

// Everything the display leaves in the terminal's state is taken back within the same write, so that there is nothing to restore when
// the process is interrupted or killed: between two redraws the cursor is visible and lines wrap.
const (
	beginFrame = "\x1b[?25l\x1b[?7l" // hide the cursor, do not wrap
	endFrame   = "\x1b[J\x1b[?7h\x1b[?25h"
	clearRest  = "\x1b[K"
)

// tty shows a live frame at the bottom of the terminal, and above it, scrolling away, a line per finished step.
type tty struct {
	mu       sync.Mutex
	out      sink
	book     *book
	size     func() (int, int, error)
	color    bool
	logLines int
	began    time.Time
	total    int // steps planned
	finished int
	live     []*live         // running steps, in the order in which they started
	byStep   map[*step]*live //
	log      []string        // lines to scroll away with the next redraw
	frame    []int           // width in cells of each line of the frame that is on the terminal
	drawn    time.Time       // when it was drawn
	timer    *time.Timer
	armed    bool
	closed   bool
}

// live is what a running step shows besides itself.
type live struct {
	step      *step
	transfers []Transfer
}

func newTTY(w io.Writer, o Options) *tty {
	d := &tty{out: sink{w: w}, size: o.Size, color: o.color(true), logLines: o.LogLines, byStep: map[*step]*live{}}
	if d.logLines <= 0 {
		d.logLines = defaultLogLines
	}
	d.book = newBook(d.color, max(tailLines, d.logLines))
	return d
}

func (d *tty) Handle(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	e = e.withTime()
	if d.began.IsZero() {
		d.began = e.Time
	}
	if e.Step == "" {
		d.notice(e)
	} else {
		d.record(e)
	}
	d.arm()
}

func (d *tty) notice(e Event) {
	switch e.Kind {
	case Planned:
		d.total = e.Total
	case Message, Warning:
		d.log = append(d.log, remark(e)...)
	}
}

func (d *tty) record(e Event) {
	s := d.book.step(e)
	ignore := func(stamped) {}
	switch e.Kind {
	case Started, Output, Transferring:
		l := d.start(s)
		if e.Kind == Output {
			d.book.output(s, e, ignore)
		} else if e.Transfer != nil {
			l.transfer(*e.Transfer)
		}
	case Message, Warning:
		for _, line := range remark(e) {
			d.log = append(d.log, strings.TrimSpace(cmp.Or(s.bracket(), s.id)+" "+line))
		}
	case Cached, Done, Failed, Canceled:
		d.stop(s)
		if d.book.finish(s, e, ignore) {
			d.finished++
			d.log = append(d.log, d.ended(s))
		}
	}
}

// start finds or makes the live side of s. Output after a step's end goes to its remembered lines only.
func (d *tty) start(s *step) *live {
	l := d.byStep[s]
	if l == nil {
		l = &live{step: s}
		if s.running() {
			d.byStep[s] = l
			d.live = append(d.live, l)
		}
	}
	return l
}

func (d *tty) stop(s *step) {
	for i, l := range d.live {
		if l.step == s {
			d.live = append(d.live[:i], d.live[i+1:]...)
			break
		}
	}
	delete(d.byStep, s)
}

func (l *live) transfer(t Transfer) {
	for i, known := range l.transfers {
		if known.ID == t.ID && known.Verb == t.Verb {
			if t.Done {
				l.transfers = append(l.transfers[:i], l.transfers[i+1:]...)
			} else {
				l.transfers[i] = t
			}
			return
		}
	}
	if !t.Done {
		l.transfers = append(l.transfers, t)
	}
}

// arm sees to it that the display is redrawn, soon but not too soon.
func (d *tty) arm() {
	if d.armed {
		return
	}
	d.armed = true
	wait := max(frameEvery-time.Since(d.drawn), 0)
	if d.timer != nil {
		d.timer.Reset(wait)
		return
	}
	d.timer = time.AfterFunc(wait, d.tick)
}

func (d *tty) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.armed = false
	d.draw(time.Now())
	if len(d.live) > 0 { // the clocks go on without events
		d.arm()
	}
}

// draw puts the frame where the last one was, after the lines that scroll away. The terminal is asked for its size each time, which
// makes a handler for SIGWINCH needless.
func (d *tty) draw(now time.Time) {
	d.drawn = now
	columns, rows := d.terminalSize()
	var b bytes.Buffer
	b.WriteString(beginFrame)
	if up := d.height(columns); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteString("\r")
	d.scroll(&b)
	d.frame = d.frame[:0]
	for _, line := range d.render(now, columns, rows) {
		b.WriteString(line + clearRest + "\n")
		d.frame = append(d.frame, width(line))
	}
	b.WriteString(endFrame)
	d.out.write(b.Bytes())
}

// scroll writes the log. Its lines wrap: nothing of them is lost.
func (d *tty) scroll(b *bytes.Buffer) {
	if len(d.log) == 0 {
		return
	}
	b.WriteString("\x1b[J\x1b[?7h")
	for _, line := range d.log {
		b.WriteString(line + "\n")
	}
	b.WriteString("\x1b[?7l")
	d.log = d.log[:0]
}

// height is how many rows the frame on the terminal takes now: a terminal that became narrower has wrapped its lines.
func (d *tty) height(columns int) int {
	rows := 0
	for _, w := range d.frame {
		rows += max((w+columns-1)/columns, 1)
	}
	return rows
}

func (d *tty) terminalSize() (columns, rows int) {
	columns, rows, err := d.size()
	if err != nil || columns <= 0 || rows <= 0 {
		return defaultColumns, defaultRows
	}
	return min(max(columns, minColumns), maxColumns), rows
}

func (d *tty) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.out.err
	}
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	if !d.began.IsZero() {
		d.draw(time.Now())
	}
	var b bytes.Buffer
	d.book.failures(&b)
	d.out.write(b.Bytes())
	return d.out.err
}

// ended is the line that stays of a finished step.
func (d *tty) ended(s *step) string {
	columns, _ := d.terminalSize()
	switch s.outcome {
	case Cached:
		return row(columns, " => CACHED "+s.title(), "0.0s")
	case Failed:
		first, _, _ := strings.Cut(s.err, "\n")
		return d.paint("31", row(columns, " => ERROR "+s.title(), seconds(s.took))) + reason(columns, first)
	case Canceled:
		return d.paint("33", row(columns, " => CANCELED "+s.title(), seconds(s.took)))
	default:
		return row(columns, " => "+s.title(), seconds(s.took))
	}
}

func reason(columns int, text string) string {
	if text == "" {
		return ""
	}
	return "\n" + clip(" => => "+text, columns-1)
}

func (d *tty) paint(sgr, text string) string {
	if !d.color {
		return text
	}
	return "\x1b[" + sgr + "m" + text + sgrReset
}

// row is text at the left and right at the right of a line one cell shorter than the terminal.
func row(columns int, text, right string) string {
	room := columns - 1 - len(right) - 1
	if room < 4 {
		return clip(text, columns-1)
	}
	text = clip(text, room)
	return text + strings.Repeat(" ", room-width(text)+1) + right
}
