package dockerfile

import (
	"maps"
	"slices"
	"strings"
)

// env is an ordered set of variables. It is what the lexer of the Dockerfile language
// looks variables up in.
type env struct {
	keys   []string
	list   []string // KEY=VALUE, in the order of keys; handed out, therefore never changed in place
	values map[string]string
}

func newEnv() *env { return &env{values: map[string]string{}} }

// Get looks a variable up.
func (e *env) Get(key string) (string, bool) {
	v, ok := e.values[key]
	return v, ok
}

// Keys lists the names in order.
func (e *env) Keys() []string { return e.keys }

// set gives a variable a value and moves it to the end.
func (e *env) set(key, value string) {
	list := slices.Clone(e.list)
	if _, ok := e.values[key]; ok {
		i := slices.Index(e.keys, key)
		e.keys = slices.Delete(e.keys, i, i+1)
		list = slices.Delete(list, i, i+1)
	}
	e.keys = append(e.keys, key)
	e.list = append(list, key+"="+value)
	e.values[key] = value
}

func (e *env) clone() *env {
	return &env{keys: slices.Clone(e.keys), list: e.list, values: maps.Clone(e.values)}
}

// setEntry replaces or appends KEY=VALUE in the environment of an image configuration, which
// keeps the place of a key.
func setEntry(list []string, key, value string) []string {
	for i, kv := range list {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			list[i] = key + "=" + value
			return list
		}
	}
	return append(list, key+"="+value)
}
