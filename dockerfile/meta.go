package dockerfile

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/sys/signal"
)

func (w *walk) envCommand(c *instructions.EnvCommand) error {
	w.lintEnv(c)
	by := "ENV"
	for _, kv := range c.Env {
		if kv.Key == "" || strings.Contains(kv.Key, "=") {
			return w.file.failf(c.Location(), "", "ENV: %q cannot be the name of a variable", kv.Key)
		}
		by += " " + kv.String()
		w.env.set(kv.Key, kv.Value)
		w.image.setEnv(kv.Key, kv.Value)
	}
	w.image.commit(by, nil)
	return nil
}

// argCommand declares build arguments: the value given wins, then the default, then the global ARG of that name.
func (w *walk) argCommand(c *instructions.ArgCommand) error {
	by := "ARG"
	for _, kv := range c.Args {
		w.lintSecretName("ARG", kv.Key, c.Location())
		given, ok := w.opts.BuildArgs[kv.Key]
		inherits := kv.Value == nil && w.global[kv.Key]
		switch {
		case ok:
			kv.Value = &given
		case kv.Value != nil:
			res, err := w.expand.word(w.expand.lex, *kv.Value, w.env)
			w.lintUndefined(c.Location(), res.Unmatched)
			if err != nil {
				return err
			}
			kv.Value = &res.Result
		default:
			if v, ok := w.globals.Get(kv.Key); ok {
				kv.Value, inherits = &v, true
			}
		}
		w.noteArgUse(c, kv, inherits)
		by += " " + kv.Key
		if kv.Value != nil {
			by += "=" + *kv.Value
			if !internalArg(kv.Key) {
				w.env.set(kv.Key, *kv.Value)
			}
		}
		w.args = append(w.args, kv)
	}
	w.image.commit(by, nil)
	return nil
}

func (w *walk) labelCommand(c *instructions.LabelCommand) error {
	by := "LABEL"
	for _, kv := range c.Labels {
		if kv.Key == "" {
			return w.file.failf(c.Location(), "", "LABEL names can not be blank")
		}
		w.lintKeyValue(c, kv)
		by += " " + kv.String()
		w.image.setLabel(kv.Key, kv.Value)
	}
	w.image.commit(by, nil)
	return nil
}

func (w *walk) cmdCommand(c *instructions.CmdCommand) {
	w.lintUsedOnce(c)
	args := c.CmdLine
	if c.PrependShell {
		w.lintShellForm(c)
		args = w.withShell(args)
	}
	w.image.config.Cmd = args
	//lint:ignore SA1019 deprecated, but what Docker and BuildKit write
	w.image.config.ArgsEscaped = true
	w.image.commit(fmt.Sprintf("CMD %q", args), nil)
}

// entrypoint also drops a CMD that the base set: it was meant for another program.
func (w *walk) entrypoint(c *instructions.EntrypointCommand) {
	w.lintUsedOnce(c)
	args := c.CmdLine
	if c.PrependShell {
		w.lintShellForm(c)
		args = w.withShell(args)
	}
	w.image.config.Entrypoint = args
	if len(w.used["CMD"]) == 0 {
		w.image.config.Cmd = nil
	}
	w.image.commit(fmt.Sprintf("ENTRYPOINT %q", args), nil)
}

func (w *walk) healthcheck(c *instructions.HealthCheckCommand) {
	w.lintUsedOnce(c)
	h := c.Health
	w.image.config.Healthcheck = h
	w.image.commit(fmt.Sprintf("HEALTHCHECK &{%q %q %q %q %q %q}", h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, rune(h.Retries)), nil)
}

func (w *walk) shell(c *instructions.ShellCommand) {
	w.image.config.Shell = c.Shell
	w.image.commit(fmt.Sprintf("SHELL %v", c.Shell), nil)
}

func (w *walk) user(c *instructions.UserCommand) {
	w.image.config.User = c.User
	w.image.commit("USER "+c.User, nil)
}

func (w *walk) maintainer(c *instructions.MaintainerCommand) {
	w.image.author = &c.Maintainer
	w.image.commit("MAINTAINER "+c.Maintainer, nil)
}

func (w *walk) volume(c *instructions.VolumeCommand) error {
	for _, v := range c.Volumes {
		if v == "" {
			return w.file.failf(c.Location(), "", "VOLUME specified can not be an empty string")
		}
		put(&w.image.config.Volumes, v, struct{}{})
	}
	w.image.commit(fmt.Sprintf("VOLUME %v", c.Volumes), nil)
	return nil
}

func (w *walk) stopSignal(c *instructions.StopSignalCommand) error {
	if _, err := signal.ParseSignal(c.Signal); err != nil {
		return w.file.failf(c.Location(), "use a name such as SIGTERM or a number", "STOPSIGNAL: %v", err)
	}
	w.image.config.StopSignal = c.Signal
	w.image.commit("STOPSIGNAL "+c.Signal, nil)
	return nil
}

func (w *walk) expose(c *instructions.ExposeCommand) error {
	var exposed []string
	for _, word := range c.Ports {
		if w.inDoubt(word) {
			continue
		}
		specs, err := w.expand.words(word, w.env)
		if err != nil {
			return err
		}
		for _, s := range specs {
			p, err := parsePorts(s)
			if err != nil {
				return w.file.failf(c.Location(), "EXPOSE takes PORT[-PORT][/tcp|udp|sctp]", "EXPOSE: %v", err)
			}
			if p.proto != strings.ToLower(p.proto) {
				w.lint.Run(&linter.RuleExposeProtoCasing, c.Location(), linter.RuleExposeProtoCasing.Format(s))
			}
			if p.mapped {
				w.lint.Run(&linter.RuleExposeInvalidFormat, c.Location(), linter.RuleExposeInvalidFormat.Format(s))
			}
			if len(exposed)+p.last-p.first >= maxPorts {
				return w.file.failf(c.Location(), "", "EXPOSE of more than %d ports", maxPorts)
			}
			exposed = append(exposed, p.list()...)
		}
	}
	for _, p := range exposed {
		put(&w.image.config.ExposedPorts, p, struct{}{})
	}
	w.image.commit(fmt.Sprintf("EXPOSE %v", exposed), nil)
	return nil
}
