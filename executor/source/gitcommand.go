package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mbuild/dockerfile"
)

// The oldest versions of git that work, and that take credentials from their environment.
var (
	oldestGit      = [2]int{2, 30}
	oldestWithAuth = [2]int{2, 31}
)

// MissingGitError says that there is no git here that can be used.
type MissingGitError struct{ Found string }

func (e *MissingGitError) Error() string {
	if e.Found == "" {
		return "a git repository needs the program git, which is not on PATH"
	}
	return fmt.Sprintf("a git repository needs git %d.%d or later, found %s", oldestGit[0], oldestGit[1], e.Found)
}

// Hint says how to get it.
func (e *MissingGitError) Hint() string {
	return "install the package git (apt-get install git, dnf install git, apk add git)"
}

// session is git with a directory of its own for one repository.
type session struct {
	git    string // program
	dir    string // empty at first; removed at the end
	remote string // what git gets to see: without password
	shown  string // what people get to see
	env    []string
}

// session finds git and works out what it may use for the repository.
func (g *Git) session(ctx context.Context, r *dockerfile.Git) (_ *session, err error) {
	s := &session{shown: Redact(r.Remote), remote: r.Remote}
	if s.git, err = exec.LookPath("git"); err != nil {
		return nil, &MissingGitError{}
	}
	if s.dir, err = os.MkdirTemp(g.temp, "git-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	version, err := s.version(ctx)
	if err != nil {
		return nil, err
	}
	if s.env, err = g.environment(s, r.Remote, version); err != nil {
		return nil, err
	}
	return s, nil
}

// close removes the directory. What cannot be removed is garbage, and no reason to fail.
func (s *session) close() { _ = os.RemoveAll(s.dir) }

var versionText = regexp.MustCompile(`^git version ((\d+)\.(\d+)\S*)`)

func (s *session) version(ctx context.Context) ([2]int, error) {
	out, err := s.run(ctx, s.dir, "version")
	if err != nil {
		return [2]int{}, err
	}
	m := versionText.FindStringSubmatch(string(out))
	if m == nil {
		return [2]int{}, &MissingGitError{Found: printable(string(out))}
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	v := [2]int{major, minor}
	if slices.Compare(v[:], oldestGit[:]) < 0 {
		return v, &MissingGitError{Found: m[1]}
	}
	return v, nil
}

// settings keep git from doing more than it is told: no hooks, helpers or monitors,
// nothing in the background, files as they are in the repository.
var settings = []string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null", "core.excludesFile=/dev/null",
	"core.symlinks=true", "core.fileMode=true", "core.autocrlf=false", "core.sharedRepository=false",
	"credential.helper=", "core.askPass=", "init.defaultBranch=master", "init.templateDir=",
	"gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false", "log.showSignature=false",
	"submodule.recurse=false", "fetch.recurseSubmodules=false", "protocol.allow=never",
	"protocol.http.allow=always", "protocol.https.allow=always", "protocol.ssh.allow=always", "protocol.git.allow=always",
}

// passedOn are variables that say how to reach the network.
var passedOn = []string{
	"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
}

// environment is all that git and its children know. Credentials are in it and nowhere else: not among
// arguments, which everybody can read, and not in files.
func (g *Git) environment(s *session, remote string, version [2]int) ([]string, error) {
	env := []string{
		"HOME=" + s.dir, "XDG_CONFIG_HOME=" + s.dir, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=http:https:ssh:git", "GIT_OPTIONAL_LOCKS=0",
	}
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	u, err := url.Parse(remote)
	if err != nil || u.Scheme == "" {
		return g.overSSH(env, s) // user@host:path
	}
	credentials, err := g.credentials(u)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "ssh" {
		if env, err = g.overSSH(env, s); err != nil {
			return nil, err
		}
	}
	if u.User = userOnly(u); len(credentials) == 0 {
		s.remote = u.String()
		return env, nil
	}
	s.remote = u.String()
	if slices.Compare(version[:], oldestWithAuth[:]) < 0 {
		return nil, &MissingGitError{Found: fmt.Sprintf("%d.%d, which takes credentials on its command line only", version[0], version[1])}
	}
	// git would send the header to wherever it is redirected.
	env = append(env, "GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=http.followRedirects", "GIT_CONFIG_VALUE_0=false")
	for _, c := range credentials {
		env = append(env, "GIT_CONFIG_KEY_1=http."+c.scope+".extraHeader", "GIT_CONFIG_VALUE_1=Authorization: "+c.header)
	}
	return env, nil
}

// overSSH lets ssh use the agent of --ssh default. Host keys that the user knows are
// checked, others are taken at first sight and forgotten.
func (g *Git) overSSH(env []string, s *session) ([]string, error) {
	socket, ok, err := g.secrets.SSH("default")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &RemoteError{Address: s.shown, Message: "no SSH agent was given to this build", Advice: "--ssh default passes on the agent of SSH_AUTH_SOCK"}
	}
	known := []string{filepath.Join(s.dir, "known_hosts")}
	if home, err := os.UserHomeDir(); err == nil {
		known = append(known, filepath.Join(home, ".ssh", "known_hosts"))
	}
	for i, k := range known {
		known[i] = strconv.Quote(k)
	}
	command := "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UpdateHostKeys=no -o " +
		"'UserKnownHostsFile=" + strings.ReplaceAll(strings.Join(known, " "), "'", `'\''`) + "'"
	return append(env, "SSH_AUTH_SOCK="+socket, "GIT_SSH_COMMAND="+command, "GIT_SSH_VARIANT=ssh"), nil
}

