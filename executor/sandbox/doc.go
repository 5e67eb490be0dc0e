// Package sandbox runs one process in one root filesystem, in namespaces of its own.
//
// Run is called in the build namespace: a user namespace with its own mount namespace in which mbuild is root. Run
// re-executes the running program under the name Arg0; Main, called at the top of main, recognises that and is the other half.
// The two talk over a memory file and a socket, in messages with a version (see protocol.go).
//
// What the process gets, and what that isolates:
//
//   - a user namespace, nested, with the build namespace's ids under the same numbers: root in the sandbox has no power over what
//     the build namespace owns (its mounts, its binfmt_misc, its processes' memory), while setuid programs, file capabilities
//     and chown to every mapped id work as usual
//   - a mount namespace: only the root filesystem and what Spec adds are there, and the program cannot change its mounts
//   - a pid namespace, of which the program is process 1: it sees, and can signal, only its own descendants, and they die with it
//   - ipc, uts and cgroup namespaces: no System V or POSIX queues of others, a host name of its own, no path of our cgroup
//   - with Network None a network namespace that holds only lo
//   - the default set of capabilities and Docker's system call filter, unless Spec.Insecure asks for everything
//
// /proc, /sys, /dev, /etc/resolv.conf and /etc/hosts look as OCI runtimes make them. Where the kernel refuses a new /proc
// (because the outer one has parts masked, as in a container) the outer one is shown, and there is no pid namespace; Run says so
// through Spec.Degraded. A supervisor then ends the processes that the program leaves behind.
//
// The root filesystem is hostile: nothing in it is followed outside of it. Mount points that it lacks are made in it for
// the time of the run and removed again, with the times of their directories restored, so that no trace of them is in a layer.
//
// Needs Linux 5.12 or newer (mount_setattr).
package sandbox
