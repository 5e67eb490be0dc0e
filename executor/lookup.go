package executor

import (
	"context"

	"github.com/opencontainers/go-digest"

	"mbuild/snapshot"
)

// lookedUp is what a step takes from a source: its digest, for the key, and the files
// themselves, which are not needed when the key has a record.
type lookedUp struct {
	digest digest.Digest
	load   func(context.Context) ([]selection, error)
}

// look finds files now.
func look(ctx context.Context, find func(context.Context) ([]selection, error)) (lookedUp, error) {
	selected, err := find(ctx)
	if err != nil {
		return lookedUp{}, err
	}
	return lookedUp{
		digest: digestSelections(selected),
		load:   func(context.Context) ([]selection, error) { return selected, nil },
	}, nil
}

// lookIn finds files in a stack of layers. As layers never change, the answer is
// remembered under what was asked, and the tables of contents need not be read again.
func (r *execution) lookIn(ctx context.Context, layers []snapshot.Layer, question []string, find func(context.Context) ([]selection, error)) (lookedUp, error) {
	e := newEncoder("look")
	e.layers(layers)
	e.num(int64(len(question)))
	for _, q := range question {
		e.str(q)
	}
	key := e.sum()
	if rec, ok := r.Records.Get(key); ok && rec.Digest.Validate() == nil {
		return lookedUp{digest: rec.Digest, load: find}, nil
	}
	l, err := look(ctx, find)
	if err != nil {
		return lookedUp{}, err
	}
	return l, r.Records.Put(key, Record{Digest: l.digest, Created: r.now()})
}
