// Package executor carries out a plan: it runs the graph of steps side by side,
// looks every step up in the cache by a key of its content, and makes the layers of
// those that are not there.
//
// Layers are the currency. The state after a step is a stack of immutable layers.
// FROM, COPY, ADD and WORKDIR read the merged view of layers and write a layer; only a
// RUN that is not cached gets a tree, a materialised root filesystem. So a build
// without RUN needs no privilege, and a cached build touches no layer at all.
//
// The package knows the plan (dockerfile) and layers (snapshot). Everything else that
// it needs it states as small interfaces: Images, Sandbox, Progress, Secrets.
package executor
