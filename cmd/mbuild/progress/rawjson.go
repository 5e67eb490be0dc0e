package progress

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// SchemaVersion is the version of the rawjson format that this package writes; the package comment describes it.
const SchemaVersion = 1

type record struct {
	V         int             `json:"v"`
	Time      string          `json:"time"`
	Kind      string          `json:"kind"`
	Step      string          `json:"step,omitempty"`
	Name      string          `json:"name,omitempty"`
	Platforms []string        `json:"platforms,omitempty"`
	Emulated  bool            `json:"emulated,omitempty"`
	Total     int             `json:"total,omitempty"`
	Stream    string          `json:"stream,omitempty"`
	Data      []byte          `json:"data,omitempty"`
	Error     string          `json:"error,omitempty"`
	Duration  *float64        `json:"duration,omitempty"`
	Transfer  *transferRecord `json:"transfer,omitempty"`
}

type transferRecord struct {
	ID      string `json:"id"`
	Verb    string `json:"verb"`
	Current int64  `json:"current"`
	Total   int64  `json:"total,omitempty"`
	Done    bool   `json:"done"`
}

// rawJSON writes one record per event.
type rawJSON struct {
	mu     sync.Mutex
	out    sink
	closed bool
	began  map[string]time.Time
}

func newRawJSON(w io.Writer) *rawJSON {
	return &rawJSON{out: sink{w: w}, began: map[string]time.Time{}}
}

func (d *rawJSON) Handle(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	e = e.withTime()
	line, err := json.Marshal(d.record(e))
	if err != nil {
		d.out.err = err
		return
	}
	d.out.write(append(line, '\n'))
}

func (d *rawJSON) record(e Event) record {
	r := record{V: SchemaVersion, Time: e.Time.UTC().Format(time.RFC3339Nano), Kind: e.Kind.String(), Step: e.Step}
	switch e.Kind {
	case Planned:
		r.Total = e.Total
	case Started:
		d.began[e.Step] = e.Time
		r.Name, r.Platforms, r.Emulated = e.Name, e.Platforms, e.Emulated
	case Output:
		r.Stream, r.Data = [2]string{"stdout", "stderr"}[index(e.Stderr)], e.Data
	case Transferring:
		if t := e.Transfer; t != nil {
			r.Transfer = &transferRecord{t.ID, t.Verb, t.Current, t.Total, t.Done}
		}
	case Message, Warning:
		r.Name = e.Name
	case Cached, Done, Failed, Canceled:
		r.Name, r.Platforms, r.Duration = e.Name, e.Platforms, d.duration(e)
		if e.Err != nil {
			r.Error = e.Err.Error()
		}
	}
	return r
}

func (d *rawJSON) duration(e Event) *float64 {
	took := e.Duration
	if began, ok := d.began[e.Step]; ok && took == 0 {
		took = e.Time.Sub(began)
	}
	delete(d.began, e.Step)
	seconds := took.Seconds()
	return &seconds
}

func (d *rawJSON) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return d.out.err
}
