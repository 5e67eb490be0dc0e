// Package emulation knows, for a platform, how its programs run on this machine.
//
// There are four ways, asked for with [Set.Way]:
//
//	Native       the processor and the kernel run them: we run ourselves, and where there is a second architecture (386, arm) one was run
//	QEMU         a static user-mode QEMU was found and can be registered with the kernel
//	HostHandler  a binfmt_misc handler that somebody registered on the host runs them; proved by running one
//	Missing      not at all; the Way says why and what would help
//
// [Set.Register] makes the QEMU way work without anything on the host: since Linux 6.7 a user namespace can have a binfmt_misc
// table of its own. Register mounts a fresh one in the namespace of the build, enters the emulators that are needed, proves each of
// them by running a program of its architecture, and takes the mount out of sight again, so that no RUN ever sees it. The host's
// table is neither read nor written.
//
// The proof of a foreign one is always a program of four instructions made by this package (see tiny.go): it ends with the first byte of its argv[0]
// as exit status, so it also shows whether an emulator keeps argv[0], without which multi-call programs such as busybox break.
package emulation
