package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"mbuild/dockerfile"
)

// Names of secrets for repositories, alone or followed by a dot and the host. Those
// with a host are preferred; those without are for the host of the repository itself.
const (
	gitHeaderSecret = "GIT_AUTH_HEADER" // the value of the header Authorization
	gitTokenSecret  = "GIT_AUTH_TOKEN"  // a token, sent as the password of x-access-token
)

// Git gets the files of repositories with the program git, which sees no configuration
// but ours, runs no hook, and speaks HTTP, SSH and its own protocol only.
type Git struct {
	secrets Secrets
	temp    string
}

// NewGit prepares the use of git; whether it is there turns out at the first use.
// temp is a directory for what only lives during a call.
func NewGit(secrets Secrets, temp string) *Git { return &Git{secrets: secrets, temp: temp} }

// Commit is what a reference means at the moment.
type Commit struct {
	ID  string // of the commit, lower-case hex; for a reference that was an id already it may turn out to be a tag's
	Ref string // full name, such as refs/heads/main; empty when the reference was an id
}

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Resolve asks the server what r.Ref means. A whole id is its own answer, nobody is
// asked. The error matches ErrChecksum when it is not what r.Checksum says.
func (g *Git) Resolve(ctx context.Context, r *dockerfile.Git) (Commit, error) {
	if commitID.MatchString(r.Ref) {
		return Commit{ID: r.Ref}, checkCommit(r, r.Ref)
	}
	s, err := g.session(ctx, r)
	if err != nil {
		return Commit{}, err
	}
	defer s.close()
	out, err := s.run(ctx, s.dir, append([]string{"ls-remote", "--symref", "--", s.remote}, candidates(r.Ref)...)...)
	if err != nil {
		return Commit{}, err
	}
	c, tag := choose(r.Ref, string(out))
	if c.ID == "" {
		what := "has no branch or tag " + strconv.Quote(r.Ref)
		if r.Ref == "" {
			what = "has no default branch"
		}
		return Commit{}, &RemoteError{Address: Redact(r.Remote), Message: what}
	}
	return c, checkCommit(r, c.ID, tag)
}

// checkCommit compares what a reference means with what it has to be.
func checkCommit(r *dockerfile.Git, got ...string) error {
	for _, id := range got {
		if id != "" && strings.HasPrefix(id, r.Checksum) {
			return nil
		}
	}
	which := got[0]
	if len(got) > 1 && got[1] != "" {
		which += " (tag " + got[1] + ")"
	}
	return fmt.Errorf("%s: %w: got commit %s, want %s", Redact(r.Remote), ErrChecksum, which, r.Checksum)
}

// candidates are the full names that a reference may stand for, best first.
func candidates(ref string) []string {
	if ref == "" {
		return []string{"HEAD"}
	}
	return []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"),
		"refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/") + "^{}",
	}
}

// choose finds a reference in the answer of ls-remote. A branch wins over a tag of the
// same name. tag is the id of the tag itself, when it is more than a name for a commit.
func choose(ref, listing string) (c Commit, tag string) {
	ids := map[string]string{}
	for line := range strings.Lines(listing) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if target, ok := strings.CutPrefix(id, "ref: "); ok && name == "HEAD" {
			c.Ref = target
		} else if commitID.MatchString(id) {
			ids[name] = id
		}
	}
	if ref == "" {
		if !strings.HasPrefix(c.Ref, "refs/heads/") {
			c.Ref = ""
		}
		return Commit{ID: ids["HEAD"], Ref: c.Ref}, ""
	}
	for _, name := range candidates(ref)[:3] {
		if id := ids[name]; id != "" {
			if peeled := ids[name+"^{}"]; peeled != "" {
				return Commit{ID: peeled, Ref: name}, id
			}
			return Commit{ID: id, Ref: name}, ""
		}
	}
	return Commit{}, ""
}

// Checkout is the files of a commit in a directory of their own.
type Checkout struct {
	Dir    string    // the tree as it was in the commit, and .git
	Time   time.Time // of the commit
	ID     string    // of the commit
	remove func()
}

// Close removes the files.
func (c *Checkout) Close() { c.remove() }

