package registry

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// Fault is a way in which a registry misbehaves.
type Fault string

// The switches of Faulty.
const (
	Unauthorized  Fault = "unauthorized"   // every request is answered 401
	Forbidden     Fault = "forbidden"      // every write is answered 403 with a registry's error body
	TruncateLayer Fault = "truncate-layer" // a layer's bytes never come but for the first half, the connection breaks
	TruncateOnce  Fault = "truncate-once"  // the same, the first time only
	ShortLayer    Fault = "short-layer"    // a layer's bytes end in the middle, politely
	TamperLayer   Fault = "tamper-layer"   // one byte of a layer is another
	TamperConfig  Fault = "tamper-config"  // one byte of an image's config is another
	TamperIndex   Fault = "tamper-index"   // a manifest read by digest has another byte
	FailOnce      Fault = "fail-once"      // the first upload of a blob is answered 503
	FailTag       Fault = "fail-tag"       // a manifest written by tag is answered 500
)

// Faults lists every switch.
func Faults() []Fault {
	return []Fault{Unauthorized, Forbidden, TruncateLayer, TruncateOnce, ShortLayer, TamperLayer, TamperConfig, TamperIndex, FailOnce, FailTag}
}

// layerSize tells layers from configs: the bases' layers are larger.
const layerSize = 64 << 10

// Faulty serves what the registry at addr has, with faults.
func Faulty(addr string, faults ...Fault) (*Server, error) {
	for _, f := range faults {
		if !slices.Contains(Faults(), f) {
			return nil, fmt.Errorf("no such fault: %s (there are %v)", f, Faults())
		}
	}
	p := &faulty{faults: faults}
	p.proxy = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	p.proxy.ModifyResponse = p.spoil
	p.proxy.ErrorLog = discard()
	return serve(p)
}

type faulty struct {
	faults  []Fault
	proxy   *httputil.ReverseProxy
	uploads atomic.Int64
	cuts    atomic.Int64
}

func (p *faulty) has(f Fault) bool { return slices.Contains(p.faults, f) }

// ServeHTTP refuses what is to be refused and passes on the rest.
func (p *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	upload := r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/blobs/uploads/")
	byTag := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "sha256:")
	switch {
	case p.has(Unauthorized):
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case p.has(Forbidden) && write:
		refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
	case p.has(FailOnce) && upload && p.uploads.Add(1) == 1:
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "try again")
	case p.has(FailTag) && byTag:
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "the tag could not be written")
	default:
		p.proxy.ServeHTTP(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// spoil changes what the registry answers.
func (p *faulty) spoil(resp *http.Response) error {
	if resp.Request.Method != http.MethodGet || resp.StatusCode/100 != 2 {
		return nil
	}
	start, total := span(resp)
	blob := strings.Contains(resp.Request.URL.Path, "/blobs/sha256:")
	layer := blob && total >= layerSize
	byDigest := strings.Contains(resp.Request.URL.Path, "/manifests/sha256:")
	switch {
	case layer && (p.has(TruncateLayer) || p.has(TruncateOnce) && p.cuts.Add(1) == 1):
		resp.Body = &cut{Reader: io.LimitReader(resp.Body, max(0, total/2-start)), Closer: resp.Body}
	case layer && p.has(ShortLayer):
		resp.ContentLength /= 2
		resp.Header.Set("Content-Length", fmt.Sprint(resp.ContentLength))
		resp.Body = &cut{Reader: io.LimitReader(resp.Body, resp.ContentLength), Closer: resp.Body}
	case layer && p.has(TamperLayer), blob && !layer && p.has(TamperConfig), byDigest && p.has(TamperIndex):
		return flip(resp)
	}
	return nil
}

// span says which part of how many bytes a response brings: clients resume with
// range requests.
func span(resp *http.Response) (start, total int64) {
	var end int64
	if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &total); n == 3 {
		return start, total
	}
	return 0, resp.ContentLength
}

// cut is a body that ends early.
type cut struct {
	io.Reader
	io.Closer
}

// flip changes one byte in the middle of the body, JSON staying JSON.
func flip(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	i := len(body) / 2
	for i < len(body)-1 && !(body[i] >= '0' && body[i] < '9') {
		i++
	}
	body[i]++
	resp.Body = &cut{Reader: bytes.NewReader(body), Closer: resp.Body}
	return nil
}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
