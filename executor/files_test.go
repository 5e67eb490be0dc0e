package executor

import (
	"errors"
	"testing"
)

func TestResolveStaysInside(t *testing.T) {
	files := tree(t,
		"dir 0755 0:0 usr", "dir 0755 0:0 usr/lib", "file 0644 0:0 usr/lib/f=x",
		"link lib=usr/lib", "link abs=/usr", "link up=../../../usr", "link usr/lib/back=../../lib",
		"link loop=loop", "link dangling=missing/there", "link a=b", "link b=a",
	)
	for _, tt := range []struct {
		name, path string
		follow     bool
		want       string
		err        error
	}{
		{"plain path", "usr/lib/f", true, "usr/lib/f", nil},
		{"leading slash and dots", "/./usr//lib/../lib", true, "usr/lib", nil},
		{"dot dot stops at the root", "../../etc/passwd", true, "etc/passwd", nil},
		{"relative link", "lib/f", true, "usr/lib/f", nil},
		{"absolute link starts at the root", "abs/lib", true, "usr/lib", nil},
		{"link that climbs out", "up/lib", true, "usr/lib", nil},
		{"link in the middle", "usr/lib/back/f", true, "usr/lib/f", nil},
		{"last link kept", "lib", false, "lib", nil},
		{"last link followed", "lib", true, "usr/lib", nil},
		{"dangling link leads to where it points", "dangling", true, "missing/there", nil},
		{"missing components stay", "usr/none/x", true, "usr/none/x", nil},
		{"root", "/", true, ".", nil},
		{"link to itself", "loop", true, "", errTooManyLinks},
		{"two links in a circle", "a/x", true, "", errTooManyLinks},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := resolve(files.Lookup, tt.path, tt.follow)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("resolve(%q, %v) = %q, %v; want %q, %v", tt.path, tt.follow, got, err, tt.want, tt.err)
			}
		})
	}
}
