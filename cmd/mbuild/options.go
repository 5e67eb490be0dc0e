package main

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"mbuild/cmd/mbuild/flags"
	"mbuild/cmd/mbuild/progress"
	"mbuild/emulation"
	"mbuild/index"
)

// buildOptions is the command line of a build, parsed and checked.
type buildOptions struct {
	input    inputOptions
	running  runOptions
	result   resultOptions
	registry index.RegistryOptions
	progress progress.Mode
	call     flags.Call
	root     string // as told, may be empty
	builder  string // --builder, which names nothing here
}

// inputOptions say what is built.
type inputOptions struct {
	context   flags.Context
	file      string
	target    string
	host      ocispec.Platform
	platforms []ocispec.Platform
	repeated  []string // platforms that were given twice
	args      map[string]string
	labels    map[string]string
	contexts  map[string]flags.Context
	epoch     *time.Time
	noCache   bool
	noCaches  []string // stages
}

// runOptions say how RUN steps run.
type runOptions struct {
	secrets   *secrets
	network   string
	hosts     []flags.Host
	shmSize   int64
	ulimits   []flags.Ulimit
	allow     flags.Entitlements
	emulators map[string]string
	jobs      int
}

// resultOptions say where the result goes.
type resultOptions struct {
	outputs      []flags.Output
	tags         []string
	annotations  []flags.Annotation
	metadataFile string
	iidFile      string
	clamp        bool // rewrite-timestamp: no file of our layers is younger than the epoch
}

