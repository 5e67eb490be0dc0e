package namespace

import (
	"fmt"

	"github.com/moby/sys/user"
)

// Arg0 is argv[0] of a process that Enter started: main calls Finish then, before anything else.
const Arg0 = "mbuild-namespace"

// Info describes a build namespace.
type Info struct {
	// UIDs and GIDs are the maps in force, ordered by ID (the number inside); ParentID is the number outside.
	UIDs []user.IDMap `json:"uids"`
	GIDs []user.IDMap `json:"gids"`
	// PIDNamespace says that the build is process 1 of a pid namespace with a /proc of its own.
	PIDNamespace bool `json:"pidNamespace"`
}

// IDs is how many user and group ids there are: all from 0 up to (not including) it are mapped when the maps have no
// gaps, which those made by Enter for an unprivileged user never have.
func (i *Info) IDs() int64 { return min(count(i.UIDs), count(i.GIDs)) }

// MapsUID reports whether uid can own files in the namespace.
func (i *Info) MapsUID(uid int64) bool { return contains(i.UIDs, uid) }

// MapsGID reports whether gid can own files in the namespace.
func (i *Info) MapsGID(gid int64) bool { return contains(i.GIDs, gid) }

// Rung names the rung of the ladder for display.
func (i *Info) Rung() string {
	return fmt.Sprintf("1: user namespace with a range of %d ids", i.IDs())
}

func count(m []user.IDMap) (n int64) {
	for _, r := range m {
		n += r.Count
	}
	return n
}

func contains(m []user.IDMap, id int64) bool {
	for _, r := range m {
		if id >= r.ID && id-r.ID < r.Count {
			return true
		}
	}
	return false
}
