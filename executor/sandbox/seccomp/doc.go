// Package seccomp turns Docker's default system call profile into a BPF filter for the kernel mbuild runs on, and loads it.
//
// The profile is the Go value of github.com/moby/profiles/seccomp; its conditional rules are resolved for the capabilities
// the filtered process will have, the kernel and the architecture. The filter covers the native system call table and those
// of the same machine's other calling conventions (amd64: 386 and x32; arm64: arm).
//
// What the profile does not allow fails with EPERM. System calls newer than every one the profile knows fail with
// ENOSYS, so that programs fall back to what an older kernel offers instead of taking EPERM for an answer.
package seccomp
