package executor

import (
	"context"
	"io"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

// image takes over the layers of a base image: the store is told where they can be
// had, and fetches them when a step really reads them.
func (r *execution) image(ctx context.Context, s *dockerfile.Step, op *dockerfile.Image) (*state, error) {
	r.Progress.Started(s)
	base, err := r.Images.Layers(ctx, op)
	if err != nil {
		return nil, err
	}
	st := &state{}
	for _, l := range base {
		layer := snapshot.Layer{DiffID: l.DiffID}
		r.Store.Register(layer, l.Blob, func(ctx context.Context) (io.ReadCloser, error) {
			body, err := l.Open(ctx)
			if err != nil {
				return nil, err
			}
			return &meter{ReadCloser: body, report: func(n int64) {
				r.Progress.Transfer(s, l.Blob.Digest.String(), n, l.Blob.Size)
			}}, nil
		})
		st.layers = append(st.layers, layer)
	}
	st.own = st.layers
	return st, nil
}

// meter counts what is read through it.
type meter struct {
	io.ReadCloser
	n      int64
	report func(n int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.n += int64(n)
	if n > 0 {
		m.report(m.n)
	}
	return n, err
}
