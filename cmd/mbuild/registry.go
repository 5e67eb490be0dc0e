package main

import (
	"errors"

	"mbuild/cmd/mbuild/progress"
	"mbuild/index"
	"mbuild/index/transport"
)

// addRegistryCause gives failures of registries their exit code and hints.
func (p *problem) addRegistryCause(err error) {
	var push *index.PushError
	failed := errors.As(err, &push)
	for _, kind := range []error{
		transport.ErrUnauthorized, transport.ErrNotFound, transport.ErrRateLimited, transport.ErrUnreachable, transport.ErrCertificate,
		index.ErrCorrupt,
	} {
		failed = failed || errors.Is(err, kind)
	}
	if !failed {
		return
	}
	p.code = exitRegistry
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		p.hint(h.Hint())
	}
}

// pushed shows how far a push is.
func (b *build) pushed(e index.Event) {
	t := &progress.Transfer{ID: e.Digest.String(), Verb: "pushing", Current: e.Bytes, Total: e.Size}
	t.Done = e.State != index.Uploading
	b.display.Handle(progress.Event{Kind: progress.Transferring, Step: pushStep, Transfer: t})
}

// pushStep is the display's name for the work after the last step.
const pushStep = "#push"