// Checkout fetches one commit, without history, and the submodules that r asks for. The caller closes
// what it returns. Nothing of it can be outside of Dir, but links may point anywhere and modes are as the process's umask has it.
func (g *Git) Checkout(ctx context.Context, r *dockerfile.Git, c Commit) (_ *Checkout, err error) {
	s, err := g.session(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	tree := filepath.Join(s.dir, "tree")
	init := []string{"init", "--quiet", "--template=", tree}
	if len(c.ID) == 64 {
		init = []string{"init", "--quiet", "--template=", "--object-format=sha256", tree}
	}
	if _, err := s.run(ctx, s.dir, init...); err != nil {
		return nil, err
	}
	if err := s.fetch(ctx, tree, c); err != nil {
		return nil, err
	}
	if _, err := s.run(ctx, tree, "checkout", "--quiet", "--detach", c.ID); err != nil {
		return nil, err
	}
	if r.Submodules {
		if err := s.submodules(ctx, tree, WithoutCredentials(r.Remote)); err != nil {
			return nil, err
		}
	}
	out := &Checkout{Dir: tree, remove: s.close}
	if out.ID, out.Time, err = s.commit(ctx, tree); err != nil {
		return nil, err
	}
	if err := checkFetched(r, c, out.ID); err != nil {
		return nil, err
	}
	if r.KeepGitDir {
		err = s.tidy(ctx, tree, WithoutCredentials(r.Remote))
	}
	return out, err
}

// checkFetched compares the commit that was checked out with what was asked for. An id in
// a reference may be that of an annotated tag.
func checkFetched(r *dockerfile.Git, c Commit, got string) error {
	if c.Ref != "" && got != c.ID {
		return fmt.Errorf("%s: %w: got commit %s, want %s", Redact(r.Remote), ErrChecksum, got, c.ID)
	}
	return nil
}

// fetch gets one commit. Servers that know neither shallow copies nor ids that they have
// not named are asked for everything.
func (s *session) fetch(ctx context.Context, tree string, c Commit) error {
	what := c.ID
	if c.Ref != "" {
		what = "+" + c.ID + ":" + c.Ref
	}
	_, err := s.run(ctx, tree, "fetch", "--quiet", "--depth=1", "--no-tags", "--update-head-ok", "--", s.remote, what)
	var failed *commandError
	if !errors.As(err, &failed) || !failed.mentions("shallow", "--depth", "not our ref", "unadvertised object", "Server does not allow request") {
		return err
	}
	args := []string{"fetch", "--quiet", "--no-tags", "--update-head-ok", "--", s.remote, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}
	if c.Ref != "" {
		args = append(args, "+"+c.Ref+":"+c.Ref)
	}
	_, err = s.run(ctx, tree, args...)
	return err
}

// submodules checks out the repositories inside the repository, which are named by
// whoever wrote it. Their addresses may be relative to remote.
func (s *session) submodules(ctx context.Context, tree, remote string) error {
	if _, err := os.Lstat(filepath.Join(tree, ".gitmodules")); err != nil {
		return nil
	}
	if _, err := s.run(ctx, tree, "remote", "add", "origin", remote); err != nil {
		return err
	}
	_, err := s.run(ctx, tree, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
	return err
}

// commit tells what is checked out.
func (s *session) commit(ctx context.Context, tree string) (id string, at time.Time, err error) {
	out, err := s.run(ctx, tree, "show", "--no-patch", "--no-show-signature", "--format=%H %ct", "HEAD", "--")
	if err != nil {
		return "", time.Time{}, err
	}
	id, stamp, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || !commitID.MatchString(id) {
		return "", time.Time{}, fmt.Errorf("git show: unexpected answer %q", printable(string(out)))
	}
	return id, time.Unix(seconds, 0).UTC(), nil
}

// tidy makes a .git that is kept depend on the commit and not on this machine: the
// remote is named as the user did, without credentials, and nothing tells of when and how it was fetched.
func (s *session) tidy(ctx context.Context, tree, remote string) error {
	if _, err := s.run(ctx, tree, "config", "remote.origin.url", remote); err != nil {
		return err
	}
	if _, err := s.run(ctx, tree, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"); err != nil {
		return err
	}
	for _, name := range []string{"FETCH_HEAD", "ORIG_HEAD", "logs", "index"} {
		if err := os.RemoveAll(filepath.Join(tree, ".git", name)); err != nil {
			return err
		}
	}
	_, err := s.run(ctx, tree, "read-tree", "HEAD") // an index without the times and inodes of this machine
	return err
}

// WithoutCredentials is the address without what authenticates: a .git that is kept remembers it.
func WithoutCredentials(remote string) string {
	u, err := url.Parse(remote)
	if err != nil || u.User == nil {
		return remote
	}
	u.User = userOnly(u)
	return u.String()
}

// userOnly is the part of user and password that is no secret: a name for SSH, and
// nothing for the web, where a token may stand in its place.
func userOnly(u *url.URL) *url.Userinfo {
	if u.User == nil || strings.HasPrefix(u.Scheme, "http") {
		return nil
	}
	return url.User(u.User.Username())
}

// credential is the value of an Authorization header for one host.
type credential struct{ scope, header string }

// credentials are what a repository on the web may be asked with: a secret for its host, the
// general secret, or what its address holds.
func (g *Git) credentials(u *url.URL) ([]credential, error) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, nil
	}
	scope := u.Scheme + "://" + u.Host + "/"
	for _, s := range []struct {
		id    string
		token bool
	}{{gitHeaderSecret + "." + u.Host, false}, {gitTokenSecret + "." + u.Host, true}, {gitHeaderSecret, false}, {gitTokenSecret, true}} {
		data, ok, err := g.secrets.Secret(s.id)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		value, ok := headerValue(data)
		if !ok {
			return nil, fmt.Errorf("the secret %q is not one line of text", s.id)
		}
		if s.token {
			value = basic("x-access-token", value)
		}
		return []credential{{scope, value}}, nil
	}
	if u.User == nil {
		return nil, nil
	}
	password, _ := u.User.Password()
	return []credential{{scope, basic(u.User.Username(), password)}}, nil
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
