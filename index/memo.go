package index

import (
	"context"
	"sync"
)

// memo remembers one result per key. Concurrent callers of one key share the
// work; a failure is not remembered.
type memo[V any] struct {
	mu      sync.Mutex
	entries map[string]*memoEntry[V]
}

type memoEntry[V any] struct {
	busy  chan struct{} // holds one element while somebody works on value
	done  bool
	value V
}

func (m *memo[V]) do(ctx context.Context, key string, work func() (V, error)) (V, error) {
	m.mu.Lock()
	if m.entries == nil {
		m.entries = map[string]*memoEntry[V]{}
	}
	e := m.entries[key]
	if e == nil {
		e = &memoEntry[V]{busy: make(chan struct{}, 1)}
		m.entries[key] = e
	}
	m.mu.Unlock()

	var none V
	select {
	case e.busy <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	defer func() { <-e.busy }()
	if e.done {
		return e.value, nil
	}
	v, err := work()
	if err != nil {
		return none, err
	}
	e.value, e.done = v, true
	return v, nil
}
