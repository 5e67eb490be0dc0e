package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unavailable says why there is no build namespace to be had here, and the smallest change that would give one.
type Unavailable struct {
	// Reason is one line, lower case, with the evidence that was found.
	Reason string
	// Hint can be pasted or says what to change; empty when nothing is known to help.
	Hint string

	step string // refused step inside, if it got that far
}

// Error is the reason, so that an Unavailable can be wrapped by callers that need a build namespace.
func (u *Unavailable) Error() string { return "no build namespace: " + u.Reason }

func explainNoRange(name string, uids, gids bool) *Unavailable {
	file, flags := "/etc/subuid and /etc/subgid", "--add-subuids 100000-165535 --add-subgids 100000-165535"
	if !gids {
		file, flags = "/etc/subuid", "--add-subuids 100000-165535"
	} else if !uids {
		file, flags = "/etc/subgid", "--add-subgids 100000-165535"
	}
	return &Unavailable{
		Reason: fmt.Sprintf("no subordinate ids for user %q in %s", name, file),
		Hint:   fmt.Sprintf("sudo usermod %s %s", flags, name),
	}
}

// explainRoot explains why root can neither write the maps itself nor have them written.
func explainRoot(lacking []string, why *Unavailable) *Unavailable {
	var add string
	for _, name := range lacking {
		add += " --cap-add " + strings.TrimPrefix(name, "CAP_")
	}
	return &Unavailable{
		Reason: fmt.Sprintf("root has no %s here to map its own ids, and %s", strings.Join(lacking, ", "), why.Reason),
		Hint:   fmt.Sprintf("docker run%s …, in Kubernetes the same names in securityContext.capabilities.add", add),
	}
}

// explainClone explains why the kernel refused new namespaces.
func (h host) explainClone(err error) *Unavailable {
	const what = "the kernel refused a new user namespace: "
	switch {
	case h.sysctl("user/max_user_namespaces") == "0":
		return &Unavailable{Reason: what + "sysctl user.max_user_namespaces is 0", Hint: "sudo sysctl -w user.max_user_namespaces=65536"}
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS):
		return &Unavailable{Reason: what + "too many of them, or nested too deeply", Hint: "sudo sysctl -w user.max_user_namespaces=65536"}
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return &Unavailable{Reason: what + "it was built without CONFIG_USER_NS, or a sandbox such as gVisor stands in for it"}
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES):
		return &Unavailable{Reason: what + errno(err)}
	case h.sysctl("kernel/unprivileged_userns_clone") == "0":
		return &Unavailable{Reason: what + "sysctl kernel.unprivileged_userns_clone is 0", Hint: "sudo sysctl -w kernel.unprivileged_userns_clone=1"}
	case h.status("Seccomp") == "2":
		return &Unavailable{
			Reason: what + "the container's seccomp profile forbids it",
			Hint:   "docker run --security-opt seccomp=unconfined …, in Kubernetes securityContext.seccompProfile.type: Unconfined",
		}
	default:
		return h.explainLSM(what, errno(err))
	}
}

// explainRefusal explains why the kernel gave the namespace but refused what is needed inside it.
func (h host) explainRefusal(m message) *Unavailable {
	u := h.explainLSM("the kernel gave a user namespace but refused "+m.Step+": ", errno(m.Errno))
	u.step = m.Step
	return u
}

// explainLSM looks for a security module that restricts us.
func (h host) explainLSM(what, otherwise string) *Unavailable {
	profile := h.apparmor()
	switch {
	case profile != "" && profile != "unconfined":
		return &Unavailable{
			Reason: fmt.Sprintf("%sthe AppArmor profile %q forbids it", what, profile),
			Hint:   "docker run --security-opt apparmor=unconfined …, in Kubernetes securityContext.appArmorProfile.type: Unconfined",
		}
	case h.sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return &Unavailable{
			Reason: what + "sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
			Hint:   "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for mbuild with the rule \"userns,\"",
		}
	default:
		return &Unavailable{Reason: what + otherwise}
	}
}

// explainHelper explains why newuidmap or newgidmap failed.
func (h host) explainHelper(cmd *exec.Cmd, err error) *Unavailable {
	name := filepath.Base(cmd.Path)
	kind := strings.TrimSuffix(strings.TrimPrefix(name, "new"), "map")
	capability := fmt.Sprintf("sudo chmod u-s %[1]s && sudo setcap cap_set%[2]s+ep %[1]s", cmd.Path, kind)
	p := privilegeOf(cmd.Path)
	switch {
	case h.status("NoNewPrivs") == "1":
		return &Unavailable{
			Reason: name + " cannot act for us: no_new_privs is set for this process",
			Hint:   "in Kubernetes securityContext.allowPrivilegeEscalation: true; with Docker drop --security-opt no-new-privileges",
		}
	case !p.setuid && !p.fileCaps:
		return &Unavailable{
			Reason: fmt.Sprintf("%s has neither the setuid bit nor the capability cap_set%s", cmd.Path, kind),
			Hint:   "sudo chmod u+s " + cmd.Path,
		}
	case p.nosuid:
		return &Unavailable{Reason: cmd.Path + " is on a file system mounted with nosuid", Hint: "mount it without nosuid"}
	case p.fileCaps && errors.Is(err, unix.EPERM):
		return &Unavailable{
			Reason: fmt.Sprintf("%s may not be started: the container's capability limit lacks cap_set%s", cmd.Path, kind),
			Hint:   "docker run --cap-add SETUID --cap-add SETGID …, in Kubernetes securityContext.capabilities.add: [SETUID, SETGID]",
		}
	case p.setuid && !h.bounded(unix.CAP_SYS_ADMIN):
		return &Unavailable{
			Reason: fmt.Sprintf("%s is setuid root, which is not enough in a container without CAP_SYS_ADMIN: %s", cmd.Path, said(cmd, err)),
			Hint:   capability,
		}
	default:
		return &Unavailable{Reason: said(cmd, err)}
	}
}

// said is the last line of what the command wrote, or its error.
func said(cmd *exec.Cmd, err error) string {
	if b, ok := cmd.Stderr.(*bytes.Buffer); ok {
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
			return last
		}
	}
	return fmt.Sprintf("%s: %v", cmd.Path, err)
}

// errno is the bare text of the errno in err.
func errno(err error) string {
	if e := syscall.Errno(0); errors.As(err, &e) {
		return strings.ToLower(e.Error())
	}
	return err.Error()
}
