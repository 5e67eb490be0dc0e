package dockerfile

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/opencontainers/go-digest"
)

// HTTP is a file on a web server.
type HTTP struct {
	URL      string        // http:// or https://, as written; may hold credentials
	Name     string        // what the file is called in a directory: one path component
	Checksum digest.Digest // of the content; empty: not known beforehand
}

// Git is the files of one commit of a repository.
type Git struct {
	Remote     string // what git calls the repository: a URL or user@host:path; may hold credentials
	Ref        string // branch, tag, name below refs/ or whole commit id; empty: the default branch
	Checksum   string // what the id of the commit (or of its tag) begins with: lower-case hex; empty: not known beforehand
	Subdir     string // the directory that is meant, as written; empty: the whole tree
	KeepGitDir bool   // with .git
	Submodules bool   // with the files of submodules
}

// unnamed is the name of a file whose URL gives it none.
const unnamed = "__unnamed__"

// NewHTTP describes the file at a URL. It fails when address is no http or https URL with a host.
func NewHTTP(address string) (*HTTP, error) {
	u, err := url.Parse(address)
	if err != nil {
		var reason *url.Error
		if errors.As(err, &reason) {
			err = reason.Err // the URL, which that error quotes, may hold a password
		}
		return nil, fmt.Errorf("invalid URL: %v", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("invalid URL: want http:// or https:// and a host")
	}
	h := &HTTP{URL: address, Name: path.Base(u.Path)}
	if h.Name == "." || h.Name == ".." || h.Name == "/" || strings.ContainsRune(h.Name, 0) {
		h.Name = unnamed
	}
	return h, nil
}

// ParseGit understands the address of a repository as a build context and ADD have it: https://host/repo.git, git://, ssh:// or user@host:path,
// with #REF:SUBDIR or the query parameters ref, tag, branch, subdir, checksum, commit, keep-git-dir and submodules. It also knows
// github.com/owner/repo, which only a build context may be called. ok is false when address is no repository; err says what is wrong with one.
func ParseGit(address string) (g *Git, ok bool, err error) {
	ref, isGit, err := dfgitutil.ParseGitRef(address)
	if !isGit {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	g = &Git{
		Remote: ref.Remote, Ref: ref.Ref, Subdir: ref.SubDir, Checksum: strings.ToLower(ref.Checksum),
		KeepGitDir: ref.KeepGitDir != nil && *ref.KeepGitDir,
		Submodules: ref.Submodules == nil || *ref.Submodules,
	}
	if ref.IndistinguishableFromLocal {
		g.Remote = "https://" + g.Remote
	}
	return g, true, g.check()
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// check refuses what git could take for something else than a name.
func (g *Git) check() error {
	if g.Checksum != "" && !hexDigits.MatchString(g.Checksum) {
		return fmt.Errorf("invalid checksum %q of a git repository, want the id of a commit in hex", g.Checksum)
	}
	for _, s := range []string{g.Remote, g.Ref, g.Subdir} {
		if strings.HasPrefix(s, "-") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("invalid git reference %q", s)
		}
	}
	return nil
}

// remoteKind says what a source is that is not a local path, "" for local paths.
func remoteKind(src string) string {
	if isGitSource(src) {
		return "git repository"
	}
	if isHTTPSource(src) {
		return "URL"
	}
	return ""
}

func isGitSource(src string) bool {
	ref, isGit, err := dfgitutil.ParseGitRef(src)
	return isGit && (err != nil || !ref.IndistinguishableFromLocal)
}

func isHTTPSource(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// addSources are the sources of an ADD in order, paths of the context that follow each other as one.
func (w *walk) addSources(c *instructions.AddCommand) ([]Source, error) {
	var sources []Source
	repositories, remote := 0, 0
	for _, src := range c.SourcePaths {
		s, err := addSource(c, src)
		if err != nil {
			return nil, w.file.failf(c.Location(), "", "%q: %v", redact(src), err)
		}
		last := len(sources) - 1
		switch {
		case s.Git != nil:
			repositories++
			remote++
		case s.HTTP != nil:
			remote++
		case last >= 0 && sources[last].Local != nil:
			sources[last].Paths = append(sources[last].Paths, src)
			continue
		}
		sources = append(sources, s)
	}
	if c.Checksum != "" && remote == 0 {
		return nil, w.file.failf(c.Location(), "", "--checksum needs an HTTP(S) or git source, local files have none to be checked against")
	}
	if c.Checksum != "" && len(c.SourcePaths) > 1 {
		return nil, w.file.failf(c.Location(), "write an ADD of its own for each source", "--checksum can't be given for several sources")
	}
	if c.KeepGitDir != nil && *c.KeepGitDir && repositories == 0 {
		return nil, w.file.failf(c.Location(), "", "--keep-git-dir needs a git source")
	}
	return sources, nil
}

// addSource is what one source of an ADD means.
func addSource(c *instructions.AddCommand, src string) (Source, error) {
	switch {
	case isGitSource(src):
		g, err := addRepository(c, src)
		return Source{Git: g}, err
	case isHTTPSource(src):
		h, err := NewHTTP(src)
		if err != nil || c.Checksum == "" {
			return Source{HTTP: h}, err
		}
		if h.Checksum, err = digest.Parse(c.Checksum); err != nil {
			return Source{}, fmt.Errorf("invalid --checksum=%s, want sha256: and 64 hex digits: %v", c.Checksum, err)
		}
		return Source{HTTP: h}, nil
	}
	return Source{Local: &Local{}, Paths: []string{src}}, nil
}

// addRepository brings the flags of an ADD and the query of the address together.
func addRepository(c *instructions.AddCommand, src string) (*Git, error) {
	g, _, err := ParseGit(src)
	if err != nil {
		return nil, err
	}
	if c.KeepGitDir != nil {
		if ref, _, err := dfgitutil.ParseGitRef(src); err == nil && ref.KeepGitDir != nil && *ref.KeepGitDir != *c.KeepGitDir {
			return nil, errors.New("--keep-git-dir and keep-git-dir in the address contradict each other")
		}
		g.KeepGitDir = *c.KeepGitDir
	}
	if sum := strings.ToLower(c.Checksum); sum != "" {
		if g.Checksum != "" && g.Checksum != sum {
			return nil, fmt.Errorf("--checksum=%s and checksum %s in the address contradict each other", c.Checksum, g.Checksum)
		}
		g.Checksum = sum
	}
	return g, g.check()
}

// userInfo finds credentials in URLs of a text: the user of a web address may be a token, the user of others is a name.
var userInfo = regexp.MustCompile(`(?i)(https?://|[a-z][a-z0-9+.-]*://[^/@:\s"']*:)[^/\s"']+@`)

// redact hides passwords in URLs: what is shown or kept of a Dockerfile goes through it.
func redact(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	return userInfo.ReplaceAllString(text, "${1}xxxxx@")
}

// identify writes what tells remote sources apart.
func (e *encoder) identify(s Source) {
	switch {
	case s.HTTP != nil:
		e.list([]string{s.HTTP.URL, s.HTTP.Checksum.String()})
	case s.Git != nil:
		e.list([]string{s.Git.Remote, s.Git.Ref, s.Git.Checksum, s.Git.Subdir})
		e.flag(s.Git.KeepGitDir)
		e.flag(s.Git.Submodules)
	}
}
