package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestErrorShowsWhere(t *testing.T) {
	_, err := Parse("sub/Dockerfile", []byte("FROM scratch\nCOPY --chwn=1 \\\n  a /\nRUN x\n"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v", err)
	}
	want := Location{File: "sub/Dockerfile", Start: 2, End: 3, Lines: []string{`COPY --chwn=1 \`, "  a /"}}
	if !reflect.DeepEqual(e.Location, want) {
		t.Errorf("location %+v, want %+v", e.Location, want)
	}
	if got, want := e.Error(), "sub/Dockerfile:2: COPY: unknown flag: --chwn"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if got, want := e.Excerpt(), "   2 | COPY --chwn=1 \\\n   3 |   a /\n"; got != want {
		t.Errorf("excerpt %q, want %q", got, want)
	}
	if got, want := e.Hint, "did you mean chown?"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
}

func TestLongLinesAreNotShown(t *testing.T) {
	_, err := Parse("Dockerfile", []byte("FROM scratch\nRUN "+strings.Repeat("x", maxLine)))
	var e *Error
	if !errors.As(err, &e) || e.Start != 2 || len(e.Error()) > 200 || e.Excerpt() != "" {
		t.Errorf("error %v", err)
	}
	if _, err := Parse("Dockerfile", make([]byte, maxFile+1)); err == nil || len(err.Error()) > 200 {
		t.Errorf("error %v for a file that is too long", err)
	}
}

func TestFrontends(t *testing.T) {
	for ref, want := range map[string]bool{
		"docker/dockerfile":                                     true,
		"docker/dockerfile:1":                                   true,
		"docker/dockerfile:1-labs":                              true,
		"docker/dockerfile:1.4":                                 true,
		"docker/dockerfile:1.7.0-labs":                          true,
		"docker/dockerfile:1.0-experimental":                    true,
		"docker/dockerfile:experimental":                        true,
		"docker.io/docker/dockerfile:latest":                    true,
		"docker/dockerfile-upstream:1":                          true,
		"dockerfile.v0":                                         true,
		"docker/dockerfile:1@sha256:" + strings.Repeat("0", 64): true,
		"docker/dockerfile:1.20":                                true,
		"docker/dockerfile:1.21":                                false,
		"docker/dockerfile:2":                                   false,
		"docker/dockerfile:master":                              false,
		"docker/dockerfile-upstream:master":                     false,
		"docker/dockerfilex":                                    false,
		"ghcr.io/docker/dockerfile:1":                           false,
		"tonistiigi/dockerfile:sub":                             false,
		"":                                                      false,
	} {
		if got := checkFrontend(ref) == ""; got != want {
			t.Errorf("%s: accepted %v, want %v", ref, got, want)
		}
	}
	for _, src := range []string{"// syntax=x/y\nFROM scratch", "#!/usr/bin/env x\n# syntax=x/y\nFROM scratch", "\ufeff#syntax = x/y extra\nFROM scratch"} {
		if _, err := Parse("Dockerfile", []byte(src)); err == nil || !strings.Contains(err.Error(), `"x/y"`) {
			t.Errorf("%q: error %v", src, err)
		}
	}
}

func TestStepsAreDescribed(t *testing.T) {
	p := planOf(t, "# c\nFROM busybox AS build\nARG V=1\nRUN echo $V \\\n  $UNSET \"$V\"\nRUN <<EOF\nset -e\nx\nEOF\nCOPY $V/a \\\n /b\nRUN --mount=type=secret,id=s,env=S use $S\nFROM triggers\nWORKDIR /$A\ncopy --from=build /b /\n", options())
	var got []string
	for _, s := range p.Steps {
		got = append(got, fmt.Sprintf("%s %d/%d %d-%d %s", s.Stage, s.Position, s.Total, s.Loc.Start, s.Loc.End, s.Name))
	}
	want := `1 1/6 13-13 FROM triggers
1 2/6 13-13 ONBUILD RUN <<EOF (echo 1)
1 0/0 13-13 FROM busybox
1 3/6 13-13 ONBUILD COPY --from=busybox /x /y
1 4/6 13-13 ONBUILD WORKDIR /w
1 5/6 14-14 WORKDIR /1
build 2/5 4-5 RUN echo 1   $UNSET "1"
build 3/5 6-9 RUN <<EOF (set -e...)
build 4/5 10-11 COPY 1/a  /b
build 5/5 12-12 RUN --mount=type=secret,id=s,env=S use ****
1 6/6 15-15 COPY --from=build /b /`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("steps\n%s\nwant\n%s", text, want)
	}
}

func TestChainRunsFromTheBottom(t *testing.T) {
	p := planOf(t, "FROM busybox\nRUN a\nCOPY --from=busybox:latest x /\nRUN b\n", options())
	var ids []int
	for _, s := range p.Results[0].Chain() {
		ids = append(ids, s.ID)
	}
	if fmt.Sprint(ids) != "[0 1 3 4]" {
		t.Errorf("chain %v", ids)
	}
	if in := p.Steps[3].Inputs(); len(in) != 2 || in[0].ID != 1 || in[1].ID != 2 {
		t.Errorf("inputs %v", in)
	}
	if in := (&Step{Parent: p.Steps[0], Op: &Copy{Sources: []Source{{Step: p.Steps[0]}, {Step: p.Steps[0]}}}}).Inputs(); len(in) != 1 {
		t.Errorf("inputs %v, want one", in)
	}
}

func TestImagesAreAskedOnce(t *testing.T) {
	i := known()
	planOf(t, "FROM busybox AS a\nRUN x\nFROM busybox\nCOPY --from=busybox / /\nCOPY --from=a / /\n", options(both, func(o *Options) { o.Images = i }))
	if got := strings.Join(i.asked, ", "); got != "busybox linux/amd64, busybox linux/arm64" {
		t.Errorf("asked for %s", got)
	}
}

func TestNoImageIsAskedForScratch(t *testing.T) {
	planOf(t, "FROM scratch\nCOPY a /\n", options(func(o *Options) { o.Images = nil }))
}

func TestErrorsOfImagesAreTheCause(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("FROM nowhere"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlan(t.Context(), f, options()); !errors.Is(err, errNoImage) {
		t.Errorf("error %v does not wrap the cause", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPlan(ctx, f, options()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after cancel", err)
	}
}

func TestPlansOfOneFileAreIndependent(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("FROM scratch\nARG A\nENV B=$A\nEXPOSE $A\nCOPY $A <<E /\n$A\nE\nRUN --mount=target=/$A x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"1", "2", "1"} {
		p, err := NewPlan(t.Context(), f, options(arg("A", v)))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dump(p), fmt.Sprintf("0 copy context:[%q] <<E(644)\"%s\\n\" -> /\n1<0 [amd64] run x {A=%s} {B=%s} bind(context:/->/%s ro)\n= 1\n", v, v, v, v, v); got != want {
			t.Errorf("plan\n%s\nwant\n%s", got, want)
		}
	}
}

// FuzzPlan wants Parse and NewPlan to end without a panic, with an *Error or a sound plan, and the same every time.
func FuzzPlan(f *testing.F) {
	for _, tc := range planCases {
		f.Add([]byte(tc.src))
	}
	for _, tc := range refusedCases {
		if len(tc.src) < 200 {
			f.Add([]byte(tc.src))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("Dockerfile", src)
		var e *Error
		if err != nil {
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("error %v is no *Error", err)
			}
			return
		}
		begin := time.Now()
		p, err := NewPlan(t.Context(), file, options(both))
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("planning took %v", took)
		}
		if err != nil {
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("error %v is no *Error", err)
			}
			return
		}
		checkPlan(t, p)
		for _, r := range p.Results {
			if _, err := r.ImageConfig(madeAt); err != nil {
				t.Error(err)
			}
		}
		again, err := NewPlan(t.Context(), file, options(both))
		if err != nil || dump(again) != dump(p) {
			t.Errorf("planning twice differs (%v)", err)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	src := "FROM scratch AS s0\n"
	for i := range 100 {
		src += fmt.Sprintf("FROM s%d AS s%d\nENV E%d=$E%d\nCOPY a /\nRUN x\n", i, i+1, i, i-1)
	}
	f, err := Parse("Dockerfile", []byte(src))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := NewPlan(b.Context(), f, options(both)); err != nil {
			b.Fatal(err)
		}
	}
}
