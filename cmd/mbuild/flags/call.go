package flags

import (
	"strconv"
	"strings"
)

// Method is what is done with a Dockerfile.
type Method string

// The methods. All but MethodBuild only look.
const (
	MethodBuild    Method = "build"
	MethodCheck    Method = "check"
	MethodOutline  Method = "outline"
	MethodTargets  Method = "targets"
	MethodDescribe Method = "subrequests.describe"
)

// Call is a method and how its result is told.
type Call struct {
	Method       Method
	JSON         bool // in place of text
	IgnoreStatus bool // findings of a check do not make mbuild fail
}

// ParseCall parses --call: METHOD[,format=json|text][,ignorestatus=BOOL]. Empty is MethodBuild.
func ParseCall(value string) (Call, error) {
	c := Call{Method: MethodBuild}
	if value == "" {
		return c, nil
	}
	f := flag{"--call", "check,format=json"}
	attributes, err := f.attributes(value)
	if err != nil {
		return Call{}, err
	}
	named := false
	for _, a := range attributes {
		switch {
		case a.bare && named:
			return Call{}, f.errorf(value, "two methods: want one of build, check, outline, targets and subrequests.describe")
		case a.bare:
			c.Method, named = Method(a.key), true
		case a.key == "format" && (a.value == "json" || a.value == "text"):
			c.JSON = a.value == "json"
		case a.key == "format":
			return Call{}, f.errorf(value, "unknown format %q: want json or text", a.value)
		case a.key == "ignorestatus":
			if c.IgnoreStatus, err = strconv.ParseBool(strings.TrimSpace(a.value)); err != nil {
				return Call{}, f.errorf(value, "ignorestatus is %q: want true or false", a.value)
			}
		default:
			return Call{}, f.errorf(value, "unknown field %q: want format or ignorestatus", a.key)
		}
	}
	switch c.Method {
	case "lint":
		c.Method = MethodCheck // an older name
	case MethodBuild, MethodCheck, MethodOutline, MethodTargets, MethodDescribe:
	default:
		return Call{}, f.errorf(value, "unknown method %q: want build, check, outline, targets or subrequests.describe", c.Method)
	}
	return c, nil
}
