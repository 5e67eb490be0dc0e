package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/cmd/mbuild/progress"
	"mbuild/dockerfile"
)

// observer turns what the executor reports into events of the display.
type observer struct {
	display  progress.Display
	emulated func(ocispec.Platform) bool
	multi    bool // several target platforms: names say which
}

func stepID(s *dockerfile.Step) string { return fmt.Sprintf("#%d", s.ID+1) }

func (o *observer) event(s *dockerfile.Step, kind progress.Kind) progress.Event {
	e := progress.Event{Step: stepID(s), Kind: kind, Name: o.name(s)}
	for _, p := range s.For {
		e.Platforms = append(e.Platforms, platformName(p))
	}
	if _, ok := s.Op.(*dockerfile.Run); ok && s.Platform != nil {
		e.Emulated = o.emulated(*s.Platform)
	}
	return e
}

// name is "[linux/arm64 build 3/7] RUN …"; a step of several platforms names them all.
func (o *observer) name(s *dockerfile.Step) string {
	var parts []string
	if o.multi {
		var on []string
		if s.Platform != nil {
			on = append(on, platformName(*s.Platform))
		} else {
			for _, p := range s.For {
				on = append(on, platformName(p))
			}
		}
		parts = append(parts, strings.Join(on, ","))
	}
	if s.Stage != "" {
		parts = append(parts, stageName(s.Stage))
	}
	if s.Position > 0 {
		parts = append(parts, fmt.Sprintf("%d/%d", s.Position, s.Total))
	}
	if len(parts) == 0 {
		return s.Name
	}
	return fmt.Sprintf("[%s] %s", strings.Join(parts, " "), s.Name)
}

// stageName names a stage for display; one without a name has its number only.
func stageName(stage string) string {
	if _, err := strconv.Atoi(stage); err == nil {
		return "stage-" + stage
	}
	return stage
}

func (o *observer) Started(s *dockerfile.Step) { o.display.Handle(o.event(s, progress.Started)) }
func (o *observer) Cached(s *dockerfile.Step)  { o.display.Handle(o.event(s, progress.Cached)) }

func (o *observer) Done(s *dockerfile.Step, err error) {
	e := o.event(s, progress.Done)
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind, e.Err = progress.Canceled, err
	case err != nil:
		e.Kind, e.Err = progress.Failed, err
	}
	o.display.Handle(e)
}

func (o *observer) Output(s *dockerfile.Step) (stdout, stderr io.Writer) {
	return &stepOutput{o, s, false}, &stepOutput{o, s, true}
}

func (o *observer) Transfer(s *dockerfile.Step, id string, current, total int64) {
	e := o.event(s, progress.Transferring)
	e.Transfer = &progress.Transfer{ID: id, Verb: "pulling", Current: current, Total: total, Done: total > 0 && current >= total}
	o.display.Handle(e)
}

// stepOutput is one of the two outputs of a RUN.
type stepOutput struct {
	observer *observer
	step     *dockerfile.Step
	stderr   bool
}

func (w *stepOutput) Write(p []byte) (int, error) {
	w.observer.display.Handle(progress.Event{Step: stepID(w.step), Kind: progress.Output, Data: p, Stderr: w.stderr})
	return len(p), nil
}

func platformName(p ocispec.Platform) string { return platforms.FormatAll(platforms.Normalize(p)) }
