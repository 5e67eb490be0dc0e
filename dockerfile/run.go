package dockerfile

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func (w *walk) runCommand(ctx context.Context, c *instructions.RunCommand) error {
	args, files, note, err := w.script(c)
	if err != nil {
		return err
	}
	if c.PrependShell {
		args = w.withShell(args)
	}
	if len(args) == 0 || args[0] == "" {
		return w.file.failf(c.Location(), "", "RUN needs a command")
	}
	network, err := w.network(c)
	if err != nil {
		return err
	}
	insecure := instructions.GetSecurity(c) == instructions.SecurityInsecure
	if insecure && !w.opts.AllowInsecure {
		return w.file.failf(c.Location(), "--allow security.insecure grants it", "RUN --security=insecure needs the entitlement security.insecure")
	}
	mounts, err := w.mounts(ctx, c)
	if err != nil {
		return err
	}
	shown := w.env
	for _, m := range mounts {
		if m.Env != "" {
			if shown == w.env {
				shown = w.env.clone()
			}
			shown.set(m.Env, "****")
		}
	}
	name := w.display(c.String()+note, shown, true)
	platform := w.state.platform
	w.add(&Run{
		Args: args, Env: w.env.list, Proxy: w.proxy(w.env), Dir: w.dir(), User: w.image.config.User,
		Network: network, Insecure: insecure, Hosts: w.opts.ExtraHosts, Hostname: w.opts.Hostname,
		ShmSize: w.opts.ShmSize, Ulimits: w.opts.Ulimits, Files: files, Mounts: mounts,
	}, &platform, name, c.Location())
	w.image.commit("RUN "+w.historyArgs()+strings.Join(args, " ")+" # buildkit", w.step)
	return nil
}

// script works out what the shell gets, from here-documents if there are any. note is for the
// step's name.
func (w *walk) script(c *instructions.RunCommand) (args []string, files []Inline, note string, err error) {
	if len(c.Files) == 0 {
		return c.CmdLine, nil, "", nil
	}
	if len(c.CmdLine) != 1 || !c.PrependShell {
		return nil, nil, "", w.file.failf(c.Location(), "", "RUN in exec form cannot have here-documents")
	}
	if parser.MustParseHeredoc(c.CmdLine[0]) == nil {
		// The shell is to deal with the here-documents itself.
		text := c.CmdLine[0]
		for _, f := range c.Files {
			text += "\n" + f.Data + f.Name
		}
		return []string{text}, nil, "", nil
	}
	f := c.Files[0]
	data := f.Data
	if f.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	note = " (" + summary(f.Data) + ")"
	if !strings.HasPrefix(f.Data, "#!") {
		return []string{data}, nil, note, nil
	}
	if err := w.fileName(f.Name, c.Location()); err != nil {
		return nil, nil, "", err
	}
	return []string{"/dev/pipes/" + f.Name}, []Inline{{Name: f.Name, Data: []byte(data), Mode: 0o755}}, note, nil
}

// fileName refuses delimiters of here-documents that cannot be the name of a file.
func (w *walk) fileName(name string, at []parser.Range) error {
	if name == "." || name == ".." || strings.Contains(name, "/") {
		return w.file.failf(at, "use a word such as EOF", "the delimiter %q of a here-document cannot be a file name", name)
	}
	return nil
}

// summary is the first line of a here-document.
func summary(doc string) string {
	first, _, more := strings.Cut(strings.TrimSpace(doc), "\n")
	first = strings.TrimSuffix(first, "\r")
	if more {
		first += "..."
	}
	return first
}

// withShell is the argv of the shell form.
func (w *walk) withShell(args []string) []string {
	sh := w.image.config.Shell
	if len(sh) == 0 {
		sh = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(sh), strings.Join(args, " "))
}

// historyArgs is what the history puts in front of a RUN: the number of ARGs in scope, and the ARGs.
func (w *walk) historyArgs() string {
	var keys []string
	values := map[string]string{}
	for _, a := range w.args {
		if _, ok := values[a.Key]; !ok {
			keys = append(keys, a.Key)
		}
		v, ok := w.env.Get(a.Key)
		if !ok {
			v = a.ValueString()
		}
		values[a.Key] = v
	}
	if len(keys) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "|%d ", len(keys))
	for _, k := range keys {
		b.WriteString(k + "=" + values[k] + " ")
	}
	return b.String()
}

