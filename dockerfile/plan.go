package dockerfile

import (
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Plan is what to do for all target platforms: a graph of steps, and for every
// platform the step its image ends with.
type Plan struct {
	Steps    []*Step   // each once, inputs before their users, in a deterministic order
	Results  []Result  // one per target platform, in the order of Options.Platforms
	Warnings []Warning // findings of the build checks, each once, by position
}

// Step is a node of the graph. It makes one layer on top of its parent; an *Image
// step takes over all layers of an image instead. Steps are not changed after
// NewPlan has returned.
type Step struct {
	ID       int                // index in Plan.Steps
	Op       Op                 // what it does
	Parent   *Step              // nil: the empty filesystem
	Platform *ocispec.Platform  // what the step is bound to; nil when its result depends on no platform (*Copy, *Mkdir)
	For      []ocispec.Platform // target platforms that need it, in the order of Options.Platforms
	Stage    string             // name or number of the stage that needed it first
	Position int                // 1-based place among the steps of its stage; 0 for an image that is only read from
	Total    int                // number of steps of that stage
	Name     string             // one line for display, such as `RUN apt-get update`
	Loc      Location           // where the Dockerfile asks for it
	NoCache  bool               // no recorded result may be used (--no-cache, --no-cache-filter)
}

// Inputs returns the parent and every step whose files the operation reads, without
// duplicates, the parent first.
func (s *Step) Inputs() []*Step {
	var in []*Step
	add := func(x *Step) {
		if x == nil {
			return
		}
		for _, y := range in {
			if x == y {
				return
			}
		}
		in = append(in, x)
	}
	add(s.Parent)
	switch op := s.Op.(type) {
	case *Copy:
		for _, src := range op.Sources {
			add(src.Step)
		}
	case *Run:
		for _, m := range op.Mounts {
			add(m.From.Step)
		}
	}
	return in
}

// Result says where the image of one target platform comes from.
type Result struct {
	Platform ocispec.Platform
	Step     *Step // nil: an image without layers

	image *image
	epoch *time.Time
}

// Chain lists the steps from the bottom up to Step.
func (r *Result) Chain() []*Step {
	var chain []*Step
	for s := r.Step; s != nil; s = s.Parent {
		chain = append(chain, s)
	}
	slices.Reverse(chain)
	return chain
}

// Made is what executing a step gave: the layers it added, bottom first, and when
// they were made. For an *Image step these are all layers of the image, and Created
// is not used.
type Made struct {
	DiffIDs []digest.Digest
	Created time.Time
}
