package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// Secrets are the credentials that a build was given.
type Secrets interface {
	// Secret returns the secret of that id; ok is false when there is none.
	Secret(id string) (data []byte, ok bool, err error)
	// SSH returns the path of an agent's socket; ok is false when there is none.
	SSH(id string) (socket string, ok bool, err error)
}

// RemoteError is a server that could not be reached or did not give what was asked for.
type RemoteError struct {
	Address string // without credentials and query
	Status  int    // of HTTP; 0: no answer, or none of HTTP
	Message string // what went wrong, if Err does not say it
	Advice  string // what the user can do, or empty
	Err     error  // cause, or nil
}

func (e *RemoteError) Error() string {
	if e.Err == nil {
		return e.Address + ": " + e.Message
	}
	if e.Message == "" {
		return fmt.Sprintf("%s: %v", e.Address, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Address, e.Message, e.Err)
}

// Hint is the advice for the user, or empty.
func (e *RemoteError) Hint() string { return e.Advice }

// Unwrap returns the cause.
func (e *RemoteError) Unwrap() error { return e.Err }

// ErrChecksum says that content is not what a checksum asked for.
var ErrChecksum = errors.New("checksum mismatch")

// Redact is an address as it may be shown: without user, password, query and fragment.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		address, _, _ = strings.Cut(address, "#")
		address, _, _ = strings.Cut(address, "?")
		return printable(address) // user@host:path has no place for a password
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return printable(u.String())
}

// printable makes foreign text fit for a message: one line, no control characters, not long.
func printable(s string) string {
	const limit = 400
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
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}

// canceled reports that a build was given up, which is no fault of a server.
func canceled(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
