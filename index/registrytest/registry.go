// Package registrytest is a small container registry for tests. It keeps
// everything in memory, is strict where real registries are (digests, blobs and
// manifests that do not exist), writes down what it was asked, and misbehaves on
// demand.
package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Options are the switches. The zero value is a registry that behaves.
type Options struct {
	User, Password string // not empty: wanted, as basic authentication
	Tokens         bool   // hand out bearer tokens (for User and Password, if set)
	TokenUses      int    // a token is good for so many requests; 0: for ever
	NoMount        bool   // ignore requests to mount a blob
	RefuseTypes    string // substring of manifest media types that are refused
	BlobsAt        string // base URL blobs are redirected to
	TLS            bool

	// Intercept, when set, sees every request first and returns true when it
	// has answered it.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
}

// Server is a registry that listens on a loopback port until the test ends.
type Server struct {
	*httptest.Server
	Host string // host:port

	options Options
	mu      sync.Mutex
	repos   map[string]*repo
	tokens  map[string]int // uses left
	uploads int
	seen    []string
}

type repo struct {
	blobs     map[digest.Digest][]byte
	manifests map[digest.Digest]Manifest
	tags      map[string]digest.Digest
}

// Manifest is a stored manifest or index.
type Manifest struct {
	MediaType string
	Data      []byte
}

// New starts a registry.
func New(t testing.TB, o Options) *Server {
	s := &Server{options: o, repos: map[string]*repo{}, tokens: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if o.TLS {
		s.Server.StartTLS()
	} else {
		s.Server.Start()
	}
	t.Cleanup(s.Server.Close)
	s.Host = s.Server.Listener.Addr().String()
	return s
}

func (s *Server) repo(name string) *repo {
	if s.repos[name] == nil {
		s.repos[name] = &repo{map[digest.Digest][]byte{}, map[digest.Digest]Manifest{}, map[string]digest.Digest{}}
	}
	return s.repos[name]
}

// AddBlob stores a blob and returns its digest.
func (s *Server) AddBlob(name string, data []byte) digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest.FromBytes(data)
	s.repo(name).blobs[d] = data
	return d
}

// AddManifest stores a manifest without looking at it and tags it, if tag is not
// empty.
func (s *Server) AddManifest(name, tag string, m Manifest) digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest.FromBytes(m.Data)
	s.repo(name).manifests[d] = m
	if tag != "" {
		s.repo(name).tags[tag] = d
	}
	return d
}

// Tags returns the tags of a repository.
func (s *Server) Tags(name string) map[string]digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := map[string]digest.Digest{}
	for k, v := range s.repo(name).tags {
		tags[k] = v
	}
	return tags
}

// Blob returns a stored blob, nil when there is none.
func (s *Server) Blob(name string, d digest.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repo(name).blobs[d]
}

// Manifest returns a stored manifest.
func (s *Server) Manifest(name string, d digest.Digest) (Manifest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.repo(name).manifests[d]
	return m, ok
}

// Requests returns "METHOD PATH" of the requests under /v2/NAME, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// Count says how many requests contain all parts.
func (s *Server) Count(parts ...string) int {
	n := 0
	for _, r := range s.Requests() {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(r, p)
		}
		if all {
			n++
		}
	}
	return n
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if r.URL.Path != "/v2/" {
		s.seen = append(s.seen, r.Method+" "+r.URL.RequestURI())
	}
	s.mu.Unlock()
	if s.options.Intercept != nil && s.options.Intercept(w, r) {
		return
	}
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	if !s.allowed(r) {
		s.challenge(w, r)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		Refuse(w, http.StatusNotFound, "NOT_FOUND", "no such page")
		return
	}
	if rest == "" {
		return
	}
	body, err := io.ReadAll(r.Body) // before the lock: the client may feed it from us
	if err != nil {
		return // the client has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	for _, kind := range []string{"/blobs/uploads/", "/blobs/", "/manifests/"} {
		if name, what, ok := strings.Cut(rest, kind); ok {
			s.mu.Lock()
			defer s.mu.Unlock()
			map[string]func(http.ResponseWriter, *http.Request, string, string){
				"/blobs/uploads/": s.upload, "/blobs/": s.blob, "/manifests/": s.manifest,
			}[kind](w, r, name, what)
			return
		}
	}
	Refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "no such thing")
}

