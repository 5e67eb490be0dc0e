package bases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// ar packs members as an ar archive.
func ar(members ...[2]string) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12s%-6s%-6s%-8s%-10d`\n", m[0]+"/", "0", "0", "0", "100644", len(m[1]))
		b.WriteString(m[1])
		if len(m[1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func TestFileFromDeb(t *testing.T) {
	data, err := tarOf([]tarEntry{{name: "./bin", mode: 0o755, dir: true}, {name: "./bin/busybox", mode: 0o755, body: []byte("ELF")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		deb  []byte
		want string
		err  string
	}{
		"the file behind other members":    {deb: ar([2]string{"debian-binary", "2.0\n"}, [2]string{"odd", "x"}, [2]string{"data.tar", string(data)}), want: "ELF"},
		"no data member":                   {deb: ar([2]string{"debian-binary", "2.0\n"}), err: "ar header: EOF"},
		"not an archive":                   {deb: []byte("hello, world"), err: "ar magic"},
		"a compression nobody knows":       {deb: ar([2]string{"data.tar.lzo", "x"}), err: "unknown compression"},
		"a member longer than the archive": {deb: append([]byte(arMagic), []byte(fmt.Sprintf("%-48s%-10d`\n", "debian-binary", 99))...), err: "debian-binary"},
	} {
		t.Run(name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "p.deb")
			if err := os.WriteFile(f, tc.deb, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := fileFromDeb(f, "usr/bin/busybox", "bin/busybox")
			if tc.err != "" {
				if err == nil || !bytes.Contains([]byte(err.Error()), []byte(tc.err)) {
					t.Fatalf("got error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil || string(got) != tc.want {
				t.Fatalf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// The layout that the other tests trust must itself be sound and reproducible.
func TestBusyboxIsDeterministic(t *testing.T) {
	ctx := context.Background()
	c := DefaultCache()
	dir, err := Busybox(ctx, c, "amd64", "arm64")
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	debs, err := busyboxPackages(ctx, c, []string{"amd64", "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := makeBusybox(ctx, again, []string{"amd64", "arm64"}, debs); err != nil {
		t.Fatal(err)
	}
	a, b := digest(t, dir), digest(t, again)
	if a != b {
		t.Errorf("made twice: %s and %s", a, b)
	}
}

func digest(t *testing.T, dir string) string {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}
