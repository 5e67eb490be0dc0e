package executor

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"fmt"

	"mbuild/dockerfile"
	"mbuild/snapshot"
)

// changes lists what a draft defines.
func changes(d *draft) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.nodes)) {
		e := d.nodes[name].entry
		line := fmt.Sprintf("%s %s %04o %d:%d", name, e.Type, e.Mode, e.UID, e.GID)
		if e.Type == snapshot.Symlink {
			line = fmt.Sprintf("%s -> %s", name, e.Link)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestCopyRules(t *testing.T) {
	source := tree(t,
		"file 0640 7:8 f=content", "dir 0700 7:8 d", "file 0644 7:8 d/x=1", "dir 0711 7:8 d/sub", "file 0600 7:8 d/sub/y=2", "link d/l=x",
	)
	image := []string{
		"dir 0750 1:1 app", "file 0600 1:1 app/old=o", "dir 0770 1:1 app/sub", "dir 0755 0:0 usr", "dir 0755 0:0 usr/lib", "link lib=usr/lib", "link file=app/old",
	}
	for _, tt := range []struct {
		name   string
		op     dockerfile.Copy
		source string
		owner  owner
		want   string // changes, or the error
	}{
		{"file to a new name", dockerfile.Copy{Dest: "/new"}, "f", owner{}, "new file 0640 7:8"},
		{"file into a directory that exists", dockerfile.Copy{Dest: "/app"}, "f", owner{}, "app/f file 0640 7:8"},
		{"file into a directory by its slash", dockerfile.Copy{Dest: "/n/"}, "f", owner{}, "n directory 0755 0:0\nn/f file 0640 7:8"},
		{"file over a link goes to its target", dockerfile.Copy{Dest: "/file"}, "f", owner{}, "app/old file 0640 7:8"},
		{"file through a linked directory", dockerfile.Copy{Dest: "/lib/"}, "f", owner{}, "usr/lib/f file 0640 7:8"},
		{"content of a directory into a new one", dockerfile.Copy{Dest: "/n"}, "d", owner{},
			"n directory 0755 0:0\nn/l -> x\nn/sub directory 0711 7:8\nn/sub/y file 0600 7:8\nn/x file 0644 7:8"},
		{"a directory that exists keeps what it is, those below it change", dockerfile.Copy{Dest: "/app"}, "d", owner{},
			"app/l -> x\napp/sub directory 0711 7:8\napp/sub/y file 0600 7:8\napp/x file 0644 7:8"},
		{"owner is for parents too", dockerfile.Copy{Dest: "/p/q/f"}, "f", owner{true, 5, 6},
			"p directory 0755 5:6\np/q directory 0755 5:6\np/q/f file 0640 5:6"},
		{"octal mode is for all but links", dockerfile.Copy{Dest: "/n", Mode: "0701"}, "d", owner{},
			"n directory 0701 0:0\nn/l -> x\nn/sub directory 0701 7:8\nn/sub/y file 0701 7:8\nn/x file 0701 7:8"},
		{"symbolic mode changes what is there", dockerfile.Copy{Dest: "/n/", Mode: "go=u"}, "f", owner{},
			"n directory 0755 0:0\nn/f file 0666 7:8"},
		{"file over a directory", dockerfile.Copy{Dest: "/app/"}, "sub-as-file", owner{}, "cannot replace the directory /app/sub with a file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := source
			if tt.source == "sub-as-file" {
				files, tt.source = tree(t, "file 0644 0:0 sub=x"), "sub"
			}
			d := newDraft(tree(t, image...), time.Unix(2000, 0), t.TempDir())
			defer d.close()
			selected, err := selectPaths(t.Context(), files, tt.source, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &copyPlan{op: &tt.op, owner: tt.owner, selected: selected}
			got := ""
			if err := c.apply(t.Context(), d); err != nil {
				got = err.Error()
			} else {
				got = changes(d)
			}
			if got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
