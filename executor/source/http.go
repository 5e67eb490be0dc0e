package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Names of secrets for a web server: the prefix and the server's host name without port.
const (
	httpHeaderSecret = "HTTP_AUTH_HEADER_" // the value of the header Authorization
	httpTokenSecret  = "HTTP_AUTH_TOKEN_"  // a bearer token
)

// What a Client does unless told otherwise.
const (
	maxDownload  = 32 << 30
	maxRedirects = 10
	attempts     = 3
	stall        = 2 * time.Minute // without a byte
)

// Client downloads files from web servers.
type Client struct {
	secrets Secrets
	http    *http.Client
	limit   int64         // bytes of one file
	backoff time.Duration // before the second attempt; doubles
	stall   time.Duration
}

// NewClient prepares downloads with the proxies that the environment names and the
// certificate authorities of the system. Credentials among secrets are sent to the
// host that their name says and to no other.
func NewClient(secrets Secrets) *Client {
	c := &Client{secrets: secrets, limit: maxDownload, backoff: time.Second, stall: stall}
	c.http = &http.Client{
		CheckRedirect: c.redirect,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			IdleConnTimeout:       30 * time.Second,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // files are wanted as they are
		},
	}
	return c
}

// File is what a server says of a file.
type File struct {
	Size     int64
	ETag     string    // empty: none
	Modified time.Time // Last-Modified; zero: not known
}

// Get downloads the file at address into out, from its start. With a known ETag the server is asked for the file only if it has
// changed; unchanged is true and out is untouched when it has not. progress, which may be nil, hears of every part;
// total is -1 when unknown. Failures of the server are *RemoteError.
func (c *Client) Get(ctx context.Context, address, etag string, out *os.File, progress func(current, total int64)) (f File, unchanged bool, err error) {
	wait := c.backoff
	for try := 1; ; try++ {
		f, unchanged, err = c.get(ctx, address, etag, out, progress)
		if err == nil || try == attempts || !temporary(err) {
			return f, unchanged, err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return File{}, false, context.Cause(ctx)
		}
	}
}

// passing is a failure that may be gone at the next attempt.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

func temporary(err error) bool {
	var p passing
	return errors.As(err, &p)
}

func (c *Client) get(ctx context.Context, address, etag string, out *os.File, progress func(current, total int64)) (File, bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return File{}, false, &RemoteError{Address: Redact(address), Message: "not a URL"}
	}
	req.Header.Set("User-Agent", "mbuild")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if err := c.authorize(req); err != nil {
		return File{}, false, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return File{}, false, noAnswer(ctx, address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && etag != "" {
		return File{}, true, nil
	}
	if resp.StatusCode != http.StatusOK {
		return File{}, false, refusal(address, resp)
	}
	f := File{ETag: resp.Header.Get("ETag")}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		f.Modified = t.UTC()
	}
	if resp.ContentLength > c.limit {
		return File{}, false, c.tooLarge(address)
	}
	body := &watched{in: resp.Body, total: resp.ContentLength, progress: progress, timer: time.AfterFunc(c.stall, func() { cancel(errStalled) }), stall: c.stall}
	defer body.timer.Stop()
	if f.Size, err = c.save(body, out); err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			return File{}, false, err // the disk, not the server
		}
		return File{}, false, noAnswer(ctx, address, err)
	}
	if f.Size > c.limit {
		return File{}, false, c.tooLarge(address)
	}
	return f, false, nil
}

func (c *Client) save(in io.Reader, out *os.File) (int64, error) {
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if err := out.Truncate(0); err != nil {
		return 0, err
	}
	return io.Copy(out, io.LimitReader(in, c.limit+1))
}

func (c *Client) tooLarge(address string) error {
	return &RemoteError{Address: Redact(address), Message: fmt.Sprintf("larger than %d bytes", c.limit)}
}

// authorize adds what the build was given for exactly this host. Credentials in the
// URL itself are in effect when there is no secret.
func (c *Client) authorize(req *http.Request) error {
	for _, kind := range []struct{ id, scheme string }{{httpHeaderSecret, ""}, {httpTokenSecret, "Bearer "}} {
		data, ok, err := c.secrets.Secret(kind.id + req.URL.Hostname())
		if err != nil {
			return err
		}
		if value, vok := headerValue(data); ok && vok {
			req.Header.Set("Authorization", kind.scheme+value)
			return nil
		} else if ok {
			return fmt.Errorf("the secret %q is not one line of text", kind.id+req.URL.Hostname())
		}
	}
	return nil
}

// headerValue is a secret as it may stand in a header; files often end with a line break.
func headerValue(data []byte) (string, bool) {
	for len(data) > 0 && (data[len(data)-1] == '\n' || data[len(data)-1] == '\r') {
		data = data[:len(data)-1]
	}
	for _, b := range data {
		if b < ' ' || b == 0x7f {
			return "", false
		}
	}
	return string(data), len(data) > 0
}

// redirect follows a few redirections. Credentials do not come along: the next host
// gets its own, and nobody gets any where the way has become unencrypted.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirections", maxRedirects)
	}
	first := via[0].URL
	req.Header.Del("Authorization")
	req.Header.Del("Cookie")
	req.Header.Del("Referer")
	if first.Scheme == "https" && req.URL.Scheme != "https" {
		return nil
	}
	if req.URL.Host == first.Host && req.URL.User == nil {
		req.URL.User = first.User
	}
	return c.authorize(req)
}

var errStalled = errors.New("no data for too long")

// noAnswer is the failure of a request or of its answer.
func noAnswer(ctx context.Context, address string, err error) error {
	cause := canceled(ctx)
	if cause != nil && !errors.Is(cause, errStalled) {
		return cause
	}
	if cause != nil {
		err = cause
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the URL, which that error quotes, may hold credentials
	}
	e := &RemoteError{Address: Redact(address), Err: err}
	var dns *net.DNSError
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		e.Message = "not trusted over TLS"
		e.Advice = "SSL_CERT_FILE=FILE names the certificate authorities to trust"
		return e
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial", errors.As(err, &op) && op.Op == "proxyconnect":
		e.Message, e.Advice = "cannot be reached", unreachableAdvice
		if dns == nil || dns.IsNotFound {
			return e
		}
	}
	return passing{e}
}

const unreachableAdvice = "without network take it from the build context instead; what was fetched before under a --checksum needs no network"

// refusal is an answer other than the file.
func refusal(address string, resp *http.Response) error {
	e := &RemoteError{Address: Redact(address), Status: resp.StatusCode, Message: printable(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))}
	host := resp.Request.URL.Hostname()
	if to := Redact(resp.Request.URL.String()); to != e.Address {
		e.Message += ", after a redirection to " + to
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Advice = fmt.Sprintf("--secret id=%s%s,env=VARIABLE gives credentials for it", httpTokenSecret, host)
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return passing{e}
	}
	return e
}

// watched reports how far a download is, and gives up when nothing arrives.
type watched struct {
	in       io.Reader
	n, total int64
	progress func(current, total int64)
	timer    *time.Timer
	stall    time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if n > 0 {
		w.timer.Reset(w.stall)
		w.n += int64(n)
		if w.progress != nil {
			w.progress(w.n, w.total)
		}
	}
	return n, err
}
