package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"mbuild/snapshot"
)

// Record is what the cache remembers under a key: the layers a step made or a
// server's files became, or the digest that a costly look at immutable content gave.
type Record struct {
	Version int              `json:"version"`
	Layers  []snapshot.Layer `json:"layers,omitempty"`
	Digest  digest.Digest    `json:"digest,omitempty"`
	Created time.Time        `json:"created"`
	Step    string           `json:"step,omitempty"` // for people

	// Of a download, beside its layer and digest: what the server said of the file.
	ETag     string     `json:"etag,omitempty"`
	Modified *time.Time `json:"modified,omitempty"`
}

const recordVersion = 1

// Records keeps one small file per key in a directory that several processes share.
// A record is written to a temporary name, synced and renamed, so that whatever
// happens it is there whole or not at all.
type Records struct{ dir string }

// OpenRecords uses dir, which is created if need be.
func OpenRecords(dir string) (*Records, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use the state directory: %w", err)
	}
	return &Records{dir: dir}, nil
}

func (r *Records) path(k Key) string {
	return filepath.Join(r.dir, string(k[:2]), string(k[2:]))
}

// Get returns the record of a key. A record that cannot be read is a miss, never a
// failure: the step is done again.
func (r *Records) Get(k Key) (Record, bool) {
	data, err := os.ReadFile(r.path(k))
	if err != nil {
		return Record{}, false
	}
	var rec Record
	if json.Unmarshal(data, &rec) != nil || rec.Version != recordVersion {
		return Record{}, false
	}
	for _, l := range rec.Layers {
		if l.DiffID.Validate() != nil {
			return Record{}, false
		}
	}
	return rec, true
}

// Put remembers a record. A nil error means that it survives a crash.
func (r *Records) Put(k Key, rec Record) (err error) {
	rec.Version = recordVersion
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	name := r.path(k)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	f, err := os.CreateTemp(r.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write record: %w", err), ignoreMissing(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
