package dockerfile

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// Op is what a step does: *Image, *Run, *Copy or *Mkdir.
type Op interface {
	// Definition is a canonical, versioned, length-prefixed encoding of everything in
	// the operation that can change its result, except its inputs (the parent and the
	// content of sources), which the executor adds by content. Two operations that may differ
	// in effect never have equal definitions.
	Definition() []byte
	op()
}

// Image takes over all layers of an image.
type Image struct {
	Ref      string           // canonical: name:tag@digest of the platform's manifest
	Name     string           // as written in the Dockerfile, after expansion
	Platform ocispec.Platform // which of the images under that name
}

// Run executes a program in the parent's filesystem.
type Run struct {
	Args     []string // argv; for the shell form the shell stands in front already
	Env      []string // KEY=VALUE in order, every key once: the image's variables and the ARGs in scope
	Proxy    []string // proxy settings as KEY=VALUE: in effect for the process, not part of the definition; a key in Env wins
	Dir      string   // absolute, clean
	User     string   // as in USER; empty: root
	Network  string   // "" (the default), "none" or "host"
	Insecure bool     // RUN --security=insecure
	Hosts    []string // extra entries of /etc/hosts, "name=ip"; the names are part of the definition, the addresses are not
	Hostname string   // empty: the executor's choice
	ShmSize  int64    // bytes of /dev/shm; 0: the executor's choice
	Ulimits  []string // "name=soft:hard"
	Files    []Inline // scripts shown read-only at /dev/pipes/NAME
	Mounts   []Mount  // in order
}

// Mount is one RUN --mount.
type Mount struct {
	Type     string // "bind", "cache", "tmpfs", "secret" or "ssh"
	Target   string // absolute, clean; empty: a secret that is only a variable, an ssh socket at the executor's choice of path
	From     Source // bind: where the files come from; cache: what the cache starts with (Scratch when nothing was asked for)
	Source   string // bind, cache: absolute path inside From
	ReadOnly bool
	ID       string  // cache, secret, ssh: never empty
	Sharing  string  // cache: "shared", "private" or "locked"
	Size     int64   // tmpfs: limit in bytes; 0: none
	Mode     *uint32 // cache, secret, ssh: permission bits; nil: the type's default
	UID, GID *int    // cache, secret, ssh; nil: 0
	Required bool    // secret, ssh: its absence is an error
	Env      string  // secret: variable that gets the value; empty: none
}

// Copy puts files of one or more sources into the parent's filesystem.
type Copy struct {
	Add     bool     // ADD: archives among the sources are extracted, see Unpack
	Sources []Source // in order, at least one
	Dest    string   // absolute; with a trailing slash (or "/.") when the Dockerfile says that it is a directory
	Owner   string   // --chown; empty: 0:0
	Mode    string   // --chmod, valid, octal or symbolic; empty: as the source has it
	Link    bool     // --link: independent of what the parent has at Dest
	Parents bool     // --parents
	Exclude []string // --exclude patterns
	Unpack  *bool    // ADD --unpack; nil: local archives are extracted, those of web servers are not
}

// Source is where a *Copy or a Mount takes files from. Exactly one of Step, Local,
// Inline, HTTP, Git and Scratch is set; HTTP and Git are for ADD only.
type Source struct {
	Step    *Step    // filesystem of that step (a stage or an image)
	Local   *Local   // a local context
	Inline  *Inline  // a here-document
	HTTP    *HTTP    // a file on a web server
	Git     *Git     // the files of a repository
	Scratch bool     // an empty filesystem
	Paths   []string // Copy of Step, Local or Scratch: patterns inside it, one or more, as in the Dockerfile after expansion
}

// Local names a local context. The empty name is the main build context.
type Local struct{ Name string }

// Inline is a file that stands in the Dockerfile itself, as a here-document.
type Inline struct {
	Name string
	Data []byte
	Mode uint32 // permission bits
}

// Mkdir makes a directory and its missing parents with mode 0755 (WORKDIR). What exists
// already stays as it is.
type Mkdir struct {
	Path  string // absolute, clean, not "/"
	Owner string // as in USER; empty: root
}

func (*Image) op() {}
func (*Run) op()   {}
func (*Copy) op()  {}
func (*Mkdir) op() {}
