package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Endpoint says where a registry is and how far it is trusted.
type Endpoint struct {
	Name     string // as in references and credential files: "docker.io", "registry.example:5000"
	Address  string // host[:port] to connect to; empty: Name
	Scheme   string // "http" or "https"; empty: https, and http where that is allowed
	Insecure bool   // plain HTTP and unverified TLS are allowed
	CA       string // PEM file of certificate authorities to trust beside the system's
}

// Options are what all endpoints share. The zero value works, anonymously.
type Options struct {
	Keychain  authn.Keychain // nil: no credentials
	UserAgent string         // empty: "mbuild"
	Retry     Retry
}

// Client speaks with one endpoint. It may be used from several goroutines.
type Client struct {
	endpoint  Endpoint
	userAgent string
	retry     Retry
	auth      *authorizer
	quick     *http.Client // requests whose answer begins soon
	slow      *http.Client // uploads, which the registry may digest for a while

	mu     sync.Mutex
	scheme string // empty until found out
}

// New prepares a client; nothing is sent yet. It fails when the certificate file
// cannot be used.
func New(e Endpoint, o Options) (*Client, error) {
	e.Address = cmp.Or(e.Address, e.Name)
	trust := &tls.Config{InsecureSkipVerify: e.Insecure, MinVersion: tls.VersionTLS12}
	if e.CA != "" {
		pool, err := certificates(e.CA)
		if err != nil {
			return nil, fmt.Errorf("certificate for %s: %w", e.Name, err)
		}
		trust.RootCAs = pool
	}
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	c := &Client{endpoint: e, userAgent: cmp.Or(o.UserAgent, "mbuild"), retry: o.Retry.withDefaults(), scheme: e.Scheme}
	c.quick = httpClient(trust, time.Minute)
	c.slow = httpClient(trust, 15*time.Minute)
	c.auth = &authorizer{
		host: e.Name, keychain: o.Keychain, userAgent: c.userAgent,
		http: &http.Client{Transport: c.quick.Transport, CheckRedirect: sameOriginOnly},
		plain: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.scheme == "http"
		},
	}
	return c, nil
}

func certificates(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", file)
	}
	return pool, nil
}

func httpClient(trust *tls.Config, patience time.Duration) *http.Client {
	return &http.Client{
		CheckRedirect: dropCredentials,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSClientConfig:       trust,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: patience,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // blobs are wanted as they are
		},
	}
}

// Name is the endpoint's name.
func (c *Client) Name() string { return c.endpoint.Name }

// Retry is the policy for what callers repeat themselves.
func (c *Client) Retry() Retry { return c.retry }

// Request is one request to the registry.
type Request struct {
	Method     string
	Repository string
	Path       string      // below /v2/REPOSITORY/, already escaped
	Query      url.Values  // or nil
	At         *url.URL    // in place of Path and Query: an address the registry gave us
	Header     http.Header // or nil
	Push       bool        // ask for the right to push, not only to pull
	MountFrom  string      // repository from which the right to pull is needed as well

	Body func() (io.ReadCloser, error) // nil: none; called once per attempt
	Size int64                         // of the body
	Once bool                          // the caller repeats it, not Do
}

func (r Request) scopes() []string {
	actions := "pull"
	if r.Push {
		actions = "pull,push"
	}
	scopes := []string{"repository:" + r.Repository + ":" + actions}
	if r.MountFrom != "" {
		scopes = append(scopes, "repository:"+r.MountFrom+":pull")
	}
	return scopes
}

// Do sends r and returns an answer with a status below 400, whose body the
// caller closes. Any other outcome is an *Error (or an error of the keychain or
// of r.Body). Temporary failures are retried unless r.Once.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	for attempts := 1; ; attempts++ {
		resp, err := c.try(ctx, r)
		if err == nil {
			return resp, nil
		}
		err = c.auth.redact(err)
		if r.Once || !c.retry.Wait(ctx, attempts, err) {
			return nil, err
		}
	}
}

// try sends r once, twice when the first answer is a challenge we can answer.
func (c *Client) try(ctx context.Context, r Request) (*http.Response, error) {
	base, err := c.base(ctx)
	if err != nil {
		return nil, err
	}
	target := r.At
	if target == nil {
		target = base.JoinPath("v2", r.Repository, r.Path)
		target.RawQuery = r.Query.Encode()
	}
	ours := sameOrigin(target, base)
	header := ""
	if ours {
		if header, err = c.auth.header(ctx, r.Repository, r.scopes()); err != nil {
			return nil, err
		}
	}
	resp, err := c.send(ctx, r, target, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized && ours && sameOrigin(resp.Request.URL, base) {
		refused := statusError(resp)
		better, err := c.auth.refresh(ctx, resp.Header, r.Repository, r.scopes(), header)
		if err != nil {
			return nil, err
		}
		if better == header {
			return nil, refused
		}
		if resp, err = c.send(ctx, r, target, better); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode >= 400 {
		return nil, statusError(resp)
	}
	return resp, nil
}

func (c *Client) send(ctx context.Context, r Request, target *url.URL, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.userAgent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	client := c.quick
	if r.Body != nil {
		if r.Size > 0 {
			client = c.slow
		}
		if req.Body, err = r.Body(); err != nil {
			return nil, err
		}
		req.ContentLength, req.GetBody = r.Size, r.Body
		if r.Size == 0 { // a body of unknown length to net/http, unless told so
			req.Body.Close()
			req.Body = http.NoBody
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, netError(req, err)
	}
	return resp, nil
}

// base is the registry's address, its scheme found out on first use.
func (c *Client) base(ctx context.Context) (*url.URL, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scheme == "" {
		scheme, err := c.probe(ctx)
		if err != nil {
			return nil, err
		}
		c.scheme = scheme
	}
	return &url.URL{Scheme: c.scheme, Host: c.endpoint.Address, Path: "/"}, nil
}

// probe tries https and, only where that is allowed, http.
func (c *Client) probe(ctx context.Context) (string, error) {
	if !c.endpoint.Insecure && !IsLoopback(c.endpoint.Address) {
		return "https", nil
	}
	secure := c.ping(ctx, "https")
	if secure == nil {
		return "https", nil
	}
	if isCertificate(secure) || ctx.Err() != nil {
		return "", secure
	}
	if err := c.ping(ctx, "http"); err != nil {
		return "", err
	}
	return "http", nil
}

// ping succeeds when the server answers anything at all.
func (c *Client) ping(ctx context.Context, scheme string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+c.endpoint.Address+"/v2/", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.quick.Transport.RoundTrip(req)
	if err != nil {
		return netError(req, err)
	}
	return resp.Body.Close()
}

// IsLoopback reports whether host[:port] is this machine by its name alone.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// dropCredentials is a redirect policy: anywhere, but other origins do not see
// our credentials and nothing falls from https to http.
func dropCredentials(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return fmt.Errorf("%w: more than 10 in a row", errRedirect)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s://%s", errRedirect, req.URL.Scheme, req.URL.Host)
	}
	req.Header.Del("Referer")
	if !sameOrigin(req.URL, via[0].URL) {
		req.Header.Del("Authorization")
	}
	return nil
}

// sameOriginOnly is the policy for token servers, whose requests hold passwords.
func sameOriginOnly(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 || !sameOrigin(req.URL, via[0].URL) {
		return fmt.Errorf("%w: to %s, with credentials", errRedirect, req.URL.Host)
	}
	return nil
}
