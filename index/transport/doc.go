// Package transport speaks HTTP with one registry: it finds the scheme, answers
// authentication challenges, follows redirects, waits and tries again where
// that can help, and turns refusals into errors a person can act on.
//
// Credentials go to the registry itself and to the token server it names, to
// nobody else: a redirect or an upload location on another origin is followed
// without them. They never appear in an error.
package transport
