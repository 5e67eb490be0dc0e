package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"syscall"
)

// idMaps are the ids that exist in our user namespace.
type idMaps struct {
	uid, gid  idRanges
	setGroups bool // setgroups(2) is allowed
}

// idRanges are ranges of ids, mapped to themselves.
type idRanges []syscall.SysProcIDMap

// readIDMaps reads which ids our own user namespace has.
func readIDMaps() (idMaps, error) {
	var m idMaps
	var err error
	if m.uid, err = readRanges("/proc/self/uid_map"); err != nil {
		return m, err
	}
	if m.gid, err = readRanges("/proc/self/gid_map"); err != nil {
		return m, err
	}
	state, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return m, err
	}
	m.setGroups = string(bytes.TrimSpace(state)) == "allow"
	return m, nil
}

func readRanges(name string) (idRanges, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var ranges idRanges
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var first, outside, count int64
		if _, err := fmt.Sscan(lines.Text(), &first, &outside, &count); err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", name, lines.Text(), err)
		}
		count = min(count, math.MaxInt32-first) // an int on every architecture
		ranges = append(ranges, syscall.SysProcIDMap{ContainerID: int(first), HostID: int(first), Size: int(count)})
	}
	return ranges, nil
}

func (r idRanges) contain(id int) bool {
	for _, m := range r {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return true
		}
	}
	return false
}

// check complains about ids that do not exist here.
func (m idMaps) check(uid int, gids ...int) error {
	if !m.uid.contain(uid) {
		return fmt.Errorf("uid %d is not mapped into the build's user namespace (it has %v)", uid, m.uid)
	}
	for _, gid := range gids {
		if !m.gid.contain(gid) {
			return fmt.Errorf("gid %d is not mapped into the build's user namespace (it has %v)", gid, m.gid)
		}
	}
	return nil
}

func (r idRanges) String() string {
	var b bytes.Buffer
	for i, m := range r {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d-%d", m.ContainerID, m.ContainerID+m.Size-1)
	}
	return b.String()
}
