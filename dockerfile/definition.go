package dockerfile

import (
	"encoding/binary"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// encoder writes a definition: every string and list has its length in front, so that no two
// sequences of values have the same encoding.
type encoder struct{ buf []byte }

func define(kind string) *encoder {
	e := &encoder{}
	e.text("mbuild " + kind + " 1")
	return e
}

func (e *encoder) number(n int64) { e.buf = binary.AppendVarint(e.buf, n) }

func (e *encoder) text(s string) {
	e.number(int64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) list(l []string) {
	e.number(int64(len(l)))
	for _, s := range l {
		e.text(s)
	}
}

func (e *encoder) flag(b bool) {
	if b {
		e.number(1)
	} else {
		e.number(0)
	}
}

// optional writes whether there is a value, and the value.
func optional[T int | uint32](e *encoder, p *T) {
	e.flag(p != nil)
	if p != nil {
		e.number(int64(*p))
	}
}

func (e *encoder) inline(f *Inline) {
	e.text(f.Name)
	e.text(string(f.Data))
	e.number(int64(f.Mode))
}

func (e *encoder) platform(p *ocispec.Platform) {
	e.flag(p != nil)
	if p != nil {
		e.list([]string{p.OS, p.Architecture, p.Variant, p.OSVersion})
		e.list(p.OSFeatures)
	}
}

// source writes what a source says beyond the content it stands for.
func (e *encoder) source(s Source) {
	switch {
	case s.Step != nil:
		e.text("step")
	case s.Local != nil:
		e.text("local")
	case s.Inline != nil:
		e.text("inline")
		e.inline(s.Inline)
	case s.HTTP != nil:
		e.text("http")
		e.text(s.HTTP.Name)
	case s.Git != nil:
		e.text("git")
	case s.Scratch:
		e.text("scratch")
	default:
		e.text("")
	}
	e.list(s.Paths)
}

// Definition covers the canonical reference and the platform.
func (i *Image) Definition() []byte {
	e := define("image")
	e.text(i.Ref)
	e.platform(&i.Platform)
	return e.buf
}

// Definition covers everything but Proxy, the addresses in Hosts, and the content that mounts show.
func (r *Run) Definition() []byte {
	e := define("run")
	e.list(r.Args)
	e.list(r.Env)
	e.text(r.Dir)
	e.text(r.User)
	e.text(r.Network)
	e.flag(r.Insecure)
	e.number(int64(len(r.Hosts)))
	for _, h := range r.Hosts {
		name, _, _ := strings.Cut(h, "=")
		e.text(name)
	}
	e.text(r.Hostname)
	e.number(r.ShmSize)
	e.list(r.Ulimits)
	e.number(int64(len(r.Files)))
	for i := range r.Files {
		e.inline(&r.Files[i])
	}
	e.number(int64(len(r.Mounts)))
	for _, m := range r.Mounts {
		m.define(e)
	}
	return e.buf
}

func (m *Mount) define(e *encoder) {
	e.text(m.Type)
	e.text(m.Target)
	e.source(m.From)
	e.text(m.Source)
	e.flag(m.ReadOnly)
	e.text(m.ID)
	e.text(m.Sharing)
	e.number(m.Size)
	optional(e, m.Mode)
	optional(e, m.UID)
	optional(e, m.GID)
	e.flag(m.Required)
	e.text(m.Env)
}

// Definition covers everything but the content of sources; here-documents are in it.
func (c *Copy) Definition() []byte {
	e := define("copy")
	e.flag(c.Add)
	e.number(int64(len(c.Sources)))
	for _, s := range c.Sources {
		e.source(s)
	}
	e.text(c.Dest)
	e.text(c.Owner)
	e.text(c.Mode)
	e.flag(c.Link)
	e.flag(c.Parents)
	e.list(c.Exclude)
	e.flag(c.Unpack != nil)
	if c.Unpack != nil {
		e.flag(*c.Unpack)
	}
	return e.buf
}

// Definition covers path and owner.
func (m *Mkdir) Definition() []byte {
	e := define("mkdir")
	e.text(m.Path)
	e.text(m.Owner)
	return e.buf
}
