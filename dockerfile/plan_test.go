package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// images answers for every name it knows with a config that says its platform; what it was asked is noted.
type images struct {
	configs map[string]string // by name, a config with %s for the platform members
	asked   []string
}

const busybox = `{%s,"config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},"history":[{"created":"2020-01-01T00:00:00Z","created_by":"base"}],"created":"2020-01-01T00:00:00Z"}`

func known() *images {
	return &images{configs: map[string]string{
		"busybox":                  busybox,
		"busybox:latest":           busybox,
		"docker-image://other:1":   strings.Replace(busybox, `"Cmd"`, `"User":"7","Cmd"`, 1),
		"empty":                    `{%s,"config":{"Labels":{"l":"1"}},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"LABEL l=1","empty_layer":true}]}`,
		"triggers":                 strings.Replace(busybox, `"Cmd"`, `"OnBuild":["ARG A=1","RUN <<EOF\necho $A\nEOF","COPY --from=busybox /x /y","WORKDIR /w"],"Cmd"`, 1),
		"bad-trigger":              strings.Replace(busybox, `"Cmd"`, `"OnBuild":["FROM scratch"],"Cmd"`, 1),
		"two-triggers":             strings.Replace(busybox, `"Cmd"`, `"OnBuild":["RUN a\nRUN b"],"Cmd"`, 1),
		"example.com/team/base:1":  busybox,
		"docker-image://busybox:1": busybox,
	}}
}

func (i *images) Image(_ context.Context, ref string, p ocispec.Platform) (BaseImage, error) {
	i.asked = append(i.asked, ref+" "+platforms.FormatAll(p))
	c, ok := i.configs[ref]
	if !ok {
		return BaseImage{}, fmt.Errorf("%w: %s", errNoImage, ref)
	}
	members := fmt.Sprintf(`"os":%q,"architecture":%q`, p.OS, p.Architecture)
	if p.Variant != "" {
		members += fmt.Sprintf(`,"variant":%q`, p.Variant)
	}
	return BaseImage{Ref: ref + "@" + platforms.FormatAll(p), Config: []byte(fmt.Sprintf(c, members))}, nil
}

var errNoImage = errors.New("no such image")

func targets(names ...string) []ocispec.Platform {
	var out []ocispec.Platform
	for _, n := range names {
		out = append(out, platforms.Normalize(platforms.MustParse(n)))
	}
	return out
}

// options are those of a build for amd64 on amd64.
func options(change ...func(*Options)) Options {
	o := Options{Platforms: targets("linux/amd64"), BuildPlatform: targets("linux/amd64")[0], Images: known()}
	for _, c := range change {
		c(&o)
	}
	return o
}

func both(o *Options) { o.Platforms = targets("linux/amd64", "linux/arm64") }

func arg(kv ...string) func(*Options) {
	return func(o *Options) {
		o.BuildArgs = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			o.BuildArgs[kv[i]] = kv[i+1]
		}
	}
}

func planOf(t *testing.T, src string, o Options) *Plan {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	p, err := NewPlan(t.Context(), f, o)
	if err != nil {
		t.Fatalf("NewPlan: %v", err)
	}
	checkPlan(t, p)
	return p
}

// checkPlan tests what holds for every plan.
func checkPlan(t *testing.T, p *Plan) {
	t.Helper()
	for i, s := range p.Steps {
		if s.ID != i {
			t.Errorf("step %d has ID %d", i, s.ID)
		}
		for _, in := range s.Inputs() {
			if in.ID >= s.ID {
				t.Errorf("step %d uses step %d, which is not before it", s.ID, in.ID)
			}
			for _, f := range s.For {
				if !strings.Contains(forText(in), platforms.FormatAll(f)) {
					t.Errorf("step %d is for %v, its input %d only for %s", s.ID, f, in.ID, forText(in))
				}
			}
		}
		switch s.Op.(type) {
		case *Image, *Run:
			if s.Platform == nil {
				t.Errorf("step %d has no platform", i)
			}
		default:
			if s.Platform != nil {
				t.Errorf("step %d is bound to a platform", i)
			}
		}
	}
}

func forText(s *Step) string {
	var l []string
	for _, f := range s.For {
		l = append(l, platforms.FormatAll(f))
	}
	return strings.Join(l, ",")
}

