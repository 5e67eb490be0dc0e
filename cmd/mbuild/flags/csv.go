package flags

import (
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// attribute is one key=value of a comma-separated list.
type attribute struct {
	key   string // lower case, except what follows the first dot
	value string
	bare  bool // no "=" was there; value is empty
}

// attributes reads a line of CSV whose fields are key=value. No key occurs twice.
func (f flag) attributes(value string) ([]attribute, error) {
	if strings.TrimSpace(value) == "" {
		return nil, f.errorf(value, "it is empty")
	}
	fields, err := csvvalue.Fields(value, nil)
	if err != nil {
		return nil, f.errorf(value, "not a list of comma-separated fields: %v", err)
	}
	seen := map[string]bool{}
	list := make([]attribute, 0, len(fields))
	for _, field := range fields {
		k, v, ok := strings.Cut(field, "=")
		a := attribute{key: lowerName(strings.TrimSpace(k)), value: v, bare: !ok}
		switch {
		case a.key == "":
			return nil, f.errorf(value, "a field has no name: %q", field)
		case seen[a.key]:
			return nil, f.errorf(value, "%s is given twice", a.key)
		}
		seen[a.key] = true
		list = append(list, a)
	}
	return list, nil
}

// lowerName puts an attribute's name in lower case, but not a key that is part of it ("annotation.Key").
func lowerName(name string) string {
	head, tail, found := strings.Cut(name, ".")
	if !found {
		return strings.ToLower(name)
	}
	return strings.ToLower(head) + "." + tail
}

// pairs is attributes for lists in which every field needs a value.
func (f flag) pairs(value string) ([]attribute, error) {
	list, err := f.attributes(value)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.bare {
			return nil, f.errorf(value, "%q is not of the form key=value", a.key)
		}
	}
	return list, nil
}
