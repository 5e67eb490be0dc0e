package progress

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"
)

// Kind says what an Event reports.
type Kind int

const (
	// Planned: the number of steps is known now (Total).
	Planned Kind = iota + 1
	// Started: a step began (Name, Platforms, Emulated).
	Started
	// Cached: a step's result was taken from the cache (Name, Platforms, Duration). It needs no Started before it and ends the step.
	Cached
	// Output: a step's process wrote something (Data, Stderr).
	Output
	// Done: a step ended well (Duration).
	Done
	// Failed: a step ended badly (Err, Duration).
	Failed
	// Canceled: a step was stopped because the build no longer needs it (Err, Duration).
	Canceled
	// Transferring: bytes are on their way (Transfer).
	Transferring
	// Message: something worth a line (Name is the text).
	Message
	// Warning: something a person should act on (Name is the text).
	Warning
)

var kindNames = [...]string{
	Planned: "planned", Started: "started", Cached: "cached", Output: "output", Done: "done", Failed: "failed",
	Canceled: "canceled", Transferring: "transfer", Message: "message", Warning: "warning",
}

// String is the kind's name in the rawjson format.
func (k Kind) String() string {
	if k < Planned || int(k) >= len(kindNames) {
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kindNames[k]
}

// Event is one thing that happened in the build. Which fields count depends on Kind.
type Event struct {
	Time      time.Time     // when it happened; zero: now
	Step      string        // stable id of the step ("#7"); "" for what belongs to no step
	Kind      Kind          //
	Name      string        // Started, Cached: display name, `[linux/arm64 build 3/7] RUN apt-get update`; Message, Warning: the text
	Stderr    bool          // Output: written to standard error
	Data      []byte        // Output: the raw bytes, chunks and not lines; not kept after Handle returns
	Err       error         // Failed, Canceled
	Duration  time.Duration // Cached, Done, Failed, Canceled; zero: since Started
	Transfer  *Transfer     // Transferring; not kept after Handle returns
	Emulated  bool          // Started: the step's programs run under an emulator
	Platforms []string      // Started, Cached: the platforms the step is for
	Total     int           // Planned: number of steps in the build
}

// Transfer is the state of one blob on its way.
type Transfer struct {
	ID             string // what is moved, unique within the step: a digest, a file name
	Verb           string // "pulling", "extracting", "pushing"
	Current, Total int64  // bytes; Total 0: unknown
	Done           bool
}

// Display shows events.
type Display interface {
	// Handle shows one event. It may be called from any number of goroutines; events of one step must come in order. It blocks while
	// the writer does.
	Handle(Event)
	// Close writes what is still held back, ends with the last lines of each failed step's output, and leaves the terminal as it
	// was. It does not close the writer. A nil error means that everything shown was written; a second call returns the same.
	// Handle after Close does nothing.
	Close() error
}

// Mode names a display.
type Mode string

// The modes New knows. Auto is TTY on a terminal and Plain elsewhere.
const (
	Auto    Mode = "auto"
	Plain   Mode = "plain"
	TTY     Mode = "tty"
	Quiet   Mode = "quiet"
	None    Mode = "none"
	RawJSON Mode = "rawjson"
)

// Options adjust a display. The zero value works.
type Options struct {
	NoColor  bool   // no colours, neither ours nor those of a step's output (NO_COLOR)
	LogLines int    // tty: lines of output shown below a running step (BUILDKIT_TTY_LOG_LINES); 0: six
	Term     string // kind of terminal (TERM); "dumb" can only show plain
	// Size asks for the terminal's size in character cells. Nil: the writer is asked, and is no terminal unless it is a file that is
	// one. Not nil: the writer is a terminal.
	Size func() (columns, rows int, err error)
}

// FromEnvironment fills Options from NO_COLOR, BUILDKIT_TTY_LOG_LINES and TERM as getenv gives them ("" for unset).
func FromEnvironment(getenv func(string) string) (Options, error) {
	o := Options{NoColor: getenv("NO_COLOR") != "", Term: getenv("TERM")}
	if v := getenv("BUILDKIT_TTY_LOG_LINES"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxLogLines {
			return Options{}, fmt.Errorf("BUILDKIT_TTY_LOG_LINES=%q: want a number from 1 to %d", v, maxLogLines)
		}
		o.LogLines = n
	}
	return o, nil
}

const (
	defaultLogLines = 6
	maxLogLines     = 200
	tailLines       = 20 // of a failed step, repeated at the end
)

// New returns the display for mode, writing to w. It writes nothing yet, and starts nothing that Close would have to stop before the
// first event. TTY on a terminal of kind "dumb" is Plain; TTY on something that is no terminal is an error.
func New(mode Mode, w io.Writer, o Options) (Display, error) {
	terminal := o.findTerminal(w)
	switch mode {
	case None:
		return discard{}, nil
	case Quiet:
		return newQuiet(w, o.color(terminal)), nil
	case RawJSON:
		return newRawJSON(w), nil
	case TTY:
		if !terminal {
			return nil, fmt.Errorf("progress mode %q needs a terminal: use %q or %q", TTY, Auto, Plain)
		}
	case Auto, Plain, "":
	default:
		return nil, fmt.Errorf("unknown progress mode %q: want %s", mode, strings.Join(modeNames(), ", "))
	}
	if mode == Plain || !terminal || o.Term == "dumb" {
		return newPlain(w, o.color(terminal)), nil
	}
	return newTTY(w, o), nil
}

func modeNames() []string {
	return []string{string(Auto), string(Plain), string(TTY), string(Quiet), string(None), string(RawJSON)}
}

// findTerminal reports whether w is a terminal, and fills Size if so.
func (o *Options) findTerminal(w io.Writer) bool {
	if o.Size != nil {
		return true
	}
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	o.Size = func() (int, int, error) { return term.GetSize(int(f.Fd())) }
	return true
}

func (o *Options) color(terminal bool) bool { return terminal && !o.NoColor && o.Term != "dumb" }

type discard struct{}

func (discard) Handle(Event) {}
func (discard) Close() error { return nil }

// withTime is e with the time filled in.
func (e Event) withTime() Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	return e
}
