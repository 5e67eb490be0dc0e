package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mbuild/cmd/mbuild/flags"
	"mbuild/cmd/mbuild/progress"
	"mbuild/executor"
	"mbuild/index"
	"mbuild/snapshot"
)

// publish writes every output, and only then the files that tell about them.
func (b *build) publish(ctx context.Context, results []executor.Image) error {
	var told *index.Index
	names := b.result.tags
	for _, o := range b.result.outputs {
		x, err := b.output(ctx, o, results)
		if err != nil {
			return err
		}
		if told == nil && x != nil {
			told, names = x, namesOf(o, x)
		}
	}
	if told == nil {
		if len(b.result.outputs) == 0 {
			b.say(progress.Message, "nothing was asked for: the result is in the cache only; use --push or -o")
		}
		if b.result.metadataFile == "" && b.result.iidFile == "" && b.progress != progress.Quiet {
			return nil
		}
		x, err := b.compose(ctx, flags.Output{Type: flags.OutputOCI}, results)
		if err != nil {
			return err
		}
		told = x
	}
	return b.tell(told, names, results)
}

// namesOf lists the names that an output's image has; name-canonical adds each with
// the digest.
func namesOf(o flags.Output, x *index.Index) []string {
	names := slices.Clone(o.Names)
	if o.Image.NameCanonical {
		for _, n := range o.Names {
			names = append(names, n+"@"+x.Descriptor().Digest.String())
		}
	}
	return names
}

// output writes one output. The index is nil for outputs that are no images.
func (b *build) output(ctx context.Context, o flags.Output, results []executor.Image) (*index.Index, error) {
	switch o.Type {
	case flags.OutputCacheOnly:
		return nil, nil
	case flags.OutputLocal, flags.OutputTar:
		return nil, b.writeFiles(ctx, o, results)
	}
	x, err := b.compose(ctx, o, results)
	if err != nil {
		return nil, err
	}
	if o.Type == flags.OutputImage {
		return x, b.push(ctx, o, x)
	}
	names := o.Names
	switch {
	case o.Directory:
		err = x.WriteLayout(ctx, o.Dest, names)
	case o.Type == flags.OutputDocker:
		err = b.writeTo(o.Dest, func(w io.Writer) error { return x.WriteDockerArchive(ctx, w, names) })
	default:
		err = b.writeTo(o.Dest, func(w io.Writer) error { return x.WriteTar(ctx, w, names) })
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", o.Dest, err)
	}
	if o.Dest != flags.Stdout {
		b.say(progress.Message, "wrote %s to %s", x.Descriptor().Digest, o.Dest)
	}
	return x, nil
}

func (b *build) push(ctx context.Context, o flags.Output, x *index.Index) error {
	b.display.Handle(progress.Event{Kind: progress.Started, Step: pushStep, Name: "pushing " + strings.Join(o.Names, ", ")})
	push := b.reg.Push
	if o.Image.PushByDigest {
		push = b.reg.PushByDigest
	}
	if err := push(ctx, x, o.Names, b.pushed); err != nil {
		b.display.Handle(progress.Event{Kind: progress.Failed, Step: pushStep, Err: err})
		return err
	}
	b.display.Handle(progress.Event{Kind: progress.Done, Step: pushStep})
	for _, name := range o.Names {
		b.say(progress.Message, "pushed %s@%s", name, x.Descriptor().Digest)
	}
	return nil
}

// writeTo writes a file under a temporary name and renames it when it is whole.
func (b *build) writeTo(dest string, write func(io.Writer) error) (err error) {
	if dest == flags.Stdout {
		return write(b.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(dest), "."+filepath.Base(dest)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), dest)
}

