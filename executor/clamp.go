package executor

import (
	"context"
	"io"
	"strings"
	"time"

	"mbuild/snapshot"
)

// clamp returns the layer with no modification time after latest (the output
// attribute rewrite-timestamp). A layer that has none is returned as it is.
func (b *Builder) clamp(ctx context.Context, l snapshot.Layer, latest time.Time) (snapshot.Layer, error) {
	toc, err := b.Store.TOC(ctx, l)
	if err != nil {
		return snapshot.Layer{}, err
	}
	if !hasYounger(toc, latest) {
		return l, nil
	}
	e := newEncoder("clamp")
	e.layers([]snapshot.Layer{l})
	e.num(latest.Unix())
	key := e.sum()
	if rec, ok := b.lookup(key); ok {
		return rec.Layers[0], nil
	}
	clamped, err := b.rewrite(ctx, l, toc, latest)
	if err != nil {
		return snapshot.Layer{}, err
	}
	return clamped, b.Records.Put(key, Record{Layers: []snapshot.Layer{clamped}, Created: b.now()})
}

func hasYounger(toc *snapshot.TOC, latest time.Time) bool {
	for e := range toc.Entries() {
		if e.ModTime.After(latest) {
			return true
		}
	}
	return false
}

func (b *Builder) rewrite(ctx context.Context, l snapshot.Layer, toc *snapshot.TOC, latest time.Time) (snapshot.Layer, error) {
	files, err := b.view(ctx, []snapshot.Layer{l})
	if err != nil {
		return snapshot.Layer{}, err
	}
	w, err := b.Store.NewLayer(b.Compression)
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer w.Abort()
	for e := range toc.Entries() {
		if e.ModTime.After(latest) {
			e.ModTime = latest
		}
		if err := addEntry(ctx, w, files, e); err != nil {
			return snapshot.Layer{}, err
		}
	}
	return w.Commit()
}

func addEntry(ctx context.Context, w *snapshot.LayerWriter, files Files, e snapshot.Entry) error {
	var content io.Reader = strings.NewReader("")
	if e.Type == snapshot.Regular {
		f, err := files.Open(ctx, e.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		content = f
	}
	return w.Add(e, content)
}
