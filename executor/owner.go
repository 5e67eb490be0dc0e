package executor

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"mbuild/snapshot"
)

// maxAccountFile bounds the passwd and group files of an image.
const maxAccountFile = 10 << 20

// findOwner turns user[:group] into ids with the image's own passwd and group files.
// A numeric user without a group has the group of the same number; a named one its
// primary group. An unknown name is an error. The empty string changes no owner.
func findOwner(ctx context.Context, files Files, spec string) (owner, error) {
	if spec == "" {
		return owner{}, nil
	}
	name, group, hasGroup := strings.Cut(spec, ":")
	o := owner{set: true}
	if id, err := parseID(name); err == nil {
		o.uid, o.gid = id, id
	} else {
		users, err := accounts(ctx, files, "etc/passwd", func(r io.Reader) ([]user.User, error) {
			return user.ParsePasswdFilter(r, func(u user.User) bool { return u.Name == name })
		})
		if err != nil {
			return owner{}, err
		}
		if len(users) == 0 {
			return owner{}, &unknownAccountError{"user", name, "/etc/passwd"}
		}
		o.uid, o.gid = users[0].Uid, users[0].Gid
	}
	if !hasGroup || group == "" {
		return o, nil
	}
	if id, err := parseID(group); err == nil {
		o.gid = id
		return o, nil
	}
	groups, err := accounts(ctx, files, "etc/group", func(r io.Reader) ([]user.Group, error) {
		return user.ParseGroupFilter(r, func(g user.Group) bool { return g.Name == group })
	})
	if err != nil {
		return owner{}, err
	}
	if len(groups) == 0 {
		return owner{}, &unknownAccountError{"group", group, "/etc/group"}
	}
	o.gid = groups[0].Gid
	return o, nil
}

// unknownAccountError names a user or group that the image does not have.
type unknownAccountError struct{ kind, name, file string }

func (e *unknownAccountError) Error() string {
	return fmt.Sprintf("there is no %s %q in the image's %s", e.kind, e.name, e.file)
}

func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 31)
	return int(id), err
}

// accounts reads one of the image's account files; a missing one has no accounts.
func accounts[T any](ctx context.Context, files Files, name string, parse func(io.Reader) ([]T, error)) ([]T, error) {
	at, err := resolve(files.Lookup, name, true)
	if err != nil {
		return nil, err
	}
	e, err := files.Lookup(at)
	if absent(err) || err == nil && e.Type != snapshot.Regular {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e.Size > maxAccountFile {
		return nil, fmt.Errorf("the image's /%s has %d bytes, more than the %d that are read", name, e.Size, maxAccountFile)
	}
	f, err := files.Open(ctx, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(io.LimitReader(f, maxAccountFile))
}
