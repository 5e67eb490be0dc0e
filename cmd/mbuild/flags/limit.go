package flags

import (
	"github.com/docker/go-units"
)

// Ulimit is a limit of a RUN's processes, in the units of setrlimit.
type Ulimit struct {
	Name       string // "nofile", "core", …
	Soft, Hard int64  // -1: no limit
}

// Ulimits parses --ulimit: NAME=SOFT[:HARD]. The last value of a name counts; the list is in the order in which the names came first.
func Ulimits(values []string) ([]Ulimit, error) {
	f := flag{"--ulimit", "nofile=1024:2048"}
	at := map[string]int{}
	var list []Ulimit
	for _, value := range values {
		u, err := units.ParseUlimit(value)
		if err != nil {
			return nil, f.errorf(value, "%v", err)
		}
		if u.Soft < -1 || u.Hard < -1 {
			return nil, f.errorf(value, "a limit is negative")
		}
		limit := Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
		if i, ok := at[u.Name]; ok {
			list[i] = limit
			continue
		}
		at[u.Name] = len(list)
		list = append(list, limit)
	}
	return list, nil
}

// ShmSize parses --shm-size: a number with a unit (b, k, m, g) or bytes. Empty is 0: the default.
func ShmSize(value string) (bytes int64, err error) {
	if value == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(value)
	if err != nil || n < 0 {
		return 0, flag{"--shm-size", "64m"}.errorf(value, "not a size")
	}
	return n, nil
}
