// Package integration runs the built binary and nothing else: scripts against
// real registries and real root filesystems, and the policies of the source
// tree. It imports no package of mbuild's outside its own folder.
package integration