// dump writes a plan as compact text: one line per step, the environment without PATH.
func dump(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%d", s.ID)
		if s.Parent != nil {
			fmt.Fprintf(&b, "<%d", s.Parent.ID)
		}
		if s.Platform != nil {
			fmt.Fprintf(&b, " [%s]", strings.TrimPrefix(platforms.FormatAll(*s.Platform), "linux/"))
		}
		if len(s.For) > 1 {
			fmt.Fprintf(&b, " x%d", len(s.For))
		}
		b.WriteString(" " + opText(s.Op))
		if s.NoCache {
			b.WriteString(" nocache")
		}
		b.WriteByte('\n')
	}
	for _, r := range p.Results {
		if len(p.Results) > 1 {
			fmt.Fprintf(&b, "%s ", platforms.FormatAll(r.Platform))
		}
		if r.Step == nil {
			b.WriteString("= nothing\n")
			continue
		}
		fmt.Fprintf(&b, "= %d\n", r.Step.ID)
	}
	return b.String()
}

func opText(op Op) string {
	switch op := op.(type) {
	case *Image:
		return "image " + op.Name
	case *Mkdir:
		return strings.TrimSpace("mkdir " + op.Path + " " + op.Owner)
	case *Copy:
		text := "copy"
		if op.Add {
			text = "add"
		}
		if op.Link {
			text += " link"
		}
		if op.Parents {
			text += " parents"
		}
		if op.Unpack != nil {
			text += fmt.Sprintf(" unpack=%v", *op.Unpack)
		}
		if op.Owner != "" {
			text += " owner=" + op.Owner
		}
		if op.Mode != "" {
			text += " mode=" + op.Mode
		}
		if len(op.Exclude) > 0 {
			text += fmt.Sprintf(" exclude=%q", op.Exclude)
		}
		for _, s := range op.Sources {
			text += " " + sourceText(s)
		}
		return text + " -> " + op.Dest
	case *Run:
		return "run " + runText(op)
	}
	return "?"
}

func sourceText(s Source) string {
	where := "scratch"
	switch {
	case s.Step != nil:
		where = fmt.Sprint(s.Step.ID)
	case s.Local != nil:
		where = "context:" + s.Local.Name
	case s.Inline != nil:
		return fmt.Sprintf("<<%s(%o)%q", s.Inline.Name, s.Inline.Mode, s.Inline.Data)
	}
	if s.Paths == nil {
		return where
	}
	return fmt.Sprintf("%s%q", where, s.Paths)
}

func runText(r *Run) string {
	text := fmt.Sprintf("%q", r.Args)
	if len(r.Args) == 3 && r.Args[0] == "/bin/sh" && r.Args[1] == "-c" {
		text = r.Args[2]
	}
	for _, kv := range r.Env {
		if !strings.HasPrefix(kv, "PATH=") {
			text += " {" + kv + "}"
		}
	}
	for _, kv := range r.Proxy {
		text += " proxy{" + kv + "}"
	}
	add := func(name, v string) {
		if v != "" {
			text += " " + name + "=" + v
		}
	}
	if r.Dir != "/" {
		add("dir", r.Dir)
	}
	add("user", r.User)
	add("network", r.Network)
	add("hosts", strings.Join(r.Hosts, ","))
	if r.Insecure {
		text += " insecure"
	}
	for _, f := range r.Files {
		text += fmt.Sprintf(" file=%s(%o)%q", f.Name, f.Mode, f.Data)
	}
	for _, m := range r.Mounts {
		text += " " + mountText(m)
	}
	return text
}

func mountText(m Mount) string {
	text := m.Type + "("
	if m.Type == "bind" || m.Type == "cache" {
		text += sourceText(m.From) + m.Source + "->"
	}
	text += m.Target
	if m.ID != "" {
		text += " id=" + m.ID
	}
	if m.Env != "" {
		text += " env=" + m.Env
	}
	if m.Sharing != "" {
		text += " " + m.Sharing
	}
	if m.Size > 0 {
		text += fmt.Sprintf(" size=%d", m.Size)
	}
	if m.Mode != nil {
		text += fmt.Sprintf(" mode=%o", *m.Mode)
	}
	if m.UID != nil {
		text += fmt.Sprintf(" uid=%d", *m.UID)
	}
	if m.GID != nil {
		text += fmt.Sprintf(" gid=%d", *m.GID)
	}
	if m.ReadOnly {
		text += " ro"
	}
	if m.Required {
		text += " required"
	}
	return text + ")"
}

func TestPlan(t *testing.T) {
	for _, tc := range planCases {
		t.Run(tc.name, func(t *testing.T) {
			got := dump(planOf(t, tc.src, options(tc.with...)))
			if want := strings.TrimLeft(tc.want, "\n"); got != want {
				t.Errorf("plan\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range refusedCases {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Parse("Dockerfile", []byte(tc.src))
			if err == nil {
				_, err = NewPlan(t.Context(), f, options(tc.with...))
			}
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			var e *Error
			if errors.As(err, &e) {
				text += " | " + e.Hint
			}
			if !regexp.MustCompile(tc.want).MatchString(text) {
				t.Errorf("error %q, want a match of %s", text, tc.want)
			}
		})
	}
}
