package dockerfile

import (
	"fmt"
	"strings"
	"testing"
)

// text is an outline on one line.
func (o *Outline) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", o.Name, o.Description)
	for _, a := range o.Args {
		fmt.Fprintf(&b, " arg:%d:%s=%s/%s", a.Start, a.Name, a.Value, a.Description)
	}
	writeMounts(&b, "secret", o.Secrets)
	writeMounts(&b, "ssh", o.SSH)
	writeMounts(&b, "cache", o.Caches)
	for _, m := range o.Missing {
		fmt.Fprintf(&b, " missing:%s", m.Name)
	}
	return b.String()
}

func writeMounts(b *strings.Builder, kind string, mounts []OutlineMount) {
	for _, m := range mounts {
		fmt.Fprintf(b, " %s:%d:%s", kind, m.Start, m.ID)
		if m.Required {
			b.WriteString("!")
		}
	}
}

func TestOutline(t *testing.T) {
	for _, tc := range []struct {
		name, src, want string
		with            []func(*Options)
	}{
		{name: "a target that takes nothing", src: "FROM scratch\n", want: "/"},
		{name: "what stages take that the target needs, with descriptions",
			src:  "ARG in=box\nARG unused=a${in}\n# sfx is a suffix\nARG sfx=usy${in}\nFROM b${sfx} AS first\n# of nothing\nARG FOO=1\n# BAR is a number\nARG BAR=2\nFROM busybox AS second\nARG BAZ\nFROM scratch AS third\nARG ABC=a\n# goal is the goal\nFROM third AS goal\nCOPY --from=first /a /\nFROM second\n",
			with: with(arg("BAR", "3"), goal("goal")),
			want: "goal/is the goal arg:1:in=box/ arg:4:sfx=usybox/is a suffix arg:7:FOO=1/ arg:9:BAR=3/is a number arg:13:ABC=a/"},
		{name: "a global argument that extends itself", src: "ARG A=1\nARG B=b\nARG UNUSED=u\nARG A=$A$B\nARG C=${A}2\nARG A=$A$C\nFROM scratch\nARG A\nARG I=1\nARG J=${I}2\nARG I=$I$J\n",
			want: "/ arg:2:B=b/ arg:5:C=1b2/ arg:6:A=1b1b2/ arg:10:J=12/ arg:11:I=112/"},
		{name: "a stage that repeats a global argument means that one", src: "# V is a version\nARG V=1\nFROM scratch AS a\nARG V\nFROM a\nARG V=3\n", with: with(arg("V", "2"), goal("a")), want: "a/ arg:2:V=2/is a version"},
		{name: "global arguments in FROM --platform", src: "ARG P=linux/arm64\nFROM --platform=$P busybox\n", want: "/ arg:1:P=linux/arm64/"},
		{name: "platform arguments come from nobody", src: "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nARG X=$TARGETARCH\n", want: "/ arg:3:X=amd64/"},
		{name: "the argument nearest to the target counts", src: "FROM scratch AS a\nARG X=1\nFROM a\nARG X=2\n", want: "/ arg:4:X=2/"},
		{name: "secrets and agents", src: "FROM busybox AS a\nRUN --mount=type=secret,target=/etc/p,required --mount=type=ssh x\nFROM busybox AS other\nRUN --mount=type=secret,id=other x\nFROM a\nARG V=1\nRUN --mount=type=secret,id=s$V,env=S --mount=type=ssh,id=k,required x\nRUN --mount=type=ssh x\n",
			want: "/ arg:6:V=1/ secret:2:p! secret:7:s1 ssh:7:k! ssh:8:default"},
		{name: "caches, also of stages that are only mounted", src: "FROM busybox AS a\nRUN --mount=type=cache,target=/go,id=go x\nFROM busybox\nRUN --mount=from=a,target=/a --mount=type=cache,target=/apt x\n",
			want: "/ cache:2:go cache:4:/apt"},
		{name: "triggers of the base count at FROM", src: "FROM triggers\n", want: "/ arg:1:A=1/"},
		{name: "a base that is missing", src: "FROM nowhere\nARG A=$B\nARG C=c\n", want: "/ arg:2:A=/ arg:3:C=c/ missing:nowhere"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Parse("Dockerfile", []byte(tc.src))
			if err != nil {
				t.Fatal(err)
			}
			o, err := NewOutline(t.Context(), f, options(tc.with...))
			if err != nil {
				t.Fatal(err)
			}
			if got := o.text(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestOutlineOfABrokenTarget(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("FROM scratch\nCOPY --from=9 a /\n"))
	if err != nil {
		t.Fatal(err)
	}
	if o, err := NewOutline(t.Context(), f, options()); err == nil || !strings.Contains(err.Error(), "stage index 9") {
		t.Errorf("got %v, %v", o, err)
	}
}

func TestTargets(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("ARG V=1\n# build compiles\nFROM --platform=$BUILDPLATFORM alpine:$V AS Build\n# something else\nFROM busybox\nRUN x\n\n# bin is the program\n# check=skip=FromAsCasing\nFROM build as bin\n"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := f.Targets()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range list {
		got = append(got, fmt.Sprintf("%d %s|%s|%s|%s|%v", x.Start, x.Name, x.Description, x.Base, x.Platform, x.Default))
	}
	want := []string{"3 build|compiles|alpine:$V|$BUILDPLATFORM|false", "5 ||busybox||false", "10 bin|is the program|build||true"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
