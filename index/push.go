package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"mbuild/index/transport"
)

// State is what happened to a blob or a document of a push.
type State string

// The states. Every blob has exactly one of Exists, Mounted and Pushed as its
// last event, a document always Pushed, a name Tagged.
const (
	Exists    State = "exists"    // was in the repository
	Mounted   State = "mounted"   // taken over from another repository of the host
	Uploading State = "uploading" // Bytes of Size are sent; starts from 0 again after a failure
	Pushed    State = "pushed"
	Tagged    State = "tagged"
)

// Event is progress of a push.
type Event struct {
	State       State
	Name        string // host/repository; with the tag when Tagged
	Digest      digest.Digest
	Size, Bytes int64
}

// PushError is a push that failed, as opposed to a pull.
type PushError struct {
	Name   string   // image name or repository
	Tagged []string // names that had been moved before; empty unless tagging itself failed half-way
	Err    error
}

func (e *PushError) Error() string {
	s := fmt.Sprintf("push %s: %v", e.Name, e.Err)
	if len(e.Tagged) > 0 {
		s += "; already moved: " + strings.Join(e.Tagged, ", ")
	}
	return s
}

func (e *PushError) Unwrap() error { return e.Err }

// Push publishes x under names, which may be in several repositories and
// registries. A nil error means that all of them name x. Tags are moved last:
// when anything fails before all blobs and documents are everywhere, no tag has
// been touched. progress may be nil; it is called from several goroutines, one
// at a time. A failure is a *PushError.
func (r *Registry) Push(ctx context.Context, x *Index, names []string, progress func(Event)) error {
	p, err := r.newPush(x, names, progress)
	if err != nil {
		return err
	}
	if err := p.upload(ctx); err != nil {
		return err
	}
	return p.tag(ctx)
}

// PushByDigest is Push without tags: x is in the repositories that names are of,
// to be had by its digest.
func (r *Registry) PushByDigest(ctx context.Context, x *Index, names []string, progress func(Event)) error {
	p, err := r.newPush(x, names, progress)
	if err != nil {
		return err
	}
	return p.upload(ctx)
}

// PushBlob puts a layer into the repository that name is of, before anything
// refers to it there. A later Push to it finds the layer in place. progress is
// as for Push.
func (r *Registry) PushBlob(ctx context.Context, name string, l Layer, progress func(Event)) error {
	p, err := r.newPush(nil, []string{name}, progress)
	if err != nil {
		return err
	}
	desc, err := layerDescriptor(l.Descriptor, false)
	if err != nil {
		return &PushError{Name: name, Err: err}
	}
	if err := p.blob(ctx, p.repos[0], layerBlob(l, desc), ""); err != nil {
		return &PushError{Name: p.repos[0].String(), Err: err}
	}
	return nil
}

// push is one push under way.
type push struct {
	registry *Registry
	index    *Index
	names    []imageName
	repos    []origin // the repositories of names, each once
	report   func(Event)
}

func (r *Registry) newPush(x *Index, names []string, progress func(Event)) (*push, error) {
	if len(names) == 0 {
		return nil, &PushError{Name: "image", Err: errors.New("it has no name")}
	}
	p := &push{registry: r, index: x, report: serial(progress)}
	var err error
	if p.names, err = parseOutputNames(names); err != nil {
		return nil, &PushError{Name: strings.Join(names, ", "), Err: err}
	}
	for _, n := range p.names {
		c, err := r.client(n.host, "")
		if err != nil {
			return nil, &PushError{Name: n.String(), Err: err}
		}
		if o := (origin{c, n.repository}); !slices.Contains(p.repos, o) {
			p.repos = append(p.repos, o)
		}
	}
	return p, nil
}

func serial(progress func(Event)) func(Event) {
	if progress == nil {
		return func(Event) {}
	}
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		progress(e)
	}
}

// upload puts blobs and then documents into all repositories. Those of one host
// are served in turn, so that the later ones can mount from the first.
func (p *push) upload(ctx context.Context) error {
	hosts := map[*transport.Client][]origin{}
	for _, o := range p.repos {
		hosts[o.client] = append(hosts[o.client], o)
	}
	g, groupCtx := errgroup.WithContext(ctx)
	for _, repos := range hosts {
		g.Go(func() error {
			for i, o := range repos {
				mount := ""
				if i > 0 {
					mount = repos[0].String()
				}
				if err := p.blobs(groupCtx, o, mount); err != nil {
					return &PushError{Name: o.String(), Err: err}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, o := range p.repos {
		for _, d := range p.index.documents() {
			if err := p.document(ctx, o, d, d.desc.Digest.String()); err != nil {
				return &PushError{Name: o.String(), Err: err}
			}
			p.report(Event{State: Pushed, Name: o.String(), Digest: d.desc.Digest, Size: d.desc.Size, Bytes: d.desc.Size})
		}
	}
	return nil
}

func (p *push) blobs(ctx context.Context, to origin, mount string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.registry.options.Parallel)
	for _, b := range p.index.content() {
		g.Go(func() error { return p.blob(ctx, to, b, mount) })
	}
	return g.Wait()
}

// tag moves the names to the result, in order.
func (p *push) tag(ctx context.Context) error {
	documents := p.index.documents()
	top := documents[len(documents)-1]
	var moved []string
	for _, n := range p.names {
		c, err := p.registry.client(n.host, "")
		if err == nil {
			err = p.document(ctx, origin{c, n.repository}, top, n.tag)
		}
		if err != nil {
			return &PushError{Name: n.String(), Tagged: moved, Err: err}
		}
		moved = append(moved, n.String())
		p.report(Event{State: Tagged, Name: n.String(), Digest: top.desc.Digest, Size: top.desc.Size, Bytes: top.desc.Size})
	}
	return nil
}