// Refuse answers with the error document of the distribution specification.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func (s *Server) allowed(r *http.Request) bool {
	if s.options.Tokens {
		kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		s.mu.Lock()
		defer s.mu.Unlock()
		left, ok := s.tokens[token]
		if kind != "Bearer" || !ok || left == 0 {
			return false
		}
		s.tokens[token]--
		return true
	}
	return s.identified(r)
}

func (s *Server) identified(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	return s.options.User == "" || user == s.options.User && password == s.options.Password
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	want := `Basic realm="test registry"`
	if s.options.Tokens {
		want = fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL)
	}
	w.Header().Set("WWW-Authenticate", want)
	Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if !s.identified(r) {
		Refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user or password: "+r.Header.Get("Authorization"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := "token-" + strconv.Itoa(len(s.tokens)+1)
	s.tokens[token] = s.options.TokenUses
	if s.options.TokenUses == 0 {
		s.tokens[token] = 1 << 30
	}
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request, name, what string) {
	data, ok := s.repo(name).blobs[digest.Digest(what)]
	if !ok {
		Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	if s.options.BlobsAt != "" && r.Method == http.MethodGet {
		http.Redirect(w, r, s.options.BlobsAt+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", what)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request, name, what string) {
	query := r.URL.Query()
	if r.Method == http.MethodPost {
		mount := digest.Digest(query.Get("mount"))
		if data, ok := s.repo(query.Get("from")).blobs[mount]; ok && !s.options.NoMount {
			s.repo(name).blobs[mount] = data
			w.WriteHeader(http.StatusCreated)
			return
		}
		s.uploads++
		w.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%d?_state=a%%2Bb", name, s.uploads))
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if r.Method != http.MethodPut || what == "" || query.Get("_state") != "a+b" {
		Refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "not an upload of ours")
		return
	}
	data, err := io.ReadAll(r.Body)
	d := digest.Digest(query.Get("digest"))
	if err != nil || digest.FromBytes(data) != d {
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	s.repo(name).blobs[d] = data
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) manifest(w http.ResponseWriter, r *http.Request, name, what string) {
	if r.Method == http.MethodPut {
		s.putManifest(w, r, name, what)
		return
	}
	d := digest.Digest(what)
	if tagged, ok := s.repo(name).tags[what]; ok {
		d = tagged
	}
	m, ok := s.repo(name).manifests[d]
	if !ok {
		Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.MediaType)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Write(m.Data)
}

// putManifest wants everything the manifest refers to in the repository.
func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, name, what string) {
	mediaType := r.Header.Get("Content-Type")
	if s.options.RefuseTypes != "" && strings.Contains(mediaType, s.options.RefuseTypes) {
		Refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest type is not supported")
		return
	}
	data, err := io.ReadAll(r.Body)
	d := digest.FromBytes(data)
	var doc struct {
		MediaType         string
		Config            *struct{ Digest digest.Digest }
		Layers, Manifests []struct{ Digest digest.Digest }
	}
	if err != nil || json.Unmarshal(data, &doc) != nil || doc.MediaType != mediaType {
		Refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest is not readable or of another type")
		return
	}
	known := s.repo(name)
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, l := range doc.Layers {
		if known.blobs[l.Digest] == nil {
			Refuse(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "no blob "+l.Digest.String())
			return
		}
	}
	for _, m := range doc.Manifests {
		if _, ok := known.manifests[m.Digest]; !ok {
			Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest "+m.Digest.String())
			return
		}
	}
	if asDigest := digest.Digest(what); asDigest.Validate() == nil {
		if asDigest != d {
			Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "manifest has another digest")
			return
		}
	} else {
		known.tags[what] = d
	}
	known.manifests[d] = Manifest{mediaType, data}
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}
