// Package snapshot keeps the filesystem side of a build: layers, views and trees.
//
// A Layer is an immutable filesystem change, named by its diffID: the digest
// of its uncompressed tar. The Store holds layers below one directory, each
// with a table of contents (TOC) and zero or more compressed blobs. A View is
// the read-only merge of a chain of layers; it needs neither unpacking nor
// privilege. A Tree is the same chain materialised as a writable root
// filesystem with overlayfs, and a LayerWriter makes a layer entry by entry.
//
// Layers made elsewhere are hostile. Size, digest and diffID of every blob are
// verified while it streams through, and names, links and sizes inside it are
// brought into one harmless form or refused (see scan.go) before anything else
// of mbuild sees them.
//
// # On disk
//
//	format                  version of this layout
//	lock                    held while directories in tmp/ and trees/ are made or swept
//	blobs/ALG/HEX           blobs by digest
//	layers/HEX/toc          table of contents of the layer with diffID sha256:HEX
//	layers/HEX/blobs.json   the blobs known of that layer
//	layers/HEX/tar          the uncompressed tar, when somebody needed it
//	layers/HEX/diff-MAP/    the unpacked layer, its owners according to the id map MAP
//	trees/RANDOM/           upper, work, merged and lock of a live tree
//	tmp/RANDOM/             unfinished files of a live process, and its lock
//
// Everything is written to a temporary name and renamed when complete. Several
// processes may share a store: whoever renames first wins, and since names are
// digests the loser's content was the same.
package snapshot
