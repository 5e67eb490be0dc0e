// Package dockerfile is the language: it reads Dockerfiles and ignore files and
// turns a Dockerfile, target platforms and build arguments into a plan, a graph
// of steps that somebody else executes.
//
// Parse reads a file and does no I/O. NewPlan walks the stages that the target
// needs, once per target platform, expands variables, asks for the
// configurations of base images, and makes steps; steps that are equal for several
// platforms become one. What instructions say about the image rather than about its
// files (ENV, CMD, LABEL, ...) is collected on the way and rendered by
// Result.ImageConfig once the layers are known.
//
// The semantics are those of BuildKit's Dockerfile frontend. What this package
// does not implement it refuses with an *Error that names file and line: nothing
// is accepted and ignored.
package dockerfile
