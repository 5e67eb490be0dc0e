package flags

import (
	"fmt"
	"strconv"
	"strings"
)

// Error says which flag's value is wrong, why, and what a right one looks like.
type Error struct {
	Flag    string // with dashes: "--output"; or the environment variable the value came from
	Value   string // as given
	Problem string
	Example string // a value, or several, that Flag accepts; may be empty
}

func (e *Error) Error() string {
	const longest = 200
	value := e.Value
	if len(value) > longest {
		value = strings.ToValidUTF8(value[:longest], "") + "..."
	}
	s := e.Flag + " " + strconv.Quote(value) + ": " + e.Problem
	if e.Example != "" {
		s += " (example: " + e.Flag + e.joint() + e.Example + ")"
	}
	return s
}

func (e *Error) joint() string {
	if strings.HasPrefix(e.Flag, "--") {
		return " "
	}
	return "="
}

// flag is what the errors of one flag have in common.
type flag struct{ name, example string }

func (f flag) errorf(value, format string, args ...any) error {
	return &Error{Flag: f.name, Value: value, Problem: fmt.Sprintf(format, args...), Example: f.example}
}

// Lookup finds an environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, ok bool)
