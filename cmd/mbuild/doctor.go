package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"mbuild/emulation"
	"mbuild/executor/namespace"
)

// doctor shows what works here and what would help where something does not.
func (c *command) doctor(cc *cli.Context) error {
	emulators, err := emulation.ParseEmulators(cc.StringSlice("emulator"))
	if err != nil {
		return usageError{err}
	}
	if c.inside == nil {
		root, err := stateDir(cc.String("root"))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "state directory  %s\n", root)
		done, why, err := c.enter(cc.Context, c.args)
		if done || err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "isolation        none: %s\n", why.Reason)
		if why.Hint != "" {
			fmt.Fprintf(c.stdout, "                 hint: %s\n", why.Hint)
		}
		fmt.Fprintln(c.stdout, "                 Dockerfiles without RUN can be built for every platform.")
		return nil
	}
	c.describeNamespace()
	return c.describePlatforms(cc, emulation.Find(emulation.Options{Emulators: emulators, Dir: ownDir()}))
}

func (c *command) describeNamespace() {
	var info *namespace.Info = c.inside
	fmt.Fprintf(c.stdout, "isolation        rung %s\n", info.Rung())
	if !info.PIDNamespace {
		fmt.Fprintln(c.stdout, "                 without a pid namespace: a new /proc cannot be mounted here")
	}
}

func (c *command) describePlatforms(cc *cli.Context, set *emulation.Set) error {
	rows, err := set.Survey(cc.Context)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout)
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PLATFORM\tRUNS\tEMULATOR\tNOTE")
	for _, row := range rows {
		by := row.Way.Emulator
		if row.Way.Version != "" {
			by += " " + row.Way.Version
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", row.Platform, row.Way.Kind, by, row.Note)
	}
	return w.Flush()
}
