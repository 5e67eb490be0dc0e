// Package source is where bytes from outside the build come from: the local
// directories that COPY, ADD and bind mounts read.
//
// A source is a read-only tree of files described by snapshot.Entry values. Paths
// are slash-separated, clean and relative; "." is the root. Nothing outside the
// root can be reached through a source, whatever links it contains and whoever
// changes it meanwhile.
package source
