package emulation

import (
	"context"

	"github.com/containerd/platforms"
)

// Row is a line of what doctor shows.
type Row struct {
	Platform string // like "linux/arm/v7"
	Way      Way
	Note     string // one line; empty when there is nothing to say
}

// known are the platforms that official images exist for.
func known() []string {
	return []string{
		"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6",
		"linux/riscv64", "linux/ppc64le", "linux/s390x", "linux/mips64le", "linux/loong64",
	}
}

// Survey asks for every known platform how its programs run here. It runs each emulator once, for its version.
func (s *Set) Survey(ctx context.Context) ([]Row, error) {
	var rows []Row
	for _, name := range known() {
		p, err := platforms.Parse(name)
		if err != nil {
			return nil, err
		}
		row := Row{Platform: name}
		row.Way, err = s.Identify(ctx, p)
		if e := ctx.Err(); e != nil {
			return nil, e
		}
		switch {
		case err != nil:
			row.Note = err.Error()
		case row.Way.Kind == QEMU:
			row.Note = "registered for each build in a table of its own"
		default:
			row.Note = row.Way.Reason
		}
		rows = append(rows, row)
	}
	return rows, nil
}
