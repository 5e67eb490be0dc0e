package namespace

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	osuser "os/user"
	"strconv"

	"github.com/moby/sys/user"
)

// plan is which ids the namespace gets and who writes the maps.
type plan struct {
	uids, gids []user.IDMap
	helpers    *helpers // nil: we may write them ourselves
}

// plan decides between the two ways to a range of ids.
func (o Outside) plan() (plan, *Unavailable) {
	uids, gids, err := ownMaps(o.host)
	if err != nil {
		return plan{}, &Unavailable{Reason: err.Error(), Hint: "mount /proc in the container"}
	}
	if count(uids) < 2 || count(gids) < 2 {
		return plan{}, &Unavailable{
			Reason: "this is a user namespace with a single id, which cannot be divided further",
			Hint:   "start mbuild outside of it (not under unshare -r or a rootless container with one id)",
		}
	}
	lacking := o.host.lacking("CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP")
	if os.Geteuid() == 0 && lacking == nil {
		return plan{uids: identity(uids), gids: identity(gids)}, nil
	}
	p, why := o.planRange()
	if why != nil && os.Geteuid() == 0 {
		why = explainRoot(lacking, why)
	}
	return p, why
}

// planRange maps 0 to ourselves and 1 and above to the subordinate ids.
func (o Outside) planRange() (plan, *Unavailable) {
	me := whoami()
	uids, err := subIDs(cmp.Or(o.SubUID, "/etc/subuid"), me, int64(os.Getuid()))
	if err != nil {
		return plan{}, &Unavailable{Reason: err.Error()}
	}
	gids, err := subIDs(cmp.Or(o.SubGID, "/etc/subgid"), me, int64(os.Getgid()))
	if err != nil {
		return plan{}, &Unavailable{Reason: err.Error()}
	}
	if count(uids) < 2 || count(gids) < 2 {
		return plan{}, explainNoRange(me, count(uids) < 2, count(gids) < 2)
	}
	h, why := findHelpers(o.Path)
	return plan{uids: uids, gids: gids, helpers: h}, why
}

// whoami is the user's name, or the number where it has none.
func whoami() string {
	id := strconv.Itoa(os.Getuid())
	if u, err := osuser.LookupId(id); err == nil && u.Username != "" {
		return u.Username
	}
	return id
}

// subIDs maps 0 to own and then all ranges that file has for the user, by name or by number, without gaps. A missing file has none.
func subIDs(file, name string, own int64) ([]user.IDMap, error) {
	id := strconv.Itoa(os.Getuid())
	ranges, err := user.ParseSubIDFileFilter(file, func(s user.SubID) bool {
		return (s.Name == name || s.Name == id) && s.SubID > 0 && s.Count > 0 && s.SubID <= math.MaxUint32-s.Count
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("subordinate ids of %s: %w", name, err)
	}
	m := []user.IDMap{{ID: 0, ParentID: own, Count: 1}}
	next := int64(1)
	for _, r := range ranges {
		// More than the kernel takes cannot be meant; the rest is as good without them.
		if len(m) == maxRanges || next+r.Count > math.MaxUint32 {
			break
		}
		m = append(m, user.IDMap{ID: next, ParentID: r.SubID, Count: r.Count})
		next += r.Count
	}
	return m, nil
}

// maxRanges is the kernel's limit for one map, user_namespaces(7).
const maxRanges = 340

// ownMaps are the maps of the user namespace that we are in.
func ownMaps(h host) (uids, gids []user.IDMap, err error) {
	if uids, err = user.ParseIDMapFile(h.path("/proc/self/uid_map")); err != nil {
		return nil, nil, fmt.Errorf("user ids of this namespace: %w", err)
	}
	if gids, err = user.ParseIDMapFile(h.path("/proc/self/gid_map")); err != nil {
		return nil, nil, fmt.Errorf("group ids of this namespace: %w", err)
	}
	return uids, gids, nil
}

// identity maps every id of m to itself.
func identity(m []user.IDMap) []user.IDMap {
	out := make([]user.IDMap, len(m))
	for i, r := range m {
		// The count of the initial namespace does not fit a 32-bit machine's int.
		out[i] = user.IDMap{ID: r.ID, ParentID: r.ID, Count: min(r.Count, math.MaxInt)}
	}
	return out
}
