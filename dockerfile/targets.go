package dockerfile

// Target is a stage as something to build.
type Target struct {
	Location
	Name        string // empty when the stage has none
	Description string // comment above its FROM
	Base        string // as written
	Platform    string // as written, may be empty
	Default     bool   // it is built when no target is given
}

// Targets lists the stages in file order.
func (f *File) Targets() ([]Target, error) {
	stages, _, err := f.instructions(nil)
	if err != nil {
		return nil, err
	}
	out := make([]Target, 0, len(stages))
	for i, s := range stages {
		out = append(out, Target{
			Location: f.location(s.Location), Name: s.Name, Description: s.Comment,
			Base: s.BaseName, Platform: s.Platform, Default: i == len(stages)-1,
		})
	}
	return out, nil
}
