// Package namespace takes mbuild into its build namespace: a user namespace with a range of ids, with a mount namespace and, where
// /proc can be had for it, a pid namespace of its own. Inside, mbuild is root over the mapped ids and may mount; outside, nothing has changed.
//
// There is one binary and two halves. The half that stays outside is [Outside]; the half inside begins with [Finish]. They talk
// over a socket (SOCK_SEQPACKET, one JSON message per packet, each with the protocol's name and version), which is descriptor 3 of the
// process inside, for its life and for no descendant of it:
//
//	outside: Enter                                 inside: main, argv[0] = Arg0, calls Finish
//	  │
//	  ├─ clone user+mount+pid namespaces, exec ───▶ no id is mapped yet, so the exec has lost every capability
//	  │    /proc/self/exe with the same arguments    │
//	  ├─ newuidmap, newgidmap                        │ waits
//	  ├─ "mapped" ─────────────────────────────────▶ uid 0 exists now: exec /proc/self/exe again, which gives all capabilities
//	  ├─ "build" (what is mapped) ─────────────────▶ asks to die with its parent, makes all mounts private, mounts /proc
//	  │    or "leave": only a trial                  │
//	  │ ◀────────────────────────────── "ready" ─────┤
//	  │    or "refused" (which step, errno), exits   │
//	  ├─ relays signals                              Finish returns, main carries on with the build
//	  └─ waits ◀──────────────────── exit status ────┘
//
// Root that holds CAP_SETUID, CAP_SETGID and CAP_SETFCAP needs no helper: its own whole id map is written, unchanged, before the first exec,
// and "mapped" is not sent.
//
// When the half outside is gone, however it went, so is everything inside: the process inside is killed by its parent-death
// signal, and being the init of its pid namespace takes every descendant with it. A kernel that refuses a new /proc (it does when
// parts of the old one are masked, as in most containers) gets the namespace without a pid namespace, because a /proc that
// numbers processes differently from getpid is a trap; then each RUN dies by its own parent-death signal.
//
// In a pid namespace the build is process 1, so a process id identifies nobody in files that several builds share.
// Orphans that daemonise themselves away from a tool of ours stay as zombies until the build ends.
package namespace