func parseBuild(c *cli.Context) (*buildOptions, error) {
	if c.NArg() != 1 {
		return nil, usagef("want one build context (a directory, often \".\"), got %d arguments: %s", c.NArg(), strings.Join(c.Args().Slice(), " "))
	}
	if err := refuse(c); err != nil {
		return nil, err
	}
	mode, err := flags.Progress(c.String("progress"), os.LookupEnv)
	if err != nil {
		return nil, err
	}
	o := &buildOptions{root: c.String("root"), builder: c.String("builder"), progress: progress.Mode(mode)}
	if c.Bool("quiet") {
		o.progress = progress.Quiet
	}
	for _, parse := range []func(*cli.Context) error{o.parseInput, o.parseRun, o.parseResult, o.parseRegistry, o.parseCall} {
		if err := parse(c); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// refuse stops at what other builders do and mbuild does not yet.
func refuse(c *cli.Context) error {
	for _, name := range []string{"cache-from", "cache-to", "attest"} {
		if c.IsSet(name) {
			return usagef("--%s is not supported yet; the local cache is always on", name)
		}
	}
	for _, name := range []string{"provenance", "sbom"} {
		if v := c.String(name); v != "" && v != "false" && v != "disabled=true" {
			return usagef("--%s=%s is not supported yet; mbuild makes no attestations", name, v)
		}
	}
	if c.Bool("load") {
		return usagef("--load is not supported yet: write -o type=docker,dest=image.tar and load that")
	}
	return nil
}

func (o *buildOptions) parseInput(c *cli.Context) (err error) {
	in := &o.input
	in.context = flags.MainContext(c.Args().First())
	in.file, in.target = c.String("file"), c.String("target")
	in.noCache, in.noCaches = c.Bool("no-cache"), splitCommas(c.StringSlice("no-cache-filter"))
	if in.noCache && len(in.noCaches) > 0 {
		return usagef("--no-cache and --no-cache-filter exclude each other")
	}
	in.host = platforms.Normalize(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if in.platforms, in.repeated, err = flags.Platforms(c.StringSlice("platform"), os.LookupEnv, in.host); err != nil {
		return err
	}
	if in.args, err = flags.BuildArgs(c.StringSlice("build-arg"), os.LookupEnv); err != nil {
		return err
	}
	if v := in.args["BUILDKIT_INLINE_CACHE"]; v == "1" || v == "true" {
		return usagef("--build-arg BUILDKIT_INLINE_CACHE=%s: a cache inside the image is not supported yet", v)
	}
	if in.labels, err = flags.Labels(c.StringSlice("label")); err != nil {
		return err
	}
	if in.contexts, err = flags.BuildContexts(c.StringSlice("build-context")); err != nil {
		return err
	}
	return in.parseEpoch()
}

// epochVariable is SOURCE_DATE_EPOCH, see https://reproducible-builds.org/specs/source-date-epoch/.
const epochVariable = "SOURCE_DATE_EPOCH"

// parseEpoch takes the date from the build argument, or from the environment, which
// then is a build argument too.
func (in *inputOptions) parseEpoch() error {
	v, ok := in.args[epochVariable]
	if !ok {
		if v, ok = os.LookupEnv(epochVariable); !ok {
			return nil
		}
		in.args[epochVariable] = v
	}
	if v == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(v, 10, 64)
	if err != nil || seconds < 0 {
		return usagef("%s=%q: want seconds since 1970", epochVariable, v)
	}
	t := time.Unix(seconds, 0).UTC()
	in.epoch = &t
	return nil
}

func (o *buildOptions) parseRun(c *cli.Context) (err error) {
	run := &o.running
	run.jobs = c.Int("jobs")
	if run.jobs < 0 {
		return usagef("--jobs %d: want a positive number", run.jobs)
	}
	if run.jobs == 0 {
		run.jobs = max(4, runtime.GOMAXPROCS(0))
	}
	if run.network, err = flags.Network(c.String("network")); err != nil {
		return err
	}
	if run.hosts, err = flags.AddHosts(c.StringSlice("add-host")); err != nil {
		return err
	}
	if run.shmSize, err = flags.ShmSize(c.String("shm-size")); err != nil {
		return err
	}
	if run.ulimits, err = flags.Ulimits(c.StringSlice("ulimit")); err != nil {
		return err
	}
	if run.allow, err = flags.Allow(c.StringSlice("allow")); err != nil {
		return err
	}
	if run.emulators, err = emulation.ParseEmulators(c.StringSlice("emulator")); err != nil {
		return usageError{err}
	}
	run.secrets, err = parseSecrets(c.StringSlice("secret"), c.StringSlice("ssh"))
	return err
}

func parseSecrets(values, agents []string) (*secrets, error) {
	s := &secrets{byID: map[string]flags.Secret{}, ssh: map[string]string{}}
	list, err := flags.Secrets(values, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	for _, secret := range list {
		if secret.File != "" {
			if _, err := os.Stat(secret.File); err != nil {
				return nil, usagef("--secret id=%s: %w", secret.ID, err)
			}
		}
		s.byID[secret.ID] = secret
	}
	sshs, err := flags.SSHs(agents, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	for _, a := range sshs {
		info, err := os.Stat(a.Paths[0])
		if err != nil {
			return nil, usagef("--ssh %s: %w", a.ID, err)
		}
		if len(a.Paths) > 1 || info.Mode().Type() != os.ModeSocket {
			return nil, usagef("--ssh %s: keys are not supported yet; start an agent (eval $(ssh-agent); ssh-add KEY) and give --ssh %s", a.ID, a.ID)
		}
		s.ssh[a.ID] = a.Paths[0]
	}
	return s, nil
}

func (o *buildOptions) parseResult(c *cli.Context) (err error) {
	r := &o.result
	r.metadataFile, r.iidFile = c.String("metadata-file"), c.String("iidfile")
	if r.tags, err = flags.Tags(c.StringSlice("tag")); err != nil {
		return err
	}
	if r.outputs, err = flags.Outputs(c.StringSlice("output")); err != nil {
		return err
	}
	if r.annotations, err = flags.Annotations(c.StringSlice("annotation")); err != nil {
		return err
	}
	if c.Bool("push") {
		r.outputs = addPush(r.outputs)
	}
	for i := range r.outputs {
		if err := r.complete(&r.outputs[i]); err != nil {
			return err
		}
	}
	return o.checkTimes()
}

// checkTimes refuses outputs that contradict each other about times: layers are made
// once for all of them.
func (o *buildOptions) checkTimes() error {
	var first *flags.Output
	for i := range o.result.outputs {
		out := &o.result.outputs[i]
		if out.Image.Epoch.Given || out.Files.Epoch.Given {
			return usagef("-o source-date-epoch=… is not supported yet: set SOURCE_DATE_EPOCH in the environment")
		}
		if !isImage(*out) {
			continue
		}
		if first == nil {
			first = out
		}
		if out.Image.RewriteTimestamp != first.Image.RewriteTimestamp {
			return usagef("-o rewrite-timestamp: all outputs of one build need the same value")
		}
	}
	if first != nil && first.Image.RewriteTimestamp && o.input.epoch == nil {
		return usagef("-o rewrite-timestamp=true needs a date: set SOURCE_DATE_EPOCH in the environment, such as to $(git log -1 --format=%%ct)")
	}
	o.result.clamp = first != nil && first.Image.RewriteTimestamp
	return nil
}

// addPush is --push: the first image output pushes, or there is one more output.
func addPush(outputs []flags.Output) []flags.Output {
	i := slices.IndexFunc(outputs, func(o flags.Output) bool { return o.Type == flags.OutputImage })
	if i < 0 {
		return append(outputs, flags.Push())
	}
	outputs[i].Image.Push = true
	return outputs
}

// complete gives an output the names of --tag and refuses one that leads nowhere.
func (r *resultOptions) complete(o *flags.Output) error {
	if len(o.Names) == 0 {
		o.Names = r.tags
	}
	switch {
	case o.Image.Push && len(o.Names) == 0:
		return usagef("there is nothing to push to: give the image a name with -t REGISTRY/NAME:TAG")
	case o.Type == flags.OutputImage && !o.Image.Push:
		return usagef("-o type=image keeps images in a daemon, and there is none here: add push=true, or use type=oci,dest=image.tar")
	case o.Image.Compression == "gzip" && o.Image.CompressionLevel != nil && *o.Image.CompressionLevel == 0:
		return usagef("-o compression-level=0 does not compress: say compression=uncompressed")
	case o.Type == flags.OutputDocker && o.Dest == "":
		return usagef("-o type=docker loads into a daemon, and there is none here: add dest=image.tar")
	case o.Dest == flags.Stdout && isTerminal(os.Stdout):
		return usagef("-o dest=-: standard output is a terminal; redirect it to a file")
	}
	return nil
}

func (o *buildOptions) parseRegistry(c *cli.Context) error {
	for _, value := range c.StringSlice("registry-mirror") {
		m, err := index.ParseMirror(value)
		if err != nil {
			return usagef("--registry-mirror: %w", err)
		}
		o.registry.Mirrors = append(o.registry.Mirrors, m)
	}
	o.registry.Insecure = splitCommas(c.StringSlice("insecure-registry"))
	for _, out := range o.result.outputs {
		if out.Image.Insecure {
			for _, name := range out.Names {
				host, _, _ := strings.Cut(name, "/")
				o.registry.Insecure = append(o.registry.Insecure, host)
			}
		}
	}
	certificates, err := flags.RegistryCertificates(c.StringSlice("registry-certificate"))
	if err != nil {
		return err
	}
	o.registry.Certificates = map[string]string{}
	for _, cert := range certificates {
		o.registry.Certificates[cert.Host] = cert.Path
	}
	return nil
}

func splitCommas(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, strings.FieldsFunc(v, func(r rune) bool { return r == ',' })...)
	}
	return all
}
