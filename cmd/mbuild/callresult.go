package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"mbuild/dockerfile"
)

// result is the answer to a request, with the fields of BuildKit's as JSON and laid out like
// buildx's as text.
type result interface {
	writeText(w io.Writer)
}

func writeJSON(w io.Writer, r result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}

type position struct {
	Line int `json:"line"`
}

type lineRange struct {
	Start position `json:"start"`
	End   position `json:"end"`
}

type location struct {
	Ranges []lineRange `json:"ranges,omitempty"`
}

func locationOf(l dockerfile.Location) location {
	if l.Start == 0 {
		return location{}
	}
	return location{Ranges: []lineRange{{Start: position{l.Start}, End: position{l.End}}}}
}

// lintResults are the findings of --call=check.
type lintResults struct {
	Warnings []lintWarning `json:"warnings"`
	Sources  []sourceInfo  `json:"sources"`
	Error    *buildError   `json:"buildError,omitempty"`
}

type lintWarning struct {
	RuleName    string   `json:"ruleName"`
	Description string   `json:"description,omitempty"`
	URL         string   `json:"url,omitempty"`
	Detail      string   `json:"detail,omitempty"`
	Location    location `json:"location"`

	at dockerfile.Location
}

type sourceInfo struct {
	Filename string `json:"filename"`
	Data     []byte `json:"data"`
	Language string `json:"language"`
}

type buildError struct {
	Message  string   `json:"message"`
	Location location `json:"location"`
}

func newLintResults(found *dockerfile.Checked, file string, text []byte) *lintResults {
	r := &lintResults{
		Warnings: make([]lintWarning, 0, len(found.Warnings)),
		Sources:  []sourceInfo{{Filename: file, Data: text, Language: "Dockerfile"}},
	}
	for _, w := range found.Warnings {
		r.Warnings = append(r.Warnings, lintWarning{
			RuleName: w.Rule, Description: w.Description, URL: w.URL, Detail: w.Message,
			Location: locationOf(w.Location), at: w.Location,
		})
	}
	if found.Err != nil {
		r.Error = &buildError{Message: found.Err.Message, Location: locationOf(found.Err.Location)}
	}
	return r
}

func (r *lintResults) writeText(w io.Writer) {
	switch n := len(r.Warnings); {
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case r.Error == nil:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	lines := strings.Split(strings.TrimSuffix(string(r.Sources[0].Data), "\n"), "\n")
	for _, x := range r.Warnings {
		fmt.Fprintf(w, "\nWARNING: %s", x.RuleName)
		if x.URL != "" {
			fmt.Fprintf(w, " - %s", x.URL)
		}
		fmt.Fprintf(w, "\n%s\n", x.Detail)
		writeExcerpt(w, x.at, lines)
	}
}

// writeExcerpt shows lines of a Dockerfile with a little of what is around them.
func writeExcerpt(w io.Writer, at dockerfile.Location, lines []string) {
	if at.Start == 0 {
		return
	}
	around := 1
	if at.Start == at.End {
		around = 2
	}
	const rule = "--------------------"
	fmt.Fprintf(w, "%s\n%s\n", at, rule)
	for n := max(1, at.Start-around); n <= min(len(lines), at.End+around); n++ {
		mark := "   "
		if at.Start <= n && n <= at.End {
			mark = ">>>"
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf(" %3d | %s %s", n, mark, strings.TrimSuffix(lines[n-1], "\r")), " "))
	}
	fmt.Fprintln(w, rule)
}

// targetList is the answer to --call=targets.
type targetList struct {
	Targets []target `json:"targets"`
	Sources [][]byte `json:"sources"`
}

type target struct {
	Name        string   `json:"name,omitempty"`
	Default     bool     `json:"default,omitempty"`
	Description string   `json:"description,omitempty"`
	Base        string   `json:"base,omitempty"`
	Platform    string   `json:"platform,omitempty"`
	Location    location `json:"location"`
}

func newTargetList(targets []dockerfile.Target, text []byte) *targetList {
	l := &targetList{Sources: [][]byte{text}}
	for _, t := range targets {
		l.Targets = append(l.Targets, target{
			Name: t.Name, Default: t.Default, Description: t.Description,
			Base: t.Base, Platform: t.Platform, Location: locationOf(t.Location),
		})
	}
	return l
}

func (l *targetList) writeText(w io.Writer) {
	rows := [][]string{{"TARGET", "DESCRIPTION"}}
	for _, t := range l.Targets {
		name := t.Name
		if t.Default {
			name = strings.TrimSpace(name + " (default)")
		}
		rows = append(rows, []string{name, t.Description})
	}
	writeTable(w, 1, rows)
}

