package judge

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Tree is a root filesystem: a description per absolute path.
type Tree map[string]*Node

// Node describes one file. Hard links share a Node.
type Node struct {
	Type   string // file, dir, link, fifo, char, block
	Mode   int64
	UID    int
	GID    int
	Size   int64
	Sum    string // sha256 of a file's content, hexadecimal
	Link   string // target of a symlink
	Device string // major:minor
	Xattrs map[string]string
	names  []string
}

const (
	whiteout  = ".wh."
	opaque    = ".wh..wh..opq"
	xattrPax  = "SCHILY.xattr."
	directory = "dir"
)

// Flatten applies img's layers in order. Complaints are about entries that no
// sound layer has: two for one path, whiteouts for what is not below, hard links
// to nothing, absolute names. Digests and diffIDs are verified by the reading.
func Flatten(img v1.Image) (Tree, []string, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, nil, err
	}
	t, complaints := Tree{"/": {Type: directory, Mode: 0o755}}, []string(nil)
	for i, l := range layers {
		wrong, err := t.apply(l)
		if err != nil {
			return nil, nil, fmt.Errorf("layer %d: %w", i, err)
		}
		for _, w := range wrong {
			complaints = append(complaints, fmt.Sprintf("layer %d: %s", i, w))
		}
	}
	return t, complaints, nil
}

func (t Tree) apply(l v1.Layer) (wrong []string, err error) {
	rc, err := Uncompressed(l)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	below := maps.Clone(t)
	seen := map[string]bool{}
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return wrong, err
		}
		if strings.HasPrefix(h.Name, "/") || !isLocal(h.Name) {
			wrong = append(wrong, "entry name "+h.Name)
		}
		name := path.Clean("/" + h.Name)
		if seen[name] {
			wrong = append(wrong, "two entries for "+name)
		}
		seen[name] = true
		if complaint, err := t.entry(below, seen, name, h, tr); err != nil {
			return wrong, err
		} else if complaint != "" {
			wrong = append(wrong, complaint)
		}
	}
	_, err = io.Copy(io.Discard, rc) // to the end: only then the digest is verified
	return wrong, err
}

// entry applies one entry; whiteouts act on what was below this layer only.
func (t Tree) entry(below Tree, seen map[string]bool, name string, h *tar.Header, content io.Reader) (wrong string, err error) {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	switch {
	case base == opaque:
		t.remove(below, dir, false, seen)
		return "", nil
	case strings.HasPrefix(base, whiteout):
		gone := path.Join(dir, strings.TrimPrefix(base, whiteout))
		if below[gone] == nil {
			wrong = "whiteout for " + gone + ", which is not below"
		}
		for p := dir; p != "/"; p = path.Dir(p) {
			if seen[path.Join(path.Dir(p), whiteout+path.Base(p))] {
				wrong = "whiteout for " + gone + " below " + p + ", which the layer deletes"
			}
		}
		t.remove(below, gone, true, seen)
		return wrong, nil
	case h.Typeflag == tar.TypeLink:
		to := t[path.Clean("/"+h.Linkname)]
		if to == nil {
			return "hard link " + name + " to " + h.Linkname + ", which is not there", nil
		}
		if strings.HasPrefix(h.Linkname, "/") {
			wrong = "hard link " + name + " to the absolute name " + h.Linkname
		}
		t.put(name, to)
		return wrong, nil
	}
	n, err := describe(h, content)
	if err != nil {
		return "", err
	}
	if old := t[name]; old != nil && old.Type == directory && n.Type != directory {
		t.remove(below, name, true, seen)
	}
	if p := t[dir]; p == nil || p.Type != directory {
		wrong = "entry " + name + " without its directory"
	}
	t.put(name, n)
	return wrong, nil
}

// remove deletes what lay below this layer at and under name.
func (t Tree) remove(below Tree, name string, itself bool, seen map[string]bool) {
	for p := range below {
		if (itself && p == name || strings.HasPrefix(p, strings.TrimSuffix(name, "/")+"/")) && !seen[p] {
			delete(t, p)
		}
	}
}

func (t Tree) put(name string, n *Node) {
	t[name] = n
	if n.Type != directory {
		n.names = append(n.names, name)
	}
}

func isLocal(name string) bool {
	return !slices.Contains(strings.Split(name, "/"), "..")
}

func describe(h *tar.Header, content io.Reader) (*Node, error) {
	n := &Node{Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrPax); ok {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[name] = hex.EncodeToString([]byte(v))
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		sum := sha256.New()
		size, err := io.Copy(sum, content)
		if err != nil {
			return nil, err
		}
		n.Type, n.Size, n.Sum = "file", size, hex.EncodeToString(sum.Sum(nil))
	case tar.TypeDir:
		n.Type = directory
	case tar.TypeSymlink:
		n.Type, n.Link = "link", h.Linkname
	case tar.TypeFifo:
		n.Type = "fifo"
	case tar.TypeChar:
		n.Type, n.Device = "char", fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		n.Type, n.Device = "block", fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	default:
		return nil, fmt.Errorf("entry %s has the unknown type %q", h.Name, h.Typeflag)
	}
	return n, nil
}

// Lines prints the tree, a line per path in order: type, mode, owner, path, and
// what the type has (size and digest, target, device), xattrs, other names.
func (t Tree) Lines() []string {
	var lines []string
	for _, p := range slices.Sorted(maps.Keys(t)) {
		n := t[p]
		s := fmt.Sprintf("%s %04o %d:%d %s", n.Type, n.Mode, n.UID, n.GID, p)
		switch {
		case n.Type == "file":
			s += fmt.Sprintf(" %d %.12s", n.Size, n.Sum)
		case n.Link != "":
			s += " -> " + n.Link
		case n.Device != "":
			s += " " + n.Device
		}
		for _, k := range slices.Sorted(maps.Keys(n.Xattrs)) {
			s += " " + k + "=" + n.Xattrs[k]
		}
		for _, other := range n.names {
			if other != p && t[other] == n {
				s += " = " + other
			}
		}
		lines = append(lines, s)
	}
	return lines
}
