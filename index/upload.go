package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"mbuild/index/transport"
)

// blob puts b into a repository once in the life of the registry. mount is a
// repository of the same host that surely has it, or empty.
func (p *push) blob(ctx context.Context, to origin, b blob, mount string) error {
	key := to.String() + "@" + b.desc.Digest.String()
	state := Exists
	_, err := p.registry.blobs.do(ctx, key, func() (none struct{}, err error) {
		u := upload{push: p, to: to, blob: b, mount: mountSource(to, b, mount)}
		state, err = u.run(ctx)
		return none, err
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", b.desc.Digest, err)
	}
	p.report(Event{State: state, Name: to.String(), Digest: b.desc.Digest, Size: b.desc.Size, Bytes: b.desc.Size})
	return nil
}

// mountSource returns the repository, without host, to mount b from, or "".
func mountSource(to origin, b blob, sure string) string {
	host := to.client.Name() + "/"
	for _, from := range []string{sure, b.from} {
		if repository, ok := strings.CutPrefix(from, host); ok && repository != to.repository {
			return repository
		}
	}
	return ""
}

// upload is one blob on its way into a repository.
type upload struct {
	*push
	to    origin
	blob  blob
	mount string // repository to mount from, or ""
}

// run looks whether the blob is there, else mounts it, else sends it. Sending
// starts anew after a temporary failure: half an upload is of no use to a
// registry that has lost the other half.
func (u *upload) run(ctx context.Context) (State, error) {
	there, err := u.exists(ctx)
	if err != nil || there {
		return Exists, err
	}
	for attempts := 1; ; attempts++ {
		state, err := u.once(ctx)
		if err == nil || !u.to.client.Retry().Wait(ctx, attempts, err) {
			return state, err
		}
	}
}

func (u *upload) exists(ctx context.Context) (bool, error) {
	resp, err := u.to.client.Do(ctx, transport.Request{
		Method: http.MethodHead, Repository: u.to.repository, Path: "blobs/" + u.blob.desc.Digest.String(), Push: true,
	})
	if errors.Is(err, transport.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

func (u *upload) once(ctx context.Context) (State, error) {
	resp, err := u.start(ctx)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return Mounted, nil
	}
	location, err := uploadLocation(resp, u.blob.desc.Digest)
	if err != nil {
		return "", err
	}
	return Pushed, u.send(ctx, location)
}

// start begins an upload, trying to mount the blob instead. A registry that
// knows nothing of mounts begins an upload as well; one that refuses is asked
// without.
func (u *upload) start(ctx context.Context) (*http.Response, error) {
	request := transport.Request{
		Method: http.MethodPost, Repository: u.to.repository, Path: "blobs/uploads/", Push: true,
		Body: func() (io.ReadCloser, error) { return http.NoBody, nil },
	}
	if u.mount != "" {
		with := request
		with.Query = url.Values{"mount": {u.blob.desc.Digest.String()}, "from": {u.mount}}
		with.MountFrom = u.mount
		u.mount = "" // once is enough
		resp, err := u.to.client.Do(ctx, with)
		var refused *transport.Error
		if err == nil || !errors.As(err, &refused) || refused.Status < 400 || refused.Status >= 500 {
			return resp, err
		}
	}
	return u.to.client.Do(ctx, request)
}

// uploadLocation is where the registry wants the blob. The query is kept as it
// is: it may be signed.
func uploadLocation(resp *http.Response, d digest.Digest) (*url.URL, error) {
	asked := resp.Request.URL
	raw := resp.Header.Get("Location")
	at, err := asked.Parse(raw)
	if err != nil || raw == "" || at.Host == "" || at.User != nil {
		return nil, fmt.Errorf("%s: no usable upload location (status %d)", asked.Host, resp.StatusCode)
	}
	if asked.Scheme == "https" && at.Scheme == "http" {
		if at.Host != asked.Host {
			return nil, fmt.Errorf("%s: upload location on %s is without TLS: refused", asked.Host, at.Host)
		}
		at.Scheme = "https" // a registry behind a proxy that does not know of its TLS
	}
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(d.String())
	return at, nil
}

// send streams the blob in one request.
func (u *upload) send(ctx context.Context, at *url.URL) error {
	var source failure
	body := func() (io.ReadCloser, error) {
		rc, err := u.blob.open(ctx)
		if err != nil {
			return nil, err
		}
		return &counter{ReadCloser: rc, upload: u, source: &source}, nil
	}
	resp, err := u.to.client.Do(ctx, transport.Request{
		Method: http.MethodPut, Repository: u.to.repository, At: at, Push: true, Once: true,
		Header: http.Header{"Content-Type": {"application/octet-stream"}},
		Body:   body, Size: u.blob.desc.Size,
	})
	if err != nil {
		var answered *transport.Error
		if cause := source.get(); cause != nil && (!errors.As(err, &answered) || answered.Status == 0) {
			return cause // not the registry's fault, and no better the next time
		}
		return err
	}
	resp.Body.Close()
	return checkStored(resp, u.blob.desc.Digest)
}

// checkStored compares what the registry says it stored.
func checkStored(resp *http.Response, want digest.Digest) error {
	host := resp.Request.URL.Host
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s: unexpected status %d", host, resp.StatusCode)
	}
	got := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if got != "" && got.Validate() == nil && got.Algorithm() == want.Algorithm() && got != want {
		return fmt.Errorf("%s: %w: stored as %s, want %s", host, ErrCorrupt, got, want)
	}
	return nil
}

// failure keeps the first error of a source that another goroutine reads.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// counter reports how much of a body has been taken.
type counter struct {
	io.ReadCloser
	upload       *upload
	source       *failure
	n, announced int64
	closed       atomic.Bool // a Read that fails because of that is no failure of the source
}

// step is how many bytes lie between two events.
const step = 1 << 20

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.n += int64(n); c.n-c.announced >= step || c.announced == 0 && n > 0 {
		c.announced = c.n
		u := c.upload
		u.report(Event{State: Uploading, Name: u.to.String(), Digest: u.blob.desc.Digest, Size: u.blob.desc.Size, Bytes: c.n})
	}
	if err != nil && !errors.Is(err, io.EOF) && !c.closed.Load() {
		c.source.set(err)
	}
	return n, err
}

func (c *counter) Close() error {
	c.closed.Store(true)
	return c.ReadCloser.Close()
}

// document puts a manifest or an index under a tag or its digest.
func (p *push) document(ctx context.Context, to origin, d blob, tagOrDigest string) error {
	resp, err := to.client.Do(ctx, transport.Request{
		Method: http.MethodPut, Repository: to.repository, Path: "manifests/" + tagOrDigest, Push: true,
		Header: http.Header{"Content-Type": {d.desc.MediaType}},
		Body:   func() (io.ReadCloser, error) { return d.open(ctx) },
		Size:   d.desc.Size,
	})
	if err != nil {
		return adviseTypes(err, d.desc.MediaType)
	}
	resp.Body.Close()
	return checkStored(resp, d.desc.Digest)
}

// adviseTypes adds what helps when a registry does not take OCI's documents.
func adviseTypes(err error, mediaType string) error {
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.Advice != "" || !strings.HasPrefix(mediaType, "application/vnd.oci.") {
		return err
	}
	switch refused.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotFound:
		refused.Advice = fmt.Sprintf("if %s does not take %s: output attribute oci-mediatypes=false uses Docker's types", refused.Host, mediaType)
	}
	return err
}
