package progress

import (
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxLine     = 64 << 10    // bytes; a longer line is shown in pieces of this size
	maxSequence = 64          // bytes of an escape sequence's parameters that are looked at
	redrawEvery = time.Second // how often a line that keeps overwriting itself is shown
	sgrReset    = "\x1b[0m"
	replacement = "\uFFFD"
)

// lines turns the raw bytes of one stream into lines that are safe to print. It does what a terminal would do to one line: a carriage
// return starts it over, a backspace takes back a character. All other controls are dropped; colours (SGR) stay if color says so,
// and each line that has some ends with a reset, the next one taking them up again.
//
// A progress bar overwrites its line many times: it is shown at most once per redrawEvery, and always in its last state.
type lines struct {
	color bool

	line     []byte // the current line, clean
	fixed    int    // backspace does not go back before this point of line
	visible  bool   // line has more than colours
	colored  bool   // line has colours
	returned bool   // a carriage return was seen, nothing printed since
	held     string // the last overwritten state that was not shown
	shown    time.Time

	sgr    string // colours in effect
	state  scanState
	params []byte // of the control sequence being read
	rest   []byte // beginning of a character whose end did not come yet
}

type scanState int

const (
	ground   scanState = iota
	escape             // after ESC
	sequence           // after ESC [
	str                // in an operating system command or the like, up to BEL or ESC \
)

// write takes a chunk that came at now and calls emit with each line that it completes.
func (l *lines) write(data []byte, now time.Time, emit func(string)) {
	if len(l.rest) > 0 {
		data = append(l.rest, data...)
		l.rest = nil
	}
	for len(data) > 0 {
		if n := printable(data); n > 0 && l.state == ground {
			l.text(data[:n], now, emit)
			data = data[n:]
			continue
		}
		if !utf8.FullRune(data) {
			l.rest = append([]byte(nil), data...)
			return
		}
		r, n := utf8.DecodeRune(data)
		l.scan(r, data[:n], now, emit)
		data = data[n:]
	}
}

// printable is the length of data's prefix of plain ASCII.
func printable(data []byte) int {
	for i, c := range data {
		if c < 0x20 || c > 0x7e {
			return i
		}
	}
	return len(data)
}

func (l *lines) scan(r rune, raw []byte, now time.Time, emit func(string)) {
	switch {
	case r == '\n': // ends an unfinished escape sequence too: nothing may swallow the rest of the log
		l.state = ground
		l.end(now, emit)
	case r == 0x1b:
		l.state = escape
	case l.state == escape:
		l.escape(r)
	case l.state == sequence:
		l.sequence(r, now, emit)
	case l.state == str:
		if r == '\a' || r == 0x9c || r == '\r' {
			l.state = ground
		}
	default:
		l.ground(r, raw, now, emit)
	}
}

func (l *lines) ground(r rune, raw []byte, now time.Time, emit func(string)) {
	switch {
	case r == '\r':
		l.returned = true
	case r == '\b':
		l.back()
	case r == 0x9b:
		l.startSequence()
	case r == 0x90, r == 0x98, r == 0x9d, r == 0x9e, r == 0x9f:
		l.state = str
	case r == utf8.RuneError && len(raw) == 1:
		l.text([]byte(replacement), now, emit)
	case r == '\t' || !dangerous(r):
		l.text(raw, now, emit)
	}
}

// dangerous reports whether r does something other than showing itself: controls, and what reorders or breaks lines in Unicode.
func dangerous(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}

func (l *lines) escape(r rune) {
	switch {
	case r == '[':
		l.startSequence()
	case strings.ContainsRune("]PX^_", r):
		l.state = str
	case r >= 0x20 && r <= 0x2f: // its final byte is still to come
	default:
		l.state = ground
	}
}

func (l *lines) startSequence() {
	l.state = sequence
	l.params = l.params[:0]
}

func (l *lines) sequence(r rune, now time.Time, emit func(string)) {
	if r >= 0x20 && r <= 0x3f {
		if len(l.params) <= maxSequence {
			l.params = append(l.params, byte(r))
		}
		return
	}
	l.state = ground
	params := string(l.params)
	switch {
	case r == 'm' && l.color && len(params) <= maxSequence && strings.Trim(params, "0123456789;:") == "":
		l.paint(params, now, emit)
	case r == 'G' && (params == "" || params == "0" || params == "1"): // to the first column
		l.returned = true
	case r == '\r':
		l.returned = true
	}
}

func (l *lines) paint(params string, now time.Time, emit func(string)) {
	l.overwrite(now, emit)
	seq := "\x1b[" + params + "m"
	switch last := params[strings.LastIndexByte(params, ';')+1:]; {
	case strings.Trim(last, "0") == "":
		l.sgr = ""
	case len(l.sgr) > maxSequence:
		l.sgr = seq
	default:
		l.sgr += seq
	}
	if len(l.line)+len(seq) > maxLine { // colours without end: the next line takes up the last ones
		return
	}
	l.line = append(l.line, seq...)
	l.fixed = len(l.line)
	l.colored = true
}

func (l *lines) text(s []byte, now time.Time, emit func(string)) {
	l.overwrite(now, emit)
	l.visible = true
	for len(l.line)+len(s) > maxLine {
		n := max(maxLine-len(l.line), 0)
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		l.line = append(l.line, s[:n]...)
		s = s[n:]
		emit(l.take())
		l.visible = len(s) > 0
	}
	l.line = append(l.line, s...)
}

// overwrite starts the line over if a carriage return asked for it.
func (l *lines) overwrite(now time.Time, emit func(string)) {
	if !l.returned {
		return
	}
	l.returned = false
	if !l.visible {
		return
	}
	state := l.take()
	if l.shown.IsZero() || now.Sub(l.shown) >= redrawEvery {
		l.shown, l.held = now, ""
		emit(state)
		return
	}
	l.held = state
}

func (l *lines) back() {
	if !l.returned && len(l.line) > l.fixed {
		_, n := utf8.DecodeLastRune(l.line[l.fixed:])
		l.line = l.line[:len(l.line)-n]
	}
}

func (l *lines) end(now time.Time, emit func(string)) {
	state := l.take()
	if state == "" {
		state = l.held
	}
	l.held, l.returned, l.shown = "", false, time.Time{}
	emit(state)
}

// take returns the current line and begins a new one.
func (l *lines) take() string {
	s := l.partial()
	l.line = append(l.line[:0], l.sgr...)
	l.fixed, l.visible, l.colored = len(l.line), false, l.sgr != ""
	return s
}

// partial is the current line as far as it is known.
func (l *lines) partial() string {
	switch {
	case !l.visible:
		return ""
	case l.colored:
		return string(l.line) + sgrReset
	default:
		return string(l.line)
	}
}

// flush emits the line that no newline ended, if there is one. The stream may go on afterwards.
func (l *lines) flush(now time.Time, emit func(string)) {
	if len(l.rest) > 0 {
		l.rest = nil
		l.text([]byte(replacement), now, emit)
	}
	if l.visible || l.held != "" {
		l.end(now, emit)
	}
	l.sgr, l.state = "", ground
	l.take()
}

// cleanLines is s as lines without any control character.
func cleanLines(s string) []string {
	var out []string
	var l lines
	emit := func(line string) { out = append(out, line) }
	l.write([]byte(s), time.Time{}, emit)
	l.flush(time.Time{}, emit)
	return out
}

// cleanName is s as one line without any control character.
func cleanName(s string) string { return strings.TrimSpace(strings.Join(cleanLines(s), " ")) }
