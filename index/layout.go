package index

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullLayout finds an image in an OCI layout, which is a directory or an
// uncompressed tar of one. tagOrDigest is a tag, a full image name or a digest
// of something index.json lists; empty stands for the only image there is, or
// the one tagged latest. The platform is chosen as by Registry.Pull. Nothing
// outside of the layout is opened, whatever links it holds; the layout must stay
// as it is until the layers have been read.
func PullLayout(dir, tagOrDigest string, p ocispec.Platform) (*Pulled, error) {
	name := strings.TrimSuffix(dir+":"+tagOrDigest, ":")
	pulled, err := pullLayout(dir, tagOrDigest, p, name)
	if err != nil {
		return nil, fmt.Errorf("oci layout %s: %w", name, err)
	}
	return pulled, nil
}

func pullLayout(dir, tagOrDigest string, p ocispec.Platform, name string) (*Pulled, error) {
	files, err := openLayout(dir)
	if err != nil {
		return nil, err
	}
	s := layout{files}
	top, err := s.top()
	if err != nil {
		return nil, err
	}
	chosen, err := chooseEntry(top.index.Manifests, tagOrDigest)
	if err != nil {
		return nil, err
	}
	ctx := context.Background() // files only
	if chosen != nil {
		if top, err = s.document(ctx, *chosen); err != nil {
			return nil, err
		}
	}
	image, id, err := pick(ctx, s, top, p, name)
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: *image, Ref: layoutRef(dir, tagOrDigest, chosen, id)}, nil
}

// layoutRef names the image independently of the place of the layout, as far as
// the layout knows a name.
func layoutRef(dir, tagOrDigest string, entry *ocispec.Descriptor, id digest.Digest) string {
	if entry != nil {
		if n, err := parseName(entry.Annotations[annotationImageName]); err == nil {
			return n.withDigest(id)
		}
	}
	name := filepath.Base(dir)
	if tagOrDigest != "" && !strings.Contains(tagOrDigest, "@") && digest.Digest(tagOrDigest).Validate() != nil {
		name += ":" + tagOrDigest
	}
	return name + "@" + id.String()
}

// chooseEntry finds the entry of index.json that is meant; nil stands for all of
// them, as one index.
func chooseEntry(entries []ocispec.Descriptor, tagOrDigest string) (*ocispec.Descriptor, error) {
	want := strings.TrimPrefix(tagOrDigest, "@")
	fits := func(d ocispec.Descriptor) bool { return matchesEntry(d, want) }
	if i := slices.IndexFunc(entries, fits); i >= 0 && want != "" {
		return &entries[i], nil
	}
	if want != "" {
		return nil, fmt.Errorf("%w: %s; index.json has %s", fs.ErrNotExist, want, describeEntries(entries))
	}
	if len(entries) == 0 {
		return nil, errors.New("index.json lists nothing")
	}
	sameAsFirst := func(d ocispec.Descriptor) bool { return d.Digest == entries[0].Digest }
	if !slices.ContainsFunc(entries, func(d ocispec.Descriptor) bool { return !sameAsFirst(d) }) {
		return &entries[0], nil
	}
	want = "latest"
	if i := slices.IndexFunc(entries, fits); i >= 0 {
		return &entries[i], nil
	}
	if slices.ContainsFunc(entries, func(d ocispec.Descriptor) bool { return d.Platform == nil || named(d) }) {
		return nil, fmt.Errorf("index.json lists several images, say which: %s", describeEntries(entries))
	}
	return nil, nil
}

func named(d ocispec.Descriptor) bool {
	return d.Annotations[ocispec.AnnotationRefName] != "" || d.Annotations[annotationImageName] != ""
}

func matchesEntry(d ocispec.Descriptor, want string) bool {
	refName, imageName := d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationImageName]
	if want == d.Digest.String() || want == refName || want == imageName {
		return true
	}
	n, err := parseName(want)
	return err == nil && imageName != "" && n.String() == imageName
}

func describeEntries(entries []ocispec.Descriptor) string {
	var names []string
	for _, d := range entries {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name == "" {
			name = "@" + d.Digest.String()
		}
		names = append(names, fmt.Sprintf("%q", name))
	}
	if len(names) == 0 {
		return "nothing"
	}
	const most = 10
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// layout is a source made of files.
type layout struct {
	open func(name string) (io.ReadCloser, error)
}

// top reads oci-layout and index.json.
func (s layout) top() (*document, error) {
	var version ocispec.ImageLayout
	raw, err := s.read(ocispec.ImageLayoutFile, maxManifest)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &version); err != nil || version.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("%s: layout version is %q, want %q", ocispec.ImageLayoutFile, version.Version, ocispec.ImageLayoutVersion)
	}
	raw, err = s.read(ocispec.ImageIndexFile, maxManifest)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(raw, ocispec.MediaTypeImageIndex)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	if d.index == nil {
		return nil, fmt.Errorf("%s is not an index", ocispec.ImageIndexFile)
	}
	return d, nil
}

func (s layout) read(name string, limit int64) ([]byte, error) {
	rc, err := s.open(name)
	if err != nil {
		return nil, err
	}
	data, err := readLimited(rc, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

func (s layout) blob(d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := s.open(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	return verified(rc, d), nil
}

func (s layout) small(d ocispec.Descriptor, what string, limit int64) ([]byte, error) {
	if err := checkSize(d, what, limit); err != nil {
		return nil, err
	}
	rc, err := s.blob(d)
	if err != nil {
		return nil, err
	}
	data, err := readLimited(rc, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return data, nil
}

func (s layout) document(_ context.Context, desc ocispec.Descriptor) (*document, error) {
	raw, err := s.small(desc, "manifest", maxManifest)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(raw, desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	d.desc.Digest = desc.Digest
	return d, nil
}

func (s layout) config(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	return s.small(d, "image config", maxConfig)
}

func (s layout) layer(d ocispec.Descriptor, diffID digest.Digest) Layer {
	return Layer{Descriptor: d, DiffID: diffID, Open: func(ctx context.Context) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return s.blob(d)
	}}
}

// blobPath is where a layout keeps a blob. The digest has been validated, so it
// cannot climb.
func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// openLayout returns a function that opens the regular files of a layout.
func openLayout(file string) (func(string) (io.ReadCloser, error), error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return func(name string) (io.ReadCloser, error) { return openInside(file, name) }, nil
	}
	members, err := listTar(file)
	if err != nil {
		return nil, err
	}
	return func(name string) (io.ReadCloser, error) { return openMember(file, members, name) }, nil
}

// openInside opens a regular file below dir; os.Root keeps links inside.
func openInside(dir, name string) (io.ReadCloser, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for ever
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	return root.Open(name)
}

// member is where a tar has a file's content.
type member struct{ offset, size int64 }

// listTar indexes an uncompressed tar.
func listTar(file string) (map[string]member, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	members := map[string]member{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return members, nil
		}
		if err != nil {
			return nil, fmt.Errorf("neither a directory nor an uncompressed tar: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		members[path.Clean(h.Name)] = member{offset, h.Size}
	}
}

func openMember(file string, members map[string]member, name string) (io.ReadCloser, error) {
	m, ok := members[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, m.offset, m.size), f}, nil
}

// annotationImageName is containerd's annotation for a full name in index.json.
const annotationImageName = "io.containerd.image.name"
