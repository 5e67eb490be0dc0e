// Package index knows images and indexes: it pulls images from registries and
// OCI layouts, composes the images of a build into one index, and writes that
// index out as an OCI layout (directory or tar), as a Docker archive, or to
// registries.
//
// Configs and manifests are kept as the bytes they arrived in, because their
// digests are the identity of an image and because libraries drop the fields
// they do not know. Whatever comes from outside is checked against the digest
// and the size of the descriptor that named it before anybody sees the end of
// it: a reader of this package gives an error in place of io.EOF when content
// is not what was promised.
//
// Errors are to be told apart with errors.Is and errors.As: ErrNoPlatform,
// ErrCorrupt, *PushError and what transport exports (ErrUnauthorized, ErrNotFound,
// ErrUnreachable, ErrRateLimited, ErrCertificate). Some have advice for the user
// in a method Hint() string.
//
// The protocol of one registry (scheme, credentials, retries, redirects) is in
// the package transport below this one.
package index
