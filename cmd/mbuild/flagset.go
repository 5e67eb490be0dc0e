package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func rootFlag() cli.Flag {
	return &cli.StringFlag{Name: "root", Usage: "`DIR`state directory (also MBUILD_ROOT)", EnvVars: []string{rootVariable}}
}

func emulatorFlag() cli.Flag {
	return list("emulator", "`ARCH=PATH`a static user-mode QEMU, such as arm64=/opt/qemu-aarch64-static")
}

func doctorFlags() []cli.Flag { return []cli.Flag{rootFlag(), emulatorFlag()} }

func list(name, usage string, aliases ...string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: usage}
}

// hidden is a flag that other builders have and that refuse explains.
func hidden(name string) cli.Flag { return &cli.StringSliceFlag{Name: name, Hidden: true} }

func text(name, usage string, aliases ...string) cli.Flag {
	return &cli.StringFlag{Name: name, Aliases: aliases, Usage: usage}
}

func yes(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage}
}

// buildFlags are the flags of docker buildx build, those of registries, and our own.
// A flag that is listed here does what it says or stops the build.
func buildFlags() []cli.Flag {
	return []cli.Flag{
		// What is built.
		text("file", "`FILE`the Dockerfile (default: PATH/Dockerfile)", "f"),
		text("target", "`STAGE`stage to build (default: the last)"),
		list("platform", "`PLATFORMS`what to build for, such as linux/amd64,linux/arm64"),
		list("build-arg", "`NAME=VALUE`value of an ARG"),
		list("build-context", "`NAME=VALUE`further context: a directory, docker-image://REF or oci-layout://DIR:TAG"),
		list("label", "`KEY=VALUE`label of the image"),
		list("annotation", "`[TYPE:]KEY=VALUE`annotation of the manifest or index"),
		list("secret", "`id=ID[,src=FILE|,env=NAME]`secret for RUN --mount=type=secret"),
		list("ssh", "`ID[=SOCKET]`agent for RUN --mount=type=ssh"),
		// How steps run.
		text("network", "`NETWORK`network of RUN: default, none or host"),
		list("add-host", "`NAME=IP`line for /etc/hosts of RUN"),
		text("shm-size", "`SIZE`size of /dev/shm in RUN"),
		list("ulimit", "`TYPE=SOFT[:HARD]`limit of RUN"),
		list("allow", "`ENTITLEMENT`what to allow: network.host, security.insecure"),
		emulatorFlag(),
		&cli.IntFlag{Name: "jobs", Usage: "`N`steps at a time"},
		// Where the result goes.
		list("tag", "`NAME`name of the image", "t"),
		yes("push", "push the image (-o type=registry)"),
		list("output", "`type=TYPE[,KEY=VALUE]`where the result goes: registry, oci, docker, local, tar or cacheonly", "o"),
		text("metadata-file", "`FILE`where digests and names are written as JSON"),
		text("iidfile", "`FILE`where the image's id is written"),
		// Cache.
		yes("no-cache", "run every step again"),
		list("no-cache-filter", "`STAGES`run every step of these stages again"),
		yes("pull", "ask the registry for base images again (mbuild always does)"),
		hidden("cache-from"),
		hidden("cache-to"),
		rootFlag(),
		// Registries.
		list("registry-mirror", "`HOST=URL`where to pull from in place of HOST"),
		list("insecure-registry", "`HOST`registry that may speak plain HTTP or have any certificate"),
		list("registry-certificate", "`HOST=FILE`certificate authorities to trust"),
		// Instead of building.
		yes("check", "apply the build checks and build nothing (--call=check)"),
		text("call", "`METHOD`build, or without building: check, outline, targets[,format=json]"),
		&cli.StringFlag{Name: "print", Hidden: true}, // the older name of --call
		// Display.
		text("progress", "`MODE`auto, plain, tty, quiet, none or rawjson (also BUILDKIT_PROGRESS)"),
		yes("quiet", "print the image id only", "q"),
		// Checked, and refused when they ask for something.
		&cli.StringFlag{Name: "provenance", Hidden: true},
		&cli.StringFlag{Name: "sbom", Hidden: true},
		hidden("attest"),
		&cli.BoolFlag{Name: "load", Hidden: true},
		&cli.StringFlag{Name: "builder", Hidden: true}, // scripts pass it; a build says that it means nothing here
	}
}

// helpOf is the help text of a command: one line per flag.
func helpOf(usage string, flags []cli.Flag) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n", usage)
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if v, isVisible := f.(cli.VisibleFlag); !ok || isVisible && !v.IsVisible() {
			continue
		}
		value, usage := splitUsage(doc.GetUsage())
		var names []string
		for _, n := range f.Names() {
			if len(n) == 1 {
				names = append([]string{"-" + n}, names...)
			} else {
				names = append(names, "--"+n)
			}
		}
		if doc.TakesValue() {
			names[len(names)-1] += " " + value
		}
		fmt.Fprintf(w, "  %s\t%s\n", strings.Join(names, ", "), usage)
	}
	w.Flush()
	b.WriteString("\nExample: mbuild --platform linux/amd64,linux/arm64 -t registry.example.com/app:1 --push .\n")
	return b.String()
}

// splitUsage takes the name of the value, which stands in backquotes, out of a flag's text.
func splitUsage(usage string) (value, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "VALUE", usage
	}
	value, after, _ := strings.Cut(rest, "`")
	return value, before + after
}
