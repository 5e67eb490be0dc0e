package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"mbuild/executor/sandbox/seccomp"
)

// defaultPath is where programs are looked for when the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	defaultShmSize = 64 << 20
	ttyGID         = 5 // the customary group of terminals
)

// limitNumber gives the kernel's number of the resource that a Ulimit names.
func limitNumber(name string) (int, bool) {
	n, ok := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}[name]
	return n, ok
}

// request decides everything that can be decided outside of the sandbox. Its errors are SetupErrors.
func (s Spec) request(maps idMaps) (request, error) {
	if err := s.validate(); err != nil {
		return request{}, err
	}
	account, err := lookupUser(s.Root, s.User, maps)
	if err != nil {
		return request{}, &SetupError{Op: fmt.Sprintf("look up user %q", s.User), Err: err}
	}
	r := request{
		Version:   protocolVersion,
		Root:      s.Root,
		Args:      s.Args,
		Env:       withDefault(withDefault(s.Env, "PATH", defaultPath), "HOME", account.home),
		Dir:       firstOf(s.Dir, "/"),
		Hostname:  firstOf(s.Hostname, DefaultHostname),
		Identity:  account.identity,
		Loopback:  s.Network == None,
		OuterProc: s.Proc == ProcOuter,
		Insecure:  s.Insecure,
		ShmSize:   s.ShmSize,
		PtsGID:    -1,
	}
	if r.ShmSize == 0 {
		r.ShmSize = defaultShmSize
	}
	if maps.gid.contain(ttyGID) {
		r.PtsGID = ttyGID
	}
	if r.Mounts, err = s.wireMounts(r.Hostname, maps); err != nil {
		return request{}, err
	}
	for _, u := range s.Ulimits {
		number, ok := limitNumber(u.Name)
		if !ok {
			return request{}, &SetupError{Op: fmt.Sprintf("set limit %q", u.Name), Err: errors.New("there is no such limit")}
		}
		r.Ulimits = append(r.Ulimits, wireLimit{Name: u.Name, Resource: number, Soft: u.Soft, Hard: u.Hard})
	}
	if !s.Insecure {
		if r.Filter, err = defaultFilter(); err != nil {
			return request{}, &SetupError{Op: "make system call filter", Err: err}
		}
	}
	return r, nil
}

// validate refuses what cannot be meant.
func (s Spec) validate() error {
	invalid := func(what string, value any, why string) error {
		return &SetupError{Op: fmt.Sprintf("%s %q", what, value), Err: errors.New(why)}
	}
	switch {
	case !path.IsAbs(s.Root):
		return invalid("root", s.Root, "not an absolute path")
	case len(s.Args) == 0 || s.Args[0] == "":
		return invalid("arguments", s.Args, "no program to run")
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return invalid("working directory", s.Dir, "not an absolute path")
	case s.ShmSize < 0:
		return invalid("size of /dev/shm", fmt.Sprint(s.ShmSize), "negative")
	case len(s.Hostname) > 64 || strings.ContainsAny(s.Hostname, " \t\r\n/"):
		return invalid("host name", s.Hostname, "not a host name")
	}
	for _, a := range slices.Concat(s.Args, s.Env) {
		if strings.ContainsRune(a, 0) {
			return invalid("argument or variable", a, "contains a NUL byte")
		}
	}
	for _, e := range s.Env {
		if strings.Index(e, "=") < 1 {
			return invalid("variable", e, "not of the form KEY=VALUE")
		}
	}
	return nil
}

// wireMounts lists what is mounted after the file systems of the system, in order: the files in /etc, Mounts, Files.
func (s Spec) wireMounts(hostname string, maps idMaps) ([]wireMount, error) {
	resolv, err := resolvConf(s.Network)
	if err != nil {
		return nil, &SetupError{Op: "make /etc/resolv.conf", Err: err}
	}
	hosts, err := hostsFile(hostname, s.Hosts)
	if err != nil {
		return nil, &SetupError{Op: "make /etc/hosts", Err: err}
	}
	mounts := []wireMount{
		{Kind: fileKind, Target: "/etc/resolv.conf", Data: resolv, Mode: 0o644},
		{Kind: fileKind, Target: "/etc/hosts", Data: hosts, Mode: 0o644},
	}
	for _, m := range s.Mounts {
		mounts = append(mounts, m.wire())
	}
	for _, f := range s.Files {
		mounts = append(mounts, wireMount{Kind: fileKind, Target: f.Path, Data: f.Data, Mode: f.Mode & 0o7777, UID: f.UID, GID: f.GID})
	}
	for _, m := range mounts {
		if err := m.validate(maps); err != nil {
			return nil, &SetupError{Op: "mount " + m.Target, Err: err}
		}
	}
	return mounts, nil
}

func (b Bind) wire() wireMount {
	return wireMount{Kind: bindKind, Target: b.Target, Source: b.Source, Within: b.Within, ReadOnly: b.ReadOnly}
}

func (t Tmpfs) wire() wireMount {
	mode := t.Mode & 0o7777
	if mode == 0 {
		mode = 0o1777
	}
	return wireMount{Kind: tmpfsKind, Target: t.Target, Size: t.Size, Mode: mode}
}

func (m wireMount) validate(maps idMaps) error {
	switch {
	case !path.IsAbs(m.Target) || strings.ContainsRune(m.Target, 0):
		return errors.New("target is not an absolute path")
	case path.Clean(m.Target) == "/":
		return errors.New("the root itself cannot be mounted over")
	case m.Kind == bindKind && m.Within == "" && !path.IsAbs(m.Source):
		return fmt.Errorf("source %q is not an absolute path", m.Source)
	case m.Size < 0:
		return fmt.Errorf("size %d is negative", m.Size)
	}
	return maps.check(m.UID, m.GID)
}

// defaultFilter is the same for every Run; compiling it takes a millisecond.
var defaultFilter = sync.OnceValues(func() (seccomp.Filter, error) { return seccomp.Default(capabilityNames()) })

// withDefault gives env with key set to value if it has no key yet. An empty value of key counts as its value.
func withDefault(env []string, key, value string) []string {
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, key+"=") }) {
		return env
	}
	return append(slices.Clip(env), key+"="+value)
}

func firstOf(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