// maxOutput bounds what is kept of what git says.
const maxOutput = 1 << 20

// run runs git in dir and returns its standard output. When it returns, or when mbuild is killed, git is gone.
func (s *session) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	full := []string{}
	for _, c := range settings {
		full = append(full, "-c", c)
	}
	cmd := exec.CommandContext(ctx, s.git, append(full, args...)...)
	cmd.Dir, cmd.Env = dir, s.env
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C"}
	}
	stdout, stderr := &capped{}, &capped{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := runLocked(cmd)
	if cause := canceled(ctx); err != nil && cause != nil {
		return nil, cause
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, s.failure(&commandError{command: "git " + args[0], said: stderr.String(), err: err})
	}
	if err != nil {
		return nil, fmt.Errorf("git %s: %w", args[0], err)
	}
	return stdout.Bytes(), nil
}

// runLocked keeps the thread that starts the process: the parent-death signal is sent
// when that thread ends.
func runLocked(cmd *exec.Cmd) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	return <-done
}

// capped keeps the first part of what is written to it.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), maxOutput-c.Len())])
	return len(p), nil
}

// commandError is git that ended badly.
type commandError struct {
	command string
	said    string
	err     error
}

func (e *commandError) Error() string {
	if text := e.message(); text != "" {
		return text
	}
	return fmt.Sprintf("%s: %v", e.command, e.err)
}

// Unwrap returns what became of the process.
func (e *commandError) Unwrap() error { return e.err }

// message is the first line of git's own words that says what is wrong.
func (e *commandError) message() string {
	first := ""
	for line := range strings.Lines(e.said) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"fatal: ", "error: ", "ERROR: "} {
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return printable(rest)
			}
		}
		if first == "" {
			first = line
		}
	}
	return printable(first)
}

func (e *commandError) mentions(phrases ...string) bool {
	return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(e.said, p) })
}

// failure finds out what git's words (there are no codes) mean for the user.
func (s *session) failure(e *commandError) error {
	r := &RemoteError{Address: s.shown, Err: e}
	switch {
	case e.mentions("Could not resolve host", "Failed to connect", "Couldn't connect", "Connection refused", "Connection timed out", "Network is unreachable", "Temporary failure in name resolution", "unable to look up"):
		r.Message = "cannot be reached"
		r.Advice = "without network only commits that were fetched before can be had, named by their whole id: #ID or --checksum=ID"
	case e.mentions("could not read Username", "could not read Password", "Authentication failed", "returned error: 401", "returned error: 403"):
		r.Message = "access denied"
		r.Advice = "--secret id=" + gitTokenSecret + ",env=VARIABLE gives a token for it"
	case e.mentions("Permission denied (publickey"):
		r.Message = "access denied"
		r.Advice = "the SSH agent has no key for it: ssh-add -l lists what it has"
	case e.mentions("transport 'file' not allowed", "' not allowed"):
		r.Message = "a submodule may be fetched by HTTP, SSH or git's own protocol only"
	case e.mentions("unable to update url base from redirection"):
		r.Advice = "credentials are not sent along with redirections: write the address that the repository has now"
	}
	return r
}
