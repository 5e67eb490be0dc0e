package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	silence    = time.Second     // a step that says nothing for this long loses the floor when another wants it
	patience   = 5 * time.Second // no step waits longer than this for the floor
	maxBacklog = 1 << 20         // bytes held back for waiting steps before the floor goes round

	transferEvery = 5 * time.Second // how often a transfer that goes on is reported
)

// plain writes a log. One step at a time has the floor: its lines are written as they come, those of the others wait, so that lines of
// different steps do not alternate.
type plain struct {
	mu      sync.Mutex
	out     sink
	book    *book
	turns   map[*step]*turn
	floor   *turn
	waiting []*turn // with something to say, in the order in which they began to wait
	backlog int     // bytes in waiting
	timer   *time.Timer
	closed  bool
	buf     bytes.Buffer // what the current call writes
}

// turn is a step's side of taking turns.
type turn struct {
	step      *step
	prefix    string // of its lines of output
	text      bytes.Buffer
	waits     bool
	since     time.Time // began to wait
	spoke     time.Time // last wrote something
	transfers map[string]*reported
}

// reported is what was said of a transfer.
type reported struct {
	began, last time.Time
	done        bool
}

func newPlain(w io.Writer, color bool) *plain {
	return &plain{out: sink{w: w}, book: newBook(color, tailLines), turns: map[*step]*turn{}}
}

func (d *plain) Handle(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || e.Kind == Planned {
		return
	}
	e = e.withTime()
	if e.Step == "" {
		d.notice(e)
	} else if t := d.record(e); t.text.Len() > 0 || e.Kind == Started {
		d.wait(t, time.Now())
	}
	d.settle(time.Now())
	d.flush()
}

// notice writes what belongs to no step, at once and on lines of its own.
func (d *plain) notice(e Event) {
	if e.Kind != Message && e.Kind != Warning {
		return
	}
	for _, line := range remark(e) {
		d.buf.WriteString(line + "\n")
	}
}

// remark is the text of a message or warning.
func remark(e Event) []string {
	text := cleanLines(e.Name)
	if e.Kind == Warning && len(text) > 0 {
		text[0] = "WARNING: " + text[0]
	}
	return text
}

// record writes into the step's turn what e makes it say.
func (d *plain) record(e Event) *turn {
	s := d.book.step(e)
	t := d.turns[s]
	if t == nil {
		t = &turn{step: s, transfers: map[string]*reported{}}
		d.turns[s] = t
	}
	t.prefix = s.id + " "
	if label := s.label(); label != "" {
		t.prefix += label + " "
	}
	before := t.text.Len()
	switch e.Kind {
	case Output:
		d.book.output(s, e, t.output)
	case Transferring:
		t.transfer(e)
	case Message, Warning:
		t.say(remark(e)...)
	case Cached, Done, Failed, Canceled:
		if d.book.finish(s, e, t.output) {
			t.say(outcome(s)...)
		}
	}
	if t.waits {
		d.backlog += t.text.Len() - before
	}
	return t
}

func (t *turn) output(line stamped) {
	fmt.Fprintf(&t.text, "%s%.3f %s\n", t.prefix, line.at.Seconds(), line.text)
}

func (t *turn) say(lines ...string) {
	for _, line := range lines {
		t.text.WriteString(t.step.id + " " + line + "\n")
	}
}

// outcome is how a finished step says that it is finished.
func outcome(s *step) []string {
	switch s.outcome {
	case Cached:
		return []string{"CACHED"}
	case Failed:
		return strings.Split(strings.TrimSuffix("ERROR: "+s.err, ": "), "\n")
	case Canceled:
		return []string{"CANCELED"}
	default:
		return []string{"DONE " + seconds(s.took)}
	}
}

// transfer reports a transfer that goes on now and then, one that is done always, once.
func (t *turn) transfer(e Event) {
	x := e.Transfer
	if x == nil {
		return
	}
	key := x.Verb + " " + x.ID
	r := t.transfers[key]
	if r == nil {
		r = &reported{began: e.Time, last: e.Time}
		t.transfers[key] = r
	}
	text := x.subject() + " " + x.amount() + " " + seconds(e.Time.Sub(r.began))
	switch {
	case r.done:
	case x.Done:
		r.done = true
		t.say(text + " done")
	case e.Time.Sub(r.last) >= transferEvery:
		r.last = e.Time
		t.say(text)
	}
}

// wait queues t for the floor, unless it has it.
func (d *plain) wait(t *turn, now time.Time) {
	if t == d.floor {
		t.spoke = now
		return
	}
	if !t.waits {
		t.waits, t.since = true, now
		d.waiting = append(d.waiting, t)
		d.backlog += t.text.Len()
	}
}

// settle writes what may be written now, and sees to it that it is called again when more may.
func (d *plain) settle(now time.Time) {
	for {
		if d.floor == nil && !d.next(now) {
			return
		}
		t := d.floor
		t.text.WriteTo(&d.buf)
		switch {
		case !t.step.running():
			d.buf.WriteByte('\n')
			t.text = bytes.Buffer{}
		case d.due(now) <= 0:
			d.buf.WriteString(t.step.id + " ...\n\n")
		default:
			d.arm(d.due(now))
			return
		}
		d.floor = nil
	}
}

// next gives the floor to the step that waits longest. It reports false when none does.
func (d *plain) next(now time.Time) bool {
	if len(d.waiting) == 0 {
		return false
	}
	t := d.waiting[0]
	d.waiting = d.waiting[1:]
	d.backlog -= t.text.Len()
	t.waits, t.spoke = false, now
	d.floor = t
	d.buf.WriteString(t.step.id + " " + t.step.title() + "\n")
	return true
}

// due is how long the step that has the floor may still keep it.
func (d *plain) due(now time.Time) time.Duration {
	switch {
	case len(d.waiting) == 0:
		return patience
	case d.backlog > maxBacklog:
		return 0
	}
	return min(d.floor.spoke.Add(silence).Sub(now), d.waiting[0].since.Add(patience).Sub(now))
}

// arm makes settle run after wait unless an event comes earlier. With nobody waiting there is nothing to do then.
func (d *plain) arm(wait time.Duration) {
	if len(d.waiting) == 0 {
		return
	}
	if d.timer != nil {
		d.timer.Reset(wait)
		return
	}
	d.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closed {
			d.settle(time.Now())
			d.flush()
		}
	})
}

func (d *plain) flush() {
	d.out.write(d.buf.Bytes())
	d.buf.Reset()
}

func (d *plain) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.out.err
	}
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	d.drain(time.Now())
	d.book.failures(&d.buf)
	d.flush()
	return d.out.err
}

// drain writes everything that is held back, whoever has the floor.
func (d *plain) drain(now time.Time) {
	for _, s := range d.book.order {
		if t := d.turns[s]; s.running() {
			d.book.flush(s, now, t.output)
			if t.text.Len() > 0 {
				d.wait(t, now)
			}
		}
	}
	for d.floor != nil || d.next(now) {
		d.floor.text.WriteTo(&d.buf)
		d.buf.WriteByte('\n')
		d.floor = nil
	}
}
