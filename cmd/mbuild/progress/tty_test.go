package progress

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// show runs script against the tty display on a small terminal, in a bubble with its own clock. The script may look at the screen.
func show(t *testing.T, columns, rows int, script func(b build, v *vt)) *vt {
	v := newVT(columns, rows)
	synctest.Test(t, func(t *testing.T) {
		script(build{newTTY(v, Options{Size: v.size, NoColor: true})}, v)
	})
	if len(v.unknown) > 0 {
		t.Errorf("the terminal got %q", v.unknown)
	}
	if !v.intact() {
		t.Error("at the end the cursor is hidden or lines do not wrap")
	}
	return v
}

func expect(t *testing.T, v *vt, want string) {
	t.Helper()
	if got := v.text(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// session is a build that shows everything the display can do.
func session(b build) {
	b.d.Handle(Event{Kind: Planned, Total: 5})
	b.at("#1", Cached, "[linux/amd64 build 1/4] FROM docker.io/library/debian")
	b.at("#2", Started, "[linux/amd64 build 2/4] RUN apt-get update")
	b.d.Handle(Event{Step: "#3", Kind: Started, Name: "[linux/arm64 build 2/4] RUN apt-get update", Emulated: true})
	b.at("#4", Started, "pull")
	b.waits(time.Second)
	b.says("#2", "Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]\nGet:2\npart")
	b.complains("#3", "日本語のとても長い行です。日本語のとても長い行です。\n")
	b.moves("#4", Transfer{ID: "sha256:abcdef", Verb: "pulling", Current: 1e6, Total: 4e6})
	b.at("#3", Warning, "slow")
	b.waits(time.Second)
}

func TestTTYFrame(t *testing.T) {
	for columns, want := range map[int]string{
		40: ` => CACHED [linux/amd64 build 1/.. 0.0s
[linux/arm64 build 2/4] WARNING: slow
[+] 1/5 2.0s
 => [linux/amd64 build 2/4] RUN .. 2.0s
 => => Get:1 http://deb.debian.org/de..
 => => Get:2
 => => part
 => [linux/arm64 build 2/4] RUN .. 2.0s
 => => 日本語のとても長い行です。日本..
 => pull                           2.0s
 => => pulling sha256:abcdef 1MB / 4MB
`,
		80: ` => CACHED [linux/amd64 build 1/4] FROM docker.io/library/debian           0.0s
[linux/arm64 build 2/4] WARNING: slow
[+] 1/5 2.0s
 => [linux/amd64 build 2/4] RUN apt-get update                             2.0s
 => => Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]
 => => Get:2
 => => part
 => [linux/arm64 build 2/4] RUN apt-get update (emulated)                  2.0s
 => => 日本語のとても長い行です。日本語のとても長い行です。
 => pull                                                                   2.0s
 => => pulling sha256:abcdef 1MB / 4MB
`,
		200: ` => CACHED [linux/amd64 build 1/4] FROM docker.io/library/debian                                                                                                                                   0.0s
[linux/arm64 build 2/4] WARNING: slow
[+] 1/5 2.0s
 => [linux/amd64 build 2/4] RUN apt-get update                                                                                                                                                     2.0s
 => => Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]
 => => Get:2
 => => part
 => [linux/arm64 build 2/4] RUN apt-get update (emulated)                                                                                                                                          2.0s
 => => 日本語のとても長い行です。日本語のとても長い行です。
 => pull                                                                                                                                                                                           2.0s
 => => pulling sha256:abcdef 1MB / 4MB
`,
	} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			show(t, columns, 24, func(b build, v *vt) {
				session(b)
				expect(t, v, want)
				b.d.Close()
			})
		})
	}
}

func TestTTYEndsWithTheLogAndTheTail(t *testing.T) {
	v := show(t, 60, 24, func(b build, v *vt) {
		session(b)
		b.done("#2")
		b.fails("#3", "exit code: 1\nmore")
		b.d.Handle(Event{Step: "#4", Kind: Canceled, Err: errors.New("canceled")})
		if err := b.d.Close(); err != nil {
			t.Error(err)
		}
	})
	expect(t, v, ` => CACHED [linux/amd64 build 1/4] FROM docker.io/li.. 0.0s
[linux/arm64 build 2/4] WARNING: slow
 => [linux/amd64 build 2/4] RUN apt-get update         2.0s
 => ERROR [linux/arm64 build 2/4] RUN apt-get update.. 2.0s
 => => exit code: 1
 => CANCELED pull                                      2.0s
[+] 4/5 2.0s
------
 > [linux/arm64 build 2/4] RUN apt-get update (emulated):
1.000 日本語のとても長い行です。日本語のとても長い行です。
------
`)
}