// outline is the answer to --call=outline.
type outline struct {
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Args        []outlineArg   `json:"args,omitempty"`
	Secrets     []outlineMount `json:"secrets,omitempty"`
	SSH         []outlineMount `json:"ssh,omitempty"`
	Cache       []outlineCache `json:"cache,omitempty"`
	Sources     [][]byte       `json:"sources,omitempty"`
}

type outlineArg struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Value       string   `json:"value,omitempty"`
	Location    location `json:"location"`
}

type outlineMount struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Location location `json:"location"`
}

type outlineCache struct {
	ID       string   `json:"ID"`
	Location location `json:"location"`
}

func newOutline(from *dockerfile.Outline, text []byte) *outline {
	o := &outline{Name: from.Name, Description: from.Description, Sources: [][]byte{text}}
	for _, a := range from.Args {
		o.Args = append(o.Args, outlineArg{Name: a.Name, Description: a.Description, Value: a.Value, Location: locationOf(a.Location)})
	}
	mounts := func(list []dockerfile.OutlineMount) (out []outlineMount) {
		for _, m := range list {
			out = append(out, outlineMount{Name: m.ID, Required: m.Required, Location: locationOf(m.Location)})
		}
		return out
	}
	o.Secrets, o.SSH = mounts(from.Secrets), mounts(from.SSH)
	for _, m := range from.Caches {
		o.Cache = append(o.Cache, outlineCache{ID: m.ID, Location: locationOf(m.Location)})
	}
	return o
}

func (o *outline) writeText(w io.Writer) {
	if o.Name != "" || o.Description != "" {
		name := o.Name
		if name == "" {
			name = "(default)"
		}
		rows := [][]string{{"TARGET:", name}}
		if o.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", o.Description})
		}
		writeTable(w, 1, rows)
		fmt.Fprintln(w)
	}
	var args, caches [][]string
	for _, a := range o.Args {
		args = append(args, []string{a.Name, a.Value, a.Description})
	}
	for _, c := range o.Cache {
		caches = append(caches, []string{c.ID})
	}
	writeSection(w, []string{"BUILD ARG", "VALUE", "DESCRIPTION"}, args)
	writeSection(w, []string{"SECRET", "REQUIRED"}, mountRows(o.Secrets))
	writeSection(w, []string{"SSH", "REQUIRED"}, mountRows(o.SSH))
	writeSection(w, []string{"CACHE MOUNT"}, caches)
}

func mountRows(mounts []outlineMount) (rows [][]string) {
	for _, m := range mounts {
		required := ""
		if m.Required {
			required = "true"
		}
		rows = append(rows, []string{m.Name, required})
	}
	return rows
}

// writeSection writes a table and an empty line, or nothing when there are no rows.
func writeSection(w io.Writer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	writeTable(w, 3, append([][]string{head}, rows...))
	fmt.Fprintln(w)
}

// writeTable aligns columns with gap blanks between them.
func writeTable(w io.Writer, gap int, rows [][]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// requests is the answer to --call=subrequests.describe.
type requests []request

type request struct {
	Name        string  `json:"name"`
	Version     string  `json:"version"`
	Type        string  `json:"type"`
	Description string  `json:"description"`
	Opts        []named `json:"opts"`
	Inputs      []named `json:"inputs"`
	Metadata    []named `json:"metadata"`
	Refs        []named `json:"refs"`
}

type named struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func describe() requests {
	result := []named{{Name: "result.json"}, {Name: "result.txt"}}
	list := requests{
		{Name: "outline", Description: "what a target takes from outside: arguments, secrets, agents, caches", Opts: []named{{"target", "the stage"}}, Metadata: result},
		{Name: "targets", Description: "the stages and which of them is the default", Metadata: result},
		{Name: "lint", Description: "the findings of the build checks", Metadata: append(result, named{Name: "result.statuscode"})},
		{Name: "subrequests.describe", Description: "this list", Metadata: result},
	}
	for i := range list {
		list[i].Name = "frontend." + list[i].Name
		list[i].Version, list[i].Type = "1.0.0", "rpc"
	}
	return list
}

func (r requests) writeText(w io.Writer) {
	rows := [][]string{{"NAME", "VERSION", "DESCRIPTION"}}
	for _, x := range r {
		rows = append(rows, []string{strings.TrimPrefix(x.Name, "frontend."), x.Version, x.Description})
	}
	writeTable(w, 1, rows)
}
