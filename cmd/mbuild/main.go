// Command mbuild turns a Dockerfile into a multi-platform OCI image with no daemon,
// no root, no privileged container and no host set-up.
//
// This package wires the others: it reads flags and environment, opens contexts,
// registries and the state directory, shows progress, writes results, and turns errors
// into messages and exit codes. How anything is done is known elsewhere.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"mbuild/executor/namespace"
	"mbuild/executor/sandbox"
)

func main() {
	var inside *namespace.Info
	switch os.Args[0] { // the halves of mbuild that mbuild itself starts
	case sandbox.Arg0:
		sandbox.Main()
	case namespace.Arg0:
		info, err := namespace.Finish()
		if err != nil {
			fmt.Fprintln(os.Stderr, "mbuild:", err)
			os.Exit(exitCannot)
		}
		inside = info
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], inside)
	stop()
	os.Exit(code)
}

// run executes the command line and returns the exit code. inside describes the build
// namespace that this process is in, if any.
func run(ctx context.Context, args []string, inside *namespace.Info) int {
	c := &command{inside: inside, stdout: os.Stdout, stderr: os.Stderr}
	c.args = arrange(c.app(), args)
	err := c.app().RunContext(ctx, append([]string{"mbuild"}, c.args...))
	if c.entered && err == nil {
		return c.code // the half inside has said what there is to say
	}
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	return report(os.Stderr, err)
}