// TestTTYAnyWidth plays the session at many sizes: no line is wider than the terminal, no frame higher, nothing scrolls into the log.
func TestTTYAnyWidth(t *testing.T) {
	for _, columns := range []int{10, 19, 20, 21, 40, 80, 200, 400, 1000} {
		for _, rows := range []int{3, 5, 10, 50} {
			v := show(t, columns, rows, func(b build, v *vt) {
				session(b)
				session(b)
				b.done("#2")
				b.done("#3")
				b.done("#4")
				b.d.Close()
			})
			if n := strings.Count(v.text(), "[+]"); n != 1 {
				t.Errorf("%d x %d: %d headers on the screen:\n%s", columns, rows, n, v.text())
			}
		}
	}
}

func TestTTYSmallTerminalSaysHowManyMore(t *testing.T) {
	show(t, 40, 6, func(b build, v *vt) {
		for i := range 9 {
			b.at(fmt.Sprint(i), Started, fmt.Sprintf("step %d", i))
			b.says(fmt.Sprint(i), "x\n")
		}
		b.waits(time.Second)
		expect(t, v, `[+] 0/9 1.0s
 => step 0                         1.0s
 => step 1                         1.0s
 => step 2                         1.0s
 => and 6 more
`)
		b.d.Close()
	})
}

func TestTTYFollowsTheSize(t *testing.T) {
	v := show(t, 80, 24, func(b build, v *vt) {
		b.at("#1", Cached, "base")
		b.at("#2", Started, "a step with a name that is longer than half of the terminal is wide")
		b.waits(time.Second)
		v.resize(40)
		b.waits(time.Second)
		v.resize(100)
		b.waits(time.Second)
		b.done("#2")
		b.d.Close()
	})
	if n := strings.Count(v.text(), "[+]"); n != 1 {
		t.Errorf("%d headers on the screen:\n%s", n, v.text())
	}
}

func TestTTYShowsTheLastLinesOnly(t *testing.T) {
	show(t, 40, 24, func(b build, v *vt) {
		b.at("#1", Started, "a")
		for i := range 10 {
			b.says("#1", fmt.Sprintf("line %d\n", i))
		}
		b.says("#1", "1%\r2%\r3%")
		b.waits(time.Second)
		if got := v.text(); strings.Count(got, " => => ") != defaultLogLines || !strings.HasSuffix(got, " => => line 9\n => => 1%\n => => 3%\n") {
			t.Errorf("got:\n%s", got)
		}
		b.d.Close()
	})
}

func TestTTYRedrawsTenTimesASecond(t *testing.T) {
	show(t, 80, 24, func(b build, v *vt) {
		b.at("#1", Started, "a")
		for range 10_000 {
			b.says("#1", "x\n")
			b.waits(time.Millisecond)
		}
		if n := v.drawn(); n < 95 || n > 101 {
			t.Errorf("%d redraws in 10 seconds", n)
		}
		b.done("#1")
		b.waits(time.Second)
		drawn := v.drawn()
		b.waits(time.Minute)
		if n := v.drawn() - drawn; n != 0 {
			t.Errorf("%d redraws while nothing ran", n)
		}
		b.d.Close()
		b.d.Close()
	})
}

// TestTTYLeavesNothingBehind: whoever is killed between two redraws leaves a terminal with a cursor that wraps lines.
func TestTTYLeavesNothingBehind(t *testing.T) {
	show(t, 80, 24, func(b build, v *vt) {
		b.at("#1", Started, "a")
		for range 20 {
			b.waits(frameEvery)
			if !v.intact() {
				t.Fatal("between redraws the cursor is hidden or lines do not wrap")
			}
		}
		b.d.Close()
	})
}

func TestTTYColors(t *testing.T) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := newTTY(&out, Options{Size: fixed(80, 24)})
		b := build{d}
		b.at("#1", Started, "a")
		b.says("#1", "\x1b[32mgreen\n")
		b.waits(time.Second)
		b.fails("#1", "x")
		d.Close()
	})
	for _, want := range []string{" => => \x1b[32mgreen\x1b[0m", "\x1b[31m => ERROR a", "0.000 \x1b[32mgreen\x1b[0m\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}
