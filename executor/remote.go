package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"mbuild/dockerfile"
	"mbuild/executor/source"
	"mbuild/snapshot"
)

// Remotes gets files and repositories from servers and keeps them: each as a layer of the store,
// with a record that says which. What a name on a server stands for is asked
// once per Remotes, so that one build sees one answer everywhere. Safe for concurrent use.
type Remotes struct {
	store   *snapshot.Store
	records *Records
	temp    string
	http    *source.Client
	git     *source.Git

	downloads once[download]
	commits   once[source.Commit]
	trees     once[snapshot.Layer]
}

// NewRemotes uses the store and records of a build. state is the directory of Options.State,
// which has to exist; secrets are credentials for servers.
func NewRemotes(store *snapshot.Store, records *Records, secrets Secrets, state string) (*Remotes, error) {
	temp, err := filepath.Abs(filepath.Join(state, "tmp")) // git works in another directory
	if err == nil {
		err = os.MkdirAll(temp, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the state directory: %w", err)
	}
	return &Remotes{
		store: store, records: records, temp: temp,
		http: source.NewClient(secrets), git: source.NewGit(secrets, temp),
	}, nil
}

// once gives everybody who asks for the same name the answer that the first one got.
type once[T any] struct {
	mu    sync.Mutex
	known map[string]*answer[T]
}

type answer[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func (o *once[T]) do(ctx context.Context, name string, find func() (T, error)) (T, error) {
	o.mu.Lock()
	a := o.known[name]
	if a == nil {
		a = &answer[T]{done: make(chan struct{})}
		if o.known == nil {
			o.known = map[string]*answer[T]{}
		}
		o.known[name] = a
		o.mu.Unlock()
		a.value, a.err = find()
		close(a.done)
		return a.value, a.err
	}
	o.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// download is a file of a web server, kept as the only file of a layer.
type download struct {
	layer    snapshot.Layer
	digest   digest.Digest
	modified *time.Time // Last-Modified, nil when the server does not say
}

// contentName is the name of the file in a download's layer.
const contentName = "content"

// remoteMode is that of what comes from a server: nobody else's business until --chmod says so.
const remoteMode = 0o600

// File is the file at h as a tree that holds nothing else. It has mode 0600 and belongs to 0:0.
func (r *Remotes) File(ctx context.Context, h *dockerfile.HTTP) (Files, error) {
	d, err := r.download(ctx, h, nil)
	if err != nil {
		return nil, err
	}
	return r.show(ctx, h.Name, d, time.Now().UTC())
}

// show opens a download under a name. now is its time when the server gave none.
func (r *Remotes) show(ctx context.Context, name string, d download, now time.Time) (oneFile, error) {
	view, err := r.store.View(ctx, []snapshot.Layer{d.layer})
	if err != nil {
		return oneFile{}, err
	}
	e, ok := view.Lookup(contentName)
	if !ok || e.Digest != d.digest {
		return oneFile{}, fmt.Errorf("layer %s is not what was downloaded as %s", d.layer.DiffID, d.digest)
	}
	e.Path, e.Mode, e.UID, e.GID, e.ModTime = name, remoteMode, 0, 0, now
	if d.modified != nil {
		e.ModTime = *d.modified
	}
	return oneFile{entry: e, open: func(ctx context.Context) (io.ReadCloser, error) { return view.Open(ctx, contentName) }}, nil
}

// oneFile is a tree of one file.
type oneFile struct {
	entry snapshot.Entry
	open  func(context.Context) (io.ReadCloser, error)
}

func (f oneFile) Lookup(name string) (snapshot.Entry, error) {
	switch name {
	case ".":
		return snapshot.Entry{Path: ".", Type: snapshot.Directory, Mode: 0o755, ModTime: f.entry.ModTime}, nil
	case f.entry.Path:
		return f.entry, nil
	}
	return snapshot.Entry{}, &fs.PathError{Op: "lookup", Path: name, Err: fs.ErrNotExist}
}

func (f oneFile) ReadDir(string) ([]snapshot.Entry, error) { return []snapshot.Entry{f.entry}, nil }

func (f oneFile) Open(ctx context.Context, _ string) (io.ReadCloser, error) { return f.open(ctx) }

// download gets a file, or finds that the server still has the one that was got before. A file that is known by its
// checksum is not asked for again.
func (r *Remotes) download(ctx context.Context, h *dockerfile.HTTP, progress func(current, total int64)) (download, error) {
	return r.downloads.do(ctx, h.URL+"\x00"+h.Checksum.String(), func() (download, error) {
		e := newEncoder("http")
		e.str(h.URL)
		key := e.sum()
		rec, known := r.records.Get(key)
		known = known && len(rec.Layers) == 1 && rec.Digest.Validate() == nil && r.store.Has(rec.Layers[0])
		before := download{digest: rec.Digest, modified: rec.Modified}
		if known {
			before.layer = rec.Layers[0]
			if rec.Digest == h.Checksum {
				return before, nil
			}
		}
		etag := ""
		if known && h.Checksum == "" {
			etag = rec.ETag
		}
		spool, err := r.spool()
		if err != nil {
			return download{}, err
		}
		defer spool.Close()
		f, unchanged, err := r.http.Get(ctx, h.URL, etag, spool, progress)
		if err != nil {
			return download{}, err
		}
		if unchanged {
			return before, nil
		}
		return r.keepFile(key, h, f, spool)
	})
}

// spool is a file without a name for what arrives.
func (r *Remotes) spool() (*os.File, error) {
	f, err := os.CreateTemp(r.temp, "download-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// maxETag is the longest validator that is remembered.
const maxETag = 1 << 10

// keepFile checks a file and makes it a layer.
func (r *Remotes) keepFile(key Key, h *dockerfile.HTTP, f source.File, spool *os.File) (download, error) {
	d := download{}
	if !f.Modified.IsZero() {
		d.modified = &f.Modified
	}
	var err error
	if d.digest, err = digestSpool(spool, digest.SHA256); err != nil {
		return download{}, err
	}
	if err := checkSum(h, d.digest, spool); err != nil {
		return download{}, err
	}
	w, err := r.store.NewLayer(snapshot.Compression{})
	if err != nil {
		return download{}, err
	}
	defer w.Abort()
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return download{}, err
	}
	entry := snapshot.Entry{Path: contentName, Type: snapshot.Regular, Mode: remoteMode, Size: f.Size, Digest: d.digest}
	if err := w.Add(entry, spool); err != nil {
		return download{}, err
	}
	if d.layer, err = w.Commit(); err != nil {
		return download{}, err
	}
	rec := Record{Layers: []snapshot.Layer{d.layer}, Digest: d.digest, Modified: d.modified, Created: time.Now().UTC()}
	if len(f.ETag) <= maxETag {
		rec.ETag = f.ETag
	}
	return d, r.records.Put(key, rec)
}

func digestSpool(spool *os.File, a digest.Algorithm) (digest.Digest, error) {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return a.FromReader(spool)
}

// checkSum compares a file with what was asked for.
func checkSum(h *dockerfile.HTTP, sum digest.Digest, spool *os.File) error {
	if h.Checksum == "" {
		return nil
	}
	var err error
	if a := h.Checksum.Algorithm(); a != digest.SHA256 {
		if sum, err = digestSpool(spool, a); err != nil {
			return err
		}
	}
	if sum != h.Checksum {
		return fmt.Errorf("%s: %w: got %s, want %s", source.Redact(h.URL), source.ErrChecksum, sum, h.Checksum)
	}
	return nil
}

// lookHTTP downloads what an ADD wants of a web server. Its time counts as content: it
// is the server's, not an accident of this machine.
func (r *execution) lookHTTP(ctx context.Context, s *dockerfile.Step, h *dockerfile.HTTP) (lookedUp, error) {
	if r.Remotes == nil {
		return lookedUp{}, errNoRemotes
	}
	d, err := r.Remotes.download(ctx, h, func(current, total int64) { r.Progress.Transfer(s, h.Name, current, total) })
	if err != nil {
		return lookedUp{}, err
	}
	e := newEncoder("http content")
	e.str(d.digest.String())
	if d.modified != nil {
		e.num(d.modified.Unix())
	}
	return lookedUp{
		digest: digest.NewDigestFromEncoded(digest.SHA256, string(e.sum())),
		load: func(ctx context.Context) ([]selection, error) {
			f, err := r.Remotes.show(ctx, h.Name, d, r.now())
			if err != nil {
				return nil, err
			}
			return []selection{{files: f, base: h.Name, remote: true, picks: []pick{{name: ".", entry: f.entry}}}}, nil
		},
	}, nil
}

var errNoRemotes = errors.New("this build has no access to servers")
