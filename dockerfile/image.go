package dockerfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	spec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	historyComment = "buildkit.dockerfile.v0"
	defaultPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// image is the configuration of an image under construction. Lists other than the environment are
// replaced, never changed in place, because clones share them.
type image struct {
	raw     map[string]json.RawMessage // the base's config JSON, member by member; nil for scratch
	based   spec.DockerOCIImageConfig  // member "config" as the base has it
	config  spec.DockerOCIImageConfig  // and as it is now
	author  *string                    // set by MAINTAINER
	base    ocispec.Platform           // what the base says it is
	diffIDs []digest.Digest            // of the base
	history []json.RawMessage          // of the base, as many layer entries as it has layers
	created *time.Time                 // newest time in the base's history
	own     []entry                    // history of this build
}

// entry is a line of the history that this build adds.
type entry struct {
	by   string
	step *Step // made the layer; nil: no layer
}

func scratchImage(p ocispec.Platform) *image {
	i := &image{base: p}
	i.config.WorkingDir = "/"
	return i
}

// baseImage reads the configuration of an existing image.
func baseImage(config []byte) (*image, error) {
	i := &image{}
	if err := json.Unmarshal(config, &i.raw); err != nil {
		return nil, fmt.Errorf("image config is not JSON: %v", err)
	}
	var typed spec.DockerOCIImage
	if err := json.Unmarshal(config, &typed); err != nil {
		return nil, fmt.Errorf("image config: %v", err)
	}
	var lists struct {
		History []json.RawMessage `json:"history"`
	}
	if err := json.Unmarshal(config, &lists); err != nil {
		return nil, fmt.Errorf("image config: %v", err)
	}
	for _, d := range typed.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("image config: diffID %q: %v", d, err)
		}
	}
	// What a BuildKit cache or an earlier build noted about itself is not true of a new image.
	delete(i.raw, "moby.buildkit.cache.v0")
	delete(i.raw, "moby.buildkit.buildinfo.v1")
	i.based, i.config = typed.Config, typed.Config // every user works on a clone
	i.base, i.diffIDs = typed.Platform, typed.RootFS.DiffIDs
	var err error
	i.history, err = fitHistory(lists.History, typed.History, typed.Created, len(i.diffIDs))
	for _, h := range typed.History {
		if h.Created != nil && (i.created == nil || h.Created.After(*i.created)) {
			i.created = h.Created
		}
	}
	if i.created == nil {
		i.created = typed.Created
	}
	return i, err
}

// fitHistory makes a base's history account for its layers, which images from some tools do not: missing
// entries are added, and of too many layer entries the lowest lose their claim.
func fitHistory(raw []json.RawMessage, typed []ocispec.History, created *time.Time, layers int) ([]json.RawMessage, error) {
	have := 0
	for _, h := range typed {
		if !h.EmptyLayer {
			have++
		}
	}
	raw = slices.Clone(raw)
	for i := 0; have > layers; i++ {
		if typed[i].EmptyLayer {
			continue
		}
		h := typed[i]
		h.EmptyLayer = true
		b, err := json.Marshal(h)
		if err != nil {
			return nil, fmt.Errorf("image config: history: %v", err)
		}
		raw[i] = b
		have--
	}
	for ; have < layers; have++ {
		b, err := json.Marshal(ocispec.History{Created: created, Comment: "layer without history"})
		if err != nil {
			return nil, fmt.Errorf("image config: history: %v", err)
		}
		raw = append(raw, b)
	}
	return raw, nil
}

// clone is a copy that can be changed on its own.
func (i *image) clone() *image {
	c := *i
	c.own = slices.Clip(c.own)
	c.config.Env = slices.Clone(c.config.Env)
	c.config.Labels = maps.Clone(c.config.Labels)
	c.config.Volumes = maps.Clone(c.config.Volumes)
	c.config.ExposedPorts = maps.Clone(c.config.ExposedPorts)
	return &c
}

// commit adds a line to the history.
func (i *image) commit(by string, step *Step) { i.own = append(i.own, entry{by, step}) }

func (i *image) setEnv(key, value string) { i.config.Env = setEntry(i.config.Env, key, value) }

func (i *image) setLabel(key, value string) { put(&i.config.Labels, key, value) }

// put sets an entry of a map that may be nil.
func put[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}

// ensurePath gives the image a PATH if it has none.
func (i *image) ensurePath() {
	for _, kv := range i.config.Env {
		if strings.HasPrefix(kv, "PATH=") {
			return
		}
	}
	i.setEnv("PATH", defaultPath)
}

