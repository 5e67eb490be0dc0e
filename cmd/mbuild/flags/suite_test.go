package flags

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// row is one case of a parser: the rule it shows, the flag's values, and either what they mean or a part of the complaint.
type row[T any] struct {
	rule   string
	values []string
	want   T
	err    string
}

// check runs rows against parse, and checks of each error that it names the flag or variable, the value and an example.
func check[T any](t *testing.T, flag string, parse func([]string) (T, error), rows []row[T]) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.rule, func(t *testing.T) {
			got, err := parse(r.values)
			if r.err == "" {
				if err != nil {
					t.Fatalf("%q: %v", r.values, err)
				}
				if !reflect.DeepEqual(got, r.want) {
					t.Fatalf("%q:\n got %+v\nwant %+v", r.values, got, r.want)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%q: got %v, %v, want an *Error with %q", r.values, got, err, r.err)
			}
			if e.Flag != flag || e.Example == "" || !strings.Contains(e.Error(), r.err) {
				t.Fatalf("%q: got error %v of flag %s, want %q of flag %s and an example", r.values, e, e.Flag, r.err, flag)
			}
		})
	}
}

// one makes a parser of one value fit check.
func one[T any](parse func(string) (T, error)) func([]string) (T, error) {
	return func(values []string) (T, error) { return parse(values[0]) }
}

func environment(vars ...string) Lookup {
	return func(name string) (string, bool) {
		for _, v := range vars {
			if k, value, _ := strings.Cut(v, "="); k == name {
				return value, true
			}
		}
		return "", false
	}
}

func ptr[T any](v T) *T { return &v }

// fuzz feeds parse with values and holds it to its contract: an error is an *Error of that flag, and ok accepts what is no error.
func fuzz[T any](f *testing.F, flag string, parse func([]string) (T, error), ok func(*testing.T, T), seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parse([]string{value})
		if err == nil {
			ok(t, got)
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Flag != flag || e.Problem == "" {
			t.Fatalf("%q: error %#v, want an *Error of %s", value, err, flag)
		}
	})
}
