// Package bases makes the base images that mbuild's tests and its demo build
// on: OCI layouts of busybox and of a minimal Debian, made from the packages of
// the machine's own apt sources, without root and without a registry.
//
// Everything is kept in a Cache keyed by package versions, so that the second
// run downloads nothing.
package bases