func (w *walk) network(c *instructions.RunCommand) (string, error) {
	mode := instructions.GetNetwork(c)
	switch mode {
	case instructions.NetworkNone:
		return "none", nil
	case instructions.NetworkHost:
		if !w.opts.AllowHostNetwork {
			return "", w.file.failf(c.Location(), "--allow network.host grants it", "RUN --network=host needs the entitlement network.host")
		}
		return "host", nil
	}
	if w.opts.Network == "default" {
		return "", nil
	}
	return w.opts.Network, nil
}

func (w *walk) mounts(ctx context.Context, c *instructions.RunCommand) ([]Mount, error) {
	var out []Mount
	for _, m := range instructions.GetMounts(c) {
		x := Mount{
			Type: string(m.Type), ReadOnly: m.ReadOnly, Required: m.Required,
			Mode: narrow[uint32](m.Mode), UID: narrow[int](m.UID), GID: narrow[int](m.GID),
		}
		var err error
		switch m.Type {
		case instructions.MountTypeSecret:
			err = w.secret(&x, m, c.Location())
		case instructions.MountTypeSSH:
			err = w.ssh(&x, m, c.Location())
		default:
			err = w.directory(ctx, &x, m, c.Location())
		}
		if err != nil {
			return nil, err
		}
		w.noteMount(x, c.Location())
		out = append(out, x)
	}
	return out, nil
}

func narrow[T uint32 | int](v *uint64) *T {
	if v == nil {
		return nil
	}
	n := T(*v)
	return &n
}

// inside is a path of the filesystem that RUN sees.
func (w *walk) inside(p string) string { return path.Join("/", joinDir(w.dir(), p)) }

// directory fills in a bind, cache or tmpfs mount.
func (w *walk) directory(ctx context.Context, x *Mount, m *instructions.Mount, at []parser.Range) error {
	x.Target = w.inside(m.Target)
	if x.Target == "/" {
		return w.file.failf(at, "", "invalid mount target %q", m.Target)
	}
	if m.Type == instructions.MountTypeTmpfs {
		if m.SizeLimit < 0 {
			return w.file.failf(at, "", "tmpfs mount with a negative size")
		}
		x.Size = m.SizeLimit
		return nil
	}
	x.Source = path.Join("/", m.Source)
	if m.Type == instructions.MountTypeCache {
		x.Sharing, x.ID = string(m.CacheSharing), m.CacheID
		if x.Sharing == "" {
			x.Sharing = "shared"
		}
		if x.ID == "" && m.Target != "" {
			x.ID = path.Clean(m.Target)
		} else if x.ID == "" {
			x.ID = x.Target
		}
		if ns := w.opts.BuildArgs["BUILDKIT_CACHE_MOUNT_NS"]; ns != "" {
			x.ID = ns + "/" + x.ID
		}
	}
	switch {
	case m.From != "":
		var err error
		x.From, err = w.source(ctx, w.stage, m.From, at)
		return err
	case m.Type == instructions.MountTypeCache:
		x.From = Source{Scratch: true}
	default:
		x.From = Source{Local: &Local{}}
	}
	return nil
}

func (w *walk) secret(x *Mount, m *instructions.Mount, at []parser.Range) error {
	x.ID = m.CacheID
	if m.Source != "" {
		x.ID = m.Source
	}
	if x.ID == "" {
		x.ID = path.Base(m.Target)
	}
	if m.Env != nil {
		x.Env = *m.Env
		if x.Env == "" {
			x.Env = x.ID
		}
		if strings.Contains(x.Env, "=") {
			return w.file.failf(at, "", "secret mount: %q cannot be the name of a variable", x.Env)
		}
	}
	switch {
	case m.Target != "":
		x.Target = w.inside(m.Target)
	case m.Env == nil:
		x.Target = path.Join("/run/secrets", path.Base(x.ID))
	}
	if x.Target == "/" {
		return w.file.failf(at, "", "invalid mount target %q", m.Target)
	}
	return nil
}

func (w *walk) ssh(x *Mount, m *instructions.Mount, at []parser.Range) error {
	for key, set := range map[string]bool{"source": m.Source != "", "from": m.From != "", "env": m.Env != nil} {
		if set {
			return w.file.failf(at, "", "ssh mount does not support %s", key)
		}
	}
	x.ID = m.CacheID
	if x.ID == "" {
		x.ID = "default"
	}
	if m.Target != "" {
		if x.Target = w.inside(m.Target); x.Target == "/" {
			return w.file.failf(at, "", "invalid mount target %q", m.Target)
		}
	}
	return nil
}
