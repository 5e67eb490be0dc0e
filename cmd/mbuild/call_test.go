package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"mbuild/cmd/mbuild/flags"
	"mbuild/dockerfile"
)

func TestParseCall(t *testing.T) {
	for _, tc := range []struct {
		rule string
		args []string
		want flags.Call
		err  string
	}{
		{rule: "a build is the default", want: flags.Call{Method: flags.MethodBuild}},
		{rule: "a request is named", args: []string{"--call=targets,format=json"}, want: flags.Call{Method: flags.MethodTargets, JSON: true}},
		{rule: "by its older name too", args: []string{"--print=outline"}, want: flags.Call{Method: flags.MethodOutline}},
		{rule: "the two names do not contradict each other", args: []string{"--print=outline", "--call=check"}, err: "--print is the older name"},
		{rule: "a check is short", args: []string{"--check"}, want: flags.Call{Method: flags.MethodCheck}},
		{rule: "and may say how", args: []string{"--check", "--call=check,ignorestatus=1"}, want: flags.Call{Method: flags.MethodCheck, IgnoreStatus: true}},
		{rule: "but nothing else", args: []string{"--check", "--call=build"}, err: "excludes --call=build"},
		{rule: "a check that is off is a build", args: []string{"--check=false"}, want: flags.Call{Method: flags.MethodBuild}},
		{rule: "what nothing is said of is unknown", args: []string{"--call=what"}, err: "unknown method"},
		{rule: "nothing is built, so there is nothing to say of it", args: []string{"--check", "--metadata-file=m"}, err: "--metadata-file tells of what was built"},
		{rule: "a build has metadata", args: []string{"--metadata-file=m"}, want: flags.Call{Method: flags.MethodBuild}},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			var got flags.Call
			app := &cli.App{Flags: buildFlags(), Action: func(c *cli.Context) error {
				o := &buildOptions{}
				err := o.parseCall(c)
				got = o.call
				return err
			}, ExitErrHandler: func(*cli.Context, error) {}}
			err := app.Run(append([]string{"mbuild"}, tc.args...))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestExcerptShowsWhatIsAround(t *testing.T) {
	lines := strings.Split("a\nb\nc\r\nd\n\nf", "\n")
	for _, tc := range []struct {
		rule       string
		start, end int
		want       string
	}{
		{"two lines around one", 4, 4, "2     b|3     c|4 >>> d|5|6     f"},
		{"one line around several", 3, 4, "2     b|3 >>> c|4 >>> d|5"},
		{"nothing before the first line", 1, 1, "1 >>> a|2     b|3     c"},
		{"nothing behind the last line", 6, 6, "4     d|5|6 >>> f"},
	} {
		t.Run(tc.rule, func(t *testing.T) {
			var b bytes.Buffer
			writeExcerpt(&b, dockerfile.Location{File: "F", Start: tc.start, End: tc.end}, lines)
			all := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			var got []string
			for _, l := range all[2 : len(all)-1] {
				got = append(got, strings.TrimRight(strings.Replace(strings.TrimSpace(l), " | ", " ", 1), " |"))
			}
			if s := strings.Join(got, "|"); s != tc.want {
				t.Errorf("got  %q\nwant %q", s, tc.want)
			}
		})
	}
	var b bytes.Buffer
	writeExcerpt(&b, dockerfile.Location{File: "F"}, lines)
	if b.Len() > 0 {
		t.Errorf("the file as a whole has the excerpt %q", b.String())
	}
}

func TestTextCannotSteerATerminal(t *testing.T) {
	var b bytes.Buffer
	c := &call{buildOptions: &buildOptions{}, stdout: &b, file: "Dockerfile", text: []byte("# a is \x1b[2J it\nFROM scratch AS a\n")}
	if err := c.targets(); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsRune(b.String(), '\x1b') || !strings.Contains(b.String(), "?[2J it") {
		t.Errorf("got %q", b.String())
	}
}