// compose turns the results into an index, with the layers as blobs that the output
// wants.
func (b *build) compose(ctx context.Context, o flags.Output, results []executor.Image) (*index.Index, error) {
	opts := index.ComposeOptions{
		DockerTypes:           o.Image.DockerTypes,
		ForceIndex:            b.input.args["BUILDKIT_MULTI_PLATFORM"] == "1" || b.input.args["BUILDKIT_MULTI_PLATFORM"] == "true",
		IndexAnnotations:      map[string]string{},
		DescriptorAnnotations: map[string]string{},
	}
	images := make([]index.Image, len(results))
	for i, r := range results {
		image, err := b.image(ctx, o, r)
		if err != nil {
			return nil, err
		}
		images[i] = image
	}
	for _, a := range append(b.result.annotations, o.Image.Annotations...) {
		annotate(a, images, &opts)
	}
	return index.Compose(images, opts)
}

func (b *build) image(ctx context.Context, o flags.Output, r executor.Image) (index.Image, error) {
	image := index.Image{Platform: r.Platform, Config: r.Config, Annotations: map[string]string{}, DescriptorAnnotations: map[string]string{}}
	for i, l := range r.Layers {
		c := compressionOf(o)
		if i < r.Base && !o.Image.ForceCompression {
			c = snapshot.CompressionAny
		}
		blob, err := b.store.Blob(ctx, l, c)
		if err != nil {
			return index.Image{}, err
		}
		image.Layers = append(image.Layers, index.Layer{
			Descriptor: blob,
			DiffID:     l.DiffID,
			From:       b.images.origin(blob.Digest),
			Open:       func(ctx context.Context) (io.ReadCloser, error) { return b.store.OpenBlob(ctx, blob) },
		})
	}
	return image, nil
}

// annotate puts an annotation where it belongs.
func annotate(a flags.Annotation, images []index.Image, o *index.ComposeOptions) {
	switch a.Target {
	case flags.OnIndex:
		o.IndexAnnotations[a.Key] = a.Value
	case flags.OnIndexDescriptor:
		o.DescriptorAnnotations[a.Key] = a.Value
	default:
		for i := range images {
			if a.Platform != nil && !platforms.OnlyStrict(*a.Platform).Match(images[i].Platform) {
				continue
			}
			if a.Target == flags.OnManifest {
				images[i].Annotations[a.Key] = a.Value
			} else {
				images[i].DescriptorAnnotations[a.Key] = a.Value
			}
		}
	}
}

// imageID is what --iidfile and -q give: the config's digest of a single image, else
// the digest of the index.
func imageID(x *index.Index, results []executor.Image) digest.Digest {
	if len(results) == 1 {
		return digest.FromBytes(results[0].Config)
	}
	return x.Descriptor().Digest
}

// metadata is the JSON of --metadata-file, with the keys of docker buildx.
type metadata struct {
	ConfigDigest digest.Digest      `json:"containerimage.config.digest,omitempty"`
	Descriptor   ocispec.Descriptor `json:"containerimage.descriptor"`
	Digest       digest.Digest      `json:"containerimage.digest"`
	Name         string             `json:"image.name,omitempty"`
}

func (b *build) tell(x *index.Index, names []string, results []executor.Image) error {
	id := imageID(x, results)
	if name := b.result.iidFile; name != "" {
		if err := b.writeTo(name, func(w io.Writer) error { _, err := io.WriteString(w, id.String()); return err }); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if name := b.result.metadataFile; name != "" {
		m := metadata{Descriptor: x.Descriptor(), Digest: x.Descriptor().Digest, Name: strings.Join(names, ",")}
		if len(results) == 1 {
			m.ConfigDigest = id
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetIndent("", "  ")
		if err := enc.Encode(m); err != nil {
			return err
		}
		if err := b.writeTo(name, func(w io.Writer) error { _, err := text.WriteTo(w); return err }); err != nil {
			return fmt.Errorf("write --metadata-file: %w", err)
		}
	}
	if b.progress == progress.Quiet {
		_, err := fmt.Fprintln(b.stdout, id)
		return err
	}
	return nil
}
