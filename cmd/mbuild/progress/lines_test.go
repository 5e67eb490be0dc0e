package progress

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// feed runs chunks through a fresh scanner, a second apart unless the chunks say otherwise, and returns the lines.
func feed(color bool, step time.Duration, chunks ...string) []string {
	l := lines{color: color}
	got := []string{}
	emit := func(s string) { got = append(got, s) }
	now := time.Unix(0, 0)
	for _, c := range chunks {
		l.write([]byte(c), now, emit)
		now = now.Add(step)
	}
	l.flush(now, emit)
	return got
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		rule   string
		color  bool
		step   time.Duration
		chunks []string
		want   []string
	}{
		{"chunks end anywhere", false, 0, []string{"a", "b\nc", "\n", "\nd"}, []string{"ab", "c", "", "d"}},
		{"characters end anywhere", false, 0, []string{"\xe6\x97", "\xa5\n"}, []string{"日"}},
		{"broken characters are replaced", false, 0, []string{"a\xffb\n\xe6"}, []string{"a\uFFFDb", "\uFFFD"}},
		{"CR LF is one newline", false, 0, []string{"a\r", "\nb\r\r\n"}, []string{"a", "b"}},
		{"a bar is shown in its first and last state", false, 0, []string{"1%\r2%\r3%\r100%\n"}, []string{"1%", "100%"}},
		{"a slow bar is shown each second", false, 400 * time.Millisecond, []string{"1\r", "2\r", "3\r", "4\r", "5\r", "6\n"}, []string{"1", "4", "6"}},
		{"a bar that ends in a bare return keeps its last state", false, 0, []string{"1%\r2%\r\x1b[K"}, []string{"1%", "2%"}},
		{"erased bars do not leave empty lines", false, 0, []string{"1%\r2%\r\x1b[K3%\r\x1b[K\n"}, []string{"1%", "3%"}},
		{"first column is a return too", false, 0, []string{"a\x1b[1Gb\n"}, []string{"a", "b"}},
		{"backspace takes back", false, 0, []string{"ab\b\bcd\x08é\b!\n"}, []string{"c!"}},
		{"backspace stops at the beginning", false, 0, []string{"a\b\b\bb\n"}, []string{"b"}},
		{"colours go where not wanted", false, 0, []string{"\x1b[31mred\x1b[0m\n"}, []string{"red"}},
		{"colours stay and end with the line", true, 0, []string{"\x1b[31mred\nmore\x1b[m no\n"}, []string{"\x1b[31mred\x1b[0m", "\x1b[31mmore\x1b[m no\x1b[0m"}},
		{"a line of colours only is empty", true, 0, []string{"\x1b[31m\n\x1b[0m\n"}, []string{"", ""}},
		{"backspace leaves colours whole", true, 0, []string{"\x1b[31m\b\b\bx\n"}, []string{"\x1b[31mx\x1b[0m"}},
		{"odd colours are no colours", true, 0, []string{"\x1b[?31mx\x1b[1 my\n"}, []string{"xy"}},
		{"cursor movement goes", true, 0, []string{"a\x1b[2J\x1b[H\x1b[10Ab\x1b7\x1b8\x1bcc\x1b(Bd\n"}, []string{"abcd"}},
		{"titles and links go", true, 0, []string{"a\x1b]0;evil\ab\x1b]8;;http://x\x1b\\c\x1bPq\x1b\\d\n"}, []string{"abcd"}},
		{"a sequence in pieces goes", false, 0, []string{"a\x1b", "[", "3", "1", "mb\x1b]0;", "t\x1b", "\\c\n"}, []string{"abc"}},
		{"an open sequence cannot swallow the log", false, 0, []string{"a\x1b]0;evil\nb\x1b[31\nc\n"}, []string{"a", "b", "c"}},
		{"eight-bit controls go", false, 0, []string{"a\u009b31mb\u009d0;t\u009cc\u0085d\n"}, []string{"abcd"}},
		{"what reorders text goes", false, 0, []string{"a\u202eb\u2066c\u2028d\n"}, []string{"abcd"}},
		{"bells, nulls and deletes go, tabs stay", false, 0, []string{"a\a\x00\x7f\tb\n"}, []string{"a\tb"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := feed(c.color, c.step, c.chunks...); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("%q:\n got %q\nwant %q", c.chunks, got, c.want)
			}
		})
	}
}

func TestLongLinesAreBrokenNotCut(t *testing.T) {
	long := strings.Repeat("日本", 50_000)
	got := feed(false, 0, long, "\n")
	if strings.Join(got, "") != long {
		t.Fatal("the pieces are not the whole")
	}
	for _, piece := range got {
		if len(piece) > maxLine || !utf8.ValidString(piece) {
			t.Fatalf("a piece of %d bytes, valid %t", len(piece), utf8.ValidString(piece))
		}
	}
	if slices.Contains(feed(false, 0, strings.Repeat("a", maxLine), "\n"), "") {
		t.Fatal("a line of exactly the limit is followed by an empty one")
	}
}

func TestColoursWithoutEndAreBounded(t *testing.T) {
	l := lines{color: true}
	for range 1 << 20 {
		l.write([]byte("\x1b[31m"), time.Time{}, func(string) { t.Fatal("a line of nothing") })
	}
	if cap(l.line) > 2*maxLine || len(l.sgr) > 2*maxSequence {
		t.Fatalf("%d bytes kept, %d of colours", cap(l.line), len(l.sgr))
	}
}

// FuzzLines holds the scanner to its promise: no control character but colours, however the bytes are cut; and no line lost.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\x1b]0;x\ac\rd\be\n\xe6\x97"), 3, true)
	f.Add([]byte("\x9b\u009b1m\x1b[1;2;3m\n\n"), 1, false)
	f.Fuzz(func(t *testing.T, data []byte, size int, color bool) {
		size = max(size, 1)
		var chunks []string
		for c := range slices.Chunk(data, size) {
			chunks = append(chunks, string(c))
		}
		got := feed(color, 0, chunks...)
		if n := bytes.Count(data, []byte("\n")); len(got) < n {
			t.Fatalf("%d lines of %d", len(got), n)
		}
		for _, line := range got {
			if rest := withoutColors(line); strings.ContainsFunc(rest, func(r rune) bool { return r != '\t' && dangerous(r) }) || !utf8.ValidString(rest) {
				t.Fatalf("unsafe line %q", line)
			}
			if strings.Contains(line, "\x1b") && (!color || !strings.HasSuffix(line, sgrReset)) {
				t.Fatalf("colours leak from %q", line)
			}
		}
		if whole := feed(color, 0, string(data)); !reflect.DeepEqual(whole, got) {
			t.Fatalf("in pieces %q, whole %q", got, whole)
		}
	})
}

func withoutColors(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if n := colors(s[i:]); n > 0 {
			i += n
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s       string
		columns int
		want    string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdef", 5, "abc.."},
		{"日本語文", 8, "日本語文"},
		{"日本語文", 7, "日本.."},
		{"日本語文", 6, "日本.."},
		{"日本語文", 5, "日.."},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"\x1b[31mabcdef\x1b[0m", 4, "\x1b[31mab\x1b[0m.."},
		{"\ta", 4, ".."},
		{"\ta", 5, "    a"},
		{"abc", 1, ""},
	} {
		if got := clip(c.s, c.columns); got != c.want || width(got) > c.columns {
			t.Errorf("clip(%q, %d) = %q of %d cells, want %q", c.s, c.columns, got, width(got), c.want)
		}
	}
}
