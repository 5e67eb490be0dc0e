package sandbox

import (
	"fmt"
	"syscall"
)

// Spec describes one process in one root filesystem. The zero value of everything but Root and Args is usable.
type Spec struct {
	// Root is a mounted directory, in our mount namespace, that becomes the process's "/". It must be writable while
	// the process is started when it lacks mount points; nothing of them stays in it afterwards. One Run at a time uses it.
	Root string

	// Args is the program and its arguments. A name without a slash is looked up in PATH of Env, inside Root.
	Args []string
	// Env is the exact environment, KEY=VALUE. HOME and PATH are added when they are missing: HOME from Root's
	// /etc/passwd, PATH with the customary directories.
	Env []string
	// Dir is the absolute working directory inside Root, "" is "/". It must exist.
	Dir string
	// User is name|uid[:group|gid] as in a Dockerfile's USER, looked up in Root's own /etc/passwd and /etc/group. "" is root.
	// Supplementary groups come from /etc/group, unless a group is given.
	User string

	Hostname string // "" is DefaultHostname
	Network  Network
	Hosts    []string // more lines of /etc/hosts, as "name ip" or "name=ip"

	// Insecure gives all capabilities and leaves out the system call filter and the protection of /proc and /sys. The process
	// is still confined to its namespaces.
	Insecure bool

	Mounts  []Mount // made in order, after the standard ones
	Files   []File  // made in order, after Mounts
	ShmSize int64   // bytes of /dev/shm, 0 is 64 MiB
	Ulimits []Ulimit

	// Proc says where /proc comes from. ProcAuto tries for a new one on every Run; a caller that was told of the
	// degradation may ask for ProcOuter and save the attempt.
	Proc Proc
	// Degraded, if not nil, is called for everything that is weaker than described, as it is found out: before Run returns,
	// one call at a time, maybe on another goroutine.
	Degraded func(Degradation)
}

// DefaultHostname is the host name of a process whose Spec has none.
const DefaultHostname = "mbuild"

// Network says what network the process sees.
type Network int

// The networks.
const (
	Host Network = iota // mbuild's own
	None                // nothing but lo
)

// Proc says what is mounted on /proc.
type Proc int

// The kinds of /proc.
const (
	ProcAuto  Proc = iota // a new one for the process's pid namespace; the outer one when the kernel refuses that
	ProcOuter             // the outer one, and no pid namespace
)

// Degradation is something the sandbox could not provide here. It carries the evidence.
type Degradation struct {
	Feature Feature
	Reason  string // what was attempted and what the kernel answered
}

func (d Degradation) String() string { return fmt.Sprintf("%s: %s", d.Feature, d.Reason) }

// Feature names what a Degradation is about.
type Feature string

// The features that may be missing.
const (
	PIDNamespace Feature = "pid namespace" // the process sees mbuild's processes and may signal them
	NewSysfs     Feature = "new sysfs"     // /sys shows the network devices of mbuild's namespace
)

// Mount is something to mount in the sandbox: a Bind or a Tmpfs. Mount points are made as needed, as empty files for files,
// and removed after the run.
type Mount interface{ wire() wireMount }

// Bind shows a directory, or a single file, at Target.
type Bind struct {
	// Source is an absolute path in our mount namespace. With Within, it is a path inside that directory,
	// which no symbolic link in it can leave.
	Source   string
	Within   string
	Target   string // absolute path inside Root
	ReadOnly bool   // with everything mounted below Source
}

// Tmpfs is an empty filesystem in memory at Target.
type Tmpfs struct {
	Target string
	Size   int64  // bytes, 0 is the kernel's default (half of the memory)
	Mode   uint32 // 0 is 01777
}

// File is a read-only file at Path that is never on a disk.
type File struct {
	Path     string
	Data     []byte
	Mode     uint32 // permission bits as they are; 0 is no permission at all
	UID, GID int
}

// Ulimit is a resource limit of the process. Raising a hard limit takes privilege on the host.
type Ulimit struct {
	Name       string // nofile, nproc, core, … as in setrlimit(2), lower case, without RLIMIT_
	Soft, Hard uint64 // math.MaxUint64 is unlimited
}

// ExitError is the end of a process that did not exit with status 0, or the failure to find or execute the program.
type ExitError struct {
	Code   int            // exit status; 128+Signal when killed; 127 when the program was not found, 126 when it cannot be executed
	Signal syscall.Signal // what killed it, or 0
	Err    error          // why the program could not be executed; nil when it ran
}

func (e *ExitError) Error() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Unwrap gives the reason why the program could not be executed, if that is what happened.
func (e *ExitError) Unwrap() error { return e.Err }

// SetupError tells that the sandbox could not be made. The program was not started.
type SetupError struct {
	Op  string // what was attempted, with its object: "mount /proc"
	Err error
}

func (e *SetupError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause, a syscall.Errno when the kernel refused.
func (e *SetupError) Unwrap() error { return e.Err }
