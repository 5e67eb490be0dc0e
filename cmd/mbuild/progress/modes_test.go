package progress

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	terminal := Options{Size: fixed(80, 24)}
	dumb := Options{Size: fixed(80, 24), Term: "dumb"}
	for _, c := range []struct {
		rule string
		mode Mode
		o    Options
		want Display
		err  string
	}{
		{"auto is tty on a terminal", Auto, terminal, &tty{}, ""},
		{"auto is plain elsewhere", Auto, Options{}, &plain{}, ""},
		{"auto is plain on a dumb terminal", Auto, dumb, &plain{}, ""},
		{"empty is auto", "", terminal, &tty{}, ""},
		{"plain is plain on a terminal", Plain, terminal, &plain{}, ""},
		{"tty is plain on a dumb terminal", TTY, dumb, &plain{}, ""},
		{"tty needs a terminal", TTY, Options{}, nil, `"tty" needs a terminal`},
		{"quiet", Quiet, terminal, &quiet{}, ""},
		{"none", None, terminal, discard{}, ""},
		{"rawjson", RawJSON, terminal, &rawJSON{}, ""},
		{"others are errors", "fancy", terminal, nil, `unknown progress mode "fancy"`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			d, err := New(c.mode, &bytes.Buffer{}, c.o)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := typeName(d), typeName(c.want); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func typeName(d Display) string {
	switch d.(type) {
	case *tty:
		return "tty"
	case *plain:
		return "plain"
	case *quiet:
		return "quiet"
	case *rawJSON:
		return "rawjson"
	case discard:
		return "none"
	}
	return "unknown"
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := New(Auto, f, Options{})
	if err != nil || typeName(d) != "plain" {
		t.Fatalf("got %s, %v", typeName(d), err)
	}
}

func TestFromEnvironment(t *testing.T) {
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	o, err := FromEnvironment(env(map[string]string{"NO_COLOR": "1", "BUILDKIT_TTY_LOG_LINES": "12", "TERM": "xterm"}))
	if err != nil || !o.NoColor || o.LogLines != 12 || o.Term != "xterm" {
		t.Fatalf("got %+v, %v", o, err)
	}
	for _, v := range []string{"0", "-1", "many", "1000000"} {
		if _, err := FromEnvironment(env(map[string]string{"BUILDKIT_TTY_LOG_LINES": v})); err == nil || !strings.Contains(err.Error(), v) {
			t.Errorf("BUILDKIT_TTY_LOG_LINES=%s: got %v", v, err)
		}
	}
}

func TestQuietRepeatsTheTailOfAFailureAndNothingElse(t *testing.T) {
	var out bytes.Buffer
	b := build{newQuiet(&out, false)}
	b.at("#1", Started, "good")
	b.says("#1", "fine\n")
	b.done("#1")
	b.at("", Warning, "unheard")
	b.at("#2", Started, "bad")
	b.d.Handle(Event{Step: "#2", Kind: Output, Data: []byte("oh no"), Time: time.Now().Add(time.Hour)})
	b.fails("#2", "x")
	if out.Len() > 0 {
		t.Errorf("wrote %q before Close", &out)
	}
	b.d.Close()
	if got := out.String(); !strings.HasPrefix(got, "------\n > bad:\n") || !strings.HasSuffix(got, " oh no\n------\n") || strings.Contains(got, "good") {
		t.Errorf("got %q", got)
	}
}

func TestRawJSON(t *testing.T) {
	var out bytes.Buffer
	d := newRawJSON(&out)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	for _, e := range []Event{
		{Kind: Planned, Total: 3},
		{Kind: Started, Step: "#1", Name: "[linux/arm64 1/1] RUN a", Platforms: []string{"linux/arm64"}, Emulated: true},
		{Kind: Output, Step: "#1", Data: []byte("hi\xff"), Stderr: true},
		{Kind: Transferring, Step: "#1", Transfer: &Transfer{ID: "x", Verb: "pulling", Current: 1, Total: 2}},
		{Kind: Warning, Name: "w"},
		{Kind: Failed, Step: "#1", Err: errors.New("bad"), Time: at.Add(1500 * time.Millisecond)},
		{Kind: Cached, Step: "#2", Name: "c"},
		{Kind: Done, Step: "#3", Duration: time.Second},
		{Kind: Message, Step: "#3", Name: "m"},
		{Kind: Canceled, Step: "#4"},
	} {
		if e.Time.IsZero() {
			e.Time = at
		}
		d.Handle(e)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	const head = `{"v":1,"time":"2026-01-02T02:04:05.000000006Z",`
	want := head + `"kind":"planned","total":3}
` + head + `"kind":"started","step":"#1","name":"[linux/arm64 1/1] RUN a","platforms":["linux/arm64"],"emulated":true}
` + head + `"kind":"output","step":"#1","stream":"stderr","data":"aGn/"}
` + head + `"kind":"transfer","step":"#1","transfer":{"id":"x","verb":"pulling","current":1,"total":2,"done":false}}
` + head + `"kind":"warning","name":"w"}
{"v":1,"time":"2026-01-02T02:04:06.500000006Z","kind":"failed","step":"#1","error":"bad","duration":1.5}
` + head + `"kind":"cached","step":"#2","name":"c","duration":0}
` + head + `"kind":"done","step":"#3","duration":1}
` + head + `"kind":"message","step":"#3","name":"m"}
` + head + `"kind":"canceled","step":"#4","duration":0}
`
	if got := out.String(); got != want {
		t.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
}
