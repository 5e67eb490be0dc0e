package transport

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// What callers may test an error of this package for, with errors.Is.
var (
	ErrUnauthorized = errors.New("access denied")        // 401 or 403
	ErrNotFound     = errors.New("not found")            // 404
	ErrRateLimited  = errors.New("too many requests")    // 429, after the last attempt
	ErrUnreachable  = errors.New("cannot be reached")    // no answer at all
	ErrCertificate  = errors.New("not trusted over TLS") // an answer, but not from who it says it is
)

var errRedirect = errors.New("redirect refused")

// maxErrorBody bounds what is read of a refusal, maxQuote what is shown of it.
const (
	maxErrorBody = 64 << 10
	maxQuote     = 300
)

// Error is a request that did not succeed.
type Error struct {
	Host    string // registry (or token server) that was asked
	Request string // method and path, without query
	Status  int    // HTTP status, 0 when there was no answer
	Codes   []string
	Message string // the registry's own words, sanitised and short
	Advice  string // what the user can do, or empty

	retryAfter time.Duration
	Err        error // cause when Status is 0, or nil
}

func (e *Error) Error() string {
	if e.Status == 0 {
		if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
			return fmt.Sprintf("%s: %s: %v", e.Host, e.Request, e.Err)
		}
		return fmt.Sprintf("%s %v: %s: %v", e.Host, e.kind(), e.Request, e.Err)
	}
	s := fmt.Sprintf("%s: %s: %d %s", e.Host, e.Request, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Hint is the advice for the user, or empty.
func (e *Error) Hint() string { return e.Advice }

// Unwrap gives the sentinel the error stands for, and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if k := e.kind(); k != nil {
		errs = append(errs, k)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

func (e *Error) kind() error {
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return ErrUnauthorized
	case e.Status == http.StatusNotFound:
		return ErrNotFound
	case e.Status == http.StatusTooManyRequests:
		return ErrRateLimited
	case e.Status != 0 || errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded):
		return nil
	case isCertificate(e.Err):
		return ErrCertificate
	}
	return ErrUnreachable
}

func isCertificate(err error) bool {
	var bad *tls.CertificateVerificationError
	return errors.As(err, &bad)
}

// permanent reports that trying again cannot help: the peer does not listen,
// does not exist, or does not prove who it is.
func permanent(err error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsNotFound
	}
	var op *net.OpError
	dial := errors.As(err, &op) && op.Op == "dial" && !op.Timeout()
	return dial || isCertificate(err) || errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, errRedirect)
}

// netError is an Error for a request that got no answer. The URL of an url.Error
// is left out: its query may hold signatures.
func netError(req *http.Request, err error) *Error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	e := &Error{Host: req.URL.Host, Request: req.Method + " " + req.URL.Path, Err: err}
	switch {
	case isCertificate(err):
		e.Advice = fmt.Sprintf("--registry-certificate %s=FILE trusts its certificate authority; --insecure-registry %s trusts anybody", e.Host, e.Host)
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Advice = fmt.Sprintf("%s speaks plain HTTP: --insecure-registry %s allows that", e.Host, e.Host)
	}
	return e
}

// statusError reads and closes the body of a refusal.
func statusError(resp *http.Response) *Error {
	defer resp.Body.Close()
	req := resp.Request
	e := &Error{
		Host:       req.URL.Host,
		Request:    req.Method + " " + req.URL.Path,
		Status:     resp.StatusCode,
		retryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what arrived is enough for a message
	e.Codes, e.Message = parseErrorBody(body, resp.Header.Get("Content-Type"))
	return e
}

// parseErrorBody takes the codes and a message for people out of a registry's
// error document (distribution-spec, "Error Codes") or, failing that, its text.
func parseErrorBody(body []byte, contentType string) (codes []string, message string) {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"` // token server of Docker Hub
	}
	if json.Unmarshal(body, &doc) != nil {
		if strings.Contains(contentType, "html") {
			return nil, ""
		}
		return nil, clean(string(body))
	}
	var parts []string
	for _, e := range doc.Errors {
		codes = append(codes, e.Code)
		parts = append(parts, strings.TrimPrefix(e.Code+": "+e.Message, ": "))
	}
	if len(parts) == 0 {
		return nil, clean(doc.Details)
	}
	return codes, clean(strings.Join(parts, "; "))
}

// clean makes foreign text fit for a terminal: one line, no control characters,
// not longer than maxQuote.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxQuote {
		return string(r[:maxQuote]) + "…"
	}
	return s
}
