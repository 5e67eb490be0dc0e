package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"mbuild/cmd/mbuild/flags"
	"mbuild/cmd/mbuild/progress"
	"mbuild/executor"
)

// writeFiles writes the files of the results into a directory or a tar: with several
// platforms each below a folder of its own, such as linux_arm64.
func (b *build) writeFiles(ctx context.Context, o flags.Output, results []executor.Image) error {
	split := len(results) > 1
	if o.Files.Split != nil {
		split = *o.Files.Split
	}
	prefix := func(r executor.Image) string {
		if !split {
			return ""
		}
		return strings.ReplaceAll(platformName(r.Platform), "/", "_")
	}
	var err error
	if o.Type == flags.OutputLocal {
		err = b.writeDirs(ctx, o.Dest, results, prefix)
	} else {
		err = b.writeTo(o.Dest, func(w io.Writer) error { return b.writeTar(ctx, w, results, prefix) })
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Dest, err)
	}
	if o.Dest != flags.Stdout {
		b.say(progress.Message, "wrote the files to %s", o.Dest)
	}
	return nil
}

func (b *build) writeTar(ctx context.Context, w io.Writer, results []executor.Image, prefix func(executor.Image) string) error {
	out := tar.NewWriter(w)
	for _, r := range results {
		if p := prefix(r); p != "" {
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: p + "/", Mode: 0o755, Format: tar.FormatPAX}); err != nil {
				return err
			}
		}
		if err := b.executor.WriteTar(ctx, r, out, prefix(r)); err != nil {
			return err
		}
	}
	return out.Close()
}

func (b *build) writeDirs(ctx context.Context, dest string, results []executor.Image, prefix func(executor.Image) string) error {
	for _, r := range results {
		dir := dest
		if p := prefix(r); p != "" {
			dir += "/" + p
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(b.executor.WriteDir(ctx, r, root), root.Close()); err != nil {
			return err
		}
	}
	return nil
}
