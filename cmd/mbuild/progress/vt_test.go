package progress

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// vt is a small terminal: it understands what the tty display writes and nothing else, and counts what it does not understand. Lines
// that scrolled away stay in cells. A wide rune is followed by a zero rune.
type vt struct {
	mu            sync.Mutex
	columns, rows int
	cells         [][]rune
	row, col      int
	wrap, cursor  bool
	unknown       []string
	writes        int
}

func newVT(columns, rows int) *vt {
	return &vt{columns: columns, rows: rows, cells: [][]rune{nil}, wrap: true, cursor: true}
}

func (v *vt) size() (int, int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.columns, v.rows, nil
}

func (v *vt) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.writes++
	for s := string(p); s != ""; {
		if strings.HasPrefix(s, "\x1b[") {
			end := strings.IndexFunc(s[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e })
			v.control(s[2:2+end], s[2+end])
			s = s[3+end:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch r {
		case '\r':
			v.col = 0
		case '\n': // the terminal driver adds the carriage return
			v.col = 0
			v.down()
		default:
			v.put(r)
		}
	}
	return len(p), nil
}

func (v *vt) down() {
	v.row++
	if v.row == len(v.cells) {
		v.cells = append(v.cells, nil)
	}
}

func (v *vt) put(r rune) {
	if r < 0x20 || r == utf8.RuneError {
		v.unknown = append(v.unknown, strconv.QuoteRune(r))
		return
	}
	n := cells(r)
	if n == 0 {
		return
	}
	if v.col+n > v.columns {
		if !v.wrap {
			v.col = v.columns - n
		} else {
			v.col = 0
			v.down()
		}
	}
	line := v.cells[v.row]
	for len(line) < v.col+n {
		line = append(line, ' ')
	}
	line[v.col] = r
	if n == 2 {
		line[v.col+1] = 0
	}
	v.cells[v.row] = line
	v.col += n
}

func (v *vt) control(params string, final byte) {
	switch string(final) + params {
	case "J":
		v.cells = v.cells[:v.row+1]
		v.erase()
	case "K":
		v.erase()
	case "h?7", "l?7":
		v.wrap = final == 'h'
	case "h?25", "l?25":
		v.cursor = final == 'h'
	default:
		n, err := strconv.Atoi(params)
		switch {
		case final == 'A' && err == nil:
			v.row = max(v.row-n, len(v.cells)-v.rows, 0)
		case final == 'm':
		default:
			v.unknown = append(v.unknown, params+string(final))
		}
	}
}

func (v *vt) erase() {
	if line := v.cells[v.row]; len(line) > v.col {
		v.cells[v.row] = line[:v.col]
	}
}

// resize wraps the lines anew, as most terminals do. The cursor is on the last line.
func (v *vt) resize(columns int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.cells
	v.columns, v.cells = columns, nil
	for _, line := range old {
		for len(line) > columns {
			v.cells = append(v.cells, line[:columns])
			line = line[columns:]
		}
		v.cells = append(v.cells, line)
	}
	v.row, v.col = len(v.cells)-1, 0
}

// intact reports whether the cursor is visible and lines wrap.
func (v *vt) intact() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cursor && v.wrap
}

// drawn is how many writes there were.
func (v *vt) drawn() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.writes
}

// text is all lines that were ever shown, without spaces at their ends.
func (v *vt) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, line := range v.cells {
		b.WriteString(strings.TrimRight(strings.ReplaceAll(string(line), "\x00", ""), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