// ImageConfig renders the image's config JSON. Everything the base's config says and the Dockerfile
// does not change is kept, also what no library knows; operating system, architecture and
// variant are those of the target platform.
//
// made is asked for every *Run, *Copy and *Mkdir step of the chain, each of which must have made exactly one
// layer. The layers of an *Image step are the ones the image's own config lists. The result is
// deterministic.
func (r *Result) ImageConfig(made func(*Step) Made) ([]byte, error) {
	i := r.image
	out := maps.Clone(i.raw)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	diffIDs := slices.Clone(i.diffIDs)
	for _, e := range i.own {
		if e.step == nil {
			continue
		}
		m := made(e.step)
		if len(m.DiffIDs) != 1 {
			return nil, fmt.Errorf("%s: %s: got %d layers, want 1", e.step.Loc, e.step.Name, len(m.DiffIDs))
		}
		diffIDs = append(diffIDs, m.DiffIDs[0])
	}
	own := i.times(made, r.epoch)
	history := slices.Clone(i.history)
	for _, h := range own {
		b, err := json.Marshal(h)
		if err != nil {
			return nil, fmt.Errorf("history entry %q: %v", h.CreatedBy, err)
		}
		history = append(history, b)
	}
	config, err := overlay(i.raw["config"], i.based, i.config)
	if err != nil {
		return nil, err
	}
	p := i.platform(r.Platform)
	members := []struct {
		key   string
		value any
		keep  bool // false: the member is left out
	}{
		{"architecture", p.Architecture, true},
		{"os", p.OS, true},
		{"variant", p.Variant, p.Variant != ""},
		{"os.version", p.OSVersion, p.OSVersion != ""},
		{"os.features", p.OSFeatures, len(p.OSFeatures) > 0},
		{"rootfs", ocispec.RootFS{Type: "layers", DiffIDs: append([]digest.Digest{}, diffIDs...)}, true},
		{"history", history, len(history) > 0},
		{"config", config, true},
	}
	for _, m := range members {
		remove(out, m.key)
		if !m.keep {
			continue
		}
		if out[m.key], err = json.Marshal(m.value); err != nil {
			return nil, fmt.Errorf("image config: %s: %v", m.key, err)
		}
	}
	if err := i.finish(out, own, r.epoch); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// finish sets the author and the creation time, which is that of the last thing that happened.
func (i *image) finish(out map[string]json.RawMessage, own []ocispec.History, epoch *time.Time) error {
	var err error
	if i.author != nil {
		remove(out, "author")
		if out["author"], err = json.Marshal(*i.author); err != nil {
			return fmt.Errorf("image config: author: %v", err)
		}
	}
	var created *time.Time
	switch {
	case len(own) > 0 && own[len(own)-1].Created != nil:
		created = own[len(own)-1].Created
	case epoch != nil && (i.created == nil || i.created.After(*epoch)):
		created = epoch
	default:
		return nil // as the base says
	}
	remove(out, "created")
	out["created"], err = json.Marshal(created.UTC())
	return err
}

// times gives every entry of this build its time: an entry with a layer the time of the
// layer, one without the time of the layer before it, or if there is none of the first after it. An
// epoch is the time of all.
func (i *image) times(made func(*Step) Made, epoch *time.Time) []ocispec.History {
	var last *time.Time
	if epoch == nil {
		last = i.created
		for _, e := range i.own {
			if e.step != nil {
				t := made(e.step).Created.UTC()
				last = &t
				break
			}
		}
	}
	var out []ocispec.History
	for _, e := range i.own {
		switch {
		case epoch != nil:
			t := epoch.UTC()
			last = &t
		case e.step != nil:
			t := made(e.step).Created.UTC()
			last = &t
		}
		out = append(out, ocispec.History{Created: last, CreatedBy: e.by, Comment: historyComment, EmptyLayer: e.step == nil})
	}
	return out
}

// platform is what the image says it is for: the target, and of the base what the target leaves open.
func (i *image) platform(target ocispec.Platform) ocispec.Platform {
	p := target
	if i.base.OS == p.OS && i.base.Architecture == p.Architecture {
		if p.Variant == "" {
			p.Variant = i.base.Variant
		}
		if p.OSVersion == "" {
			p.OSVersion = i.base.OSVersion
		}
	}
	if p.OSFeatures == nil {
		p.OSFeatures = i.base.OSFeatures
	}
	return platforms.Normalize(p)
}

// overlay is the JSON object raw with the members changed that differ between before and now.
func overlay(raw json.RawMessage, before, now spec.DockerOCIImageConfig) (map[string]json.RawMessage, error) {
	members := func(c spec.DockerOCIImageConfig) (map[string]json.RawMessage, error) {
		b, err := json.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("image config: %v", err)
		}
		var m map[string]json.RawMessage
		return m, json.Unmarshal(b, &m)
	}
	old, err := members(before)
	if err != nil {
		return nil, err
	}
	set, err := members(now)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			return nil, fmt.Errorf("image config: %v", err)
		}
	}
	if out == nil { // "config": null
		out = map[string]json.RawMessage{}
	}
	for k := range old {
		if _, ok := set[k]; !ok {
			remove(out, k)
		}
	}
	for k, v := range set {
		if !bytes.Equal(old[k], v) {
			remove(out, k)
			out[k] = v
		}
	}
	return out, nil
}

// remove deletes a member however its name is spelled, as encoding/json finds it however it is spelled.
func remove(m map[string]json.RawMessage, key string) {
	for k := range m {
		if strings.EqualFold(k, key) {
			delete(m, k)
		}
	}
}
