package dockerfile

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// verbatim is Images with one config for everything.
type verbatim string

func (v verbatim) Image(_ context.Context, ref string, _ ocispec.Platform) (BaseImage, error) {
	return BaseImage{Ref: ref, Config: []byte(v)}, nil
}

// notDefined are the fields that deliberately are no part of a definition.
var notDefined = map[string]string{
	"Image.Name":   "for display",
	"Run.Proxy":    "in effect for the process only",
	"Source.Step":  "content, which the executor adds; that it is a step counts",
	"Source.Local": "content, which the executor adds; that it is a context counts",
	"Local.Name":   "content, which the executor adds",
	"Source.Git":   "content, which the executor adds; that it is a repository counts",

	"HTTP.URL":      "content, which the executor adds",
	"HTTP.Checksum": "of the content, which the executor adds",
}

// variants gives for a value a number of different values of the type.
func variants(t *testing.T, typ reflect.Type) []reflect.Value {
	var out []reflect.Value
	add := func(vs ...any) {
		for _, v := range vs {
			out = append(out, reflect.ValueOf(v).Convert(typ))
		}
	}
	switch typ.Kind() {
	case reflect.String:
		add("", "a", "b", "ab")
	case reflect.Bool:
		add(false, true)
	case reflect.Int, reflect.Int64, reflect.Uint32:
		add(0, 1, 300)
	case reflect.Pointer:
		out = append(out, reflect.Zero(typ))
		for _, v := range variants(t, typ.Elem()) {
			p := reflect.New(typ.Elem())
			p.Elem().Set(v)
			out = append(out, p)
		}
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return []reflect.Value{reflect.Zero(typ), reflect.ValueOf([]byte("x")), reflect.ValueOf([]byte("y"))}
		}
		for n := range 3 {
			for _, v := range variants(t, typ.Elem()) {
				s := reflect.MakeSlice(typ, 0, n)
				for range n {
					s = reflect.Append(s, v)
				}
				out = append(out, s)
				if n == 0 {
					break
				}
			}
		}
	case reflect.Struct:
		out = append(out, reflect.Zero(typ))
		for i := range typ.NumField() {
			f := typ.Field(i)
			if _, skip := notDefined[typ.Name()+"."+f.Name]; skip {
				continue
			}
			for _, v := range variants(t, f.Type)[1:] {
				s := reflect.New(typ).Elem()
				s.Field(i).Set(v)
				out = append(out, s)
			}
		}
	default:
		t.Fatalf("no variants of %v", typ)
	}
	return out
}

// TestDefinitionHasEveryField varies every field of every operation, alone, and wants all definitions to differ.
func TestDefinitionHasEveryField(t *testing.T) {
	seen := map[string]string{}
	for _, op := range []Op{&Image{}, &Run{}, &Copy{}, &Mkdir{}} {
		typ := reflect.TypeOf(op).Elem()
		values := variants(t, typ)
		for _, v := range values {
			p := reflect.New(typ)
			p.Elem().Set(v)
			text := fmt.Sprintf("%s%+v", typ.Name(), v)
			d := string(p.Interface().(Op).Definition())
			if other, ok := seen[d]; ok {
				t.Errorf("equal definitions:\n%s\n%s", other, text)
			}
			seen[d] = text
		}
		t.Logf("%s: %d variants", typ.Name(), len(values))
	}
}

func TestDefinitionIsFramed(t *testing.T) {
	pairs := [][2]Op{
		{&Run{Args: []string{"ab", "c"}}, &Run{Args: []string{"a", "bc"}}},
		{&Run{Args: []string{"a", ""}}, &Run{Args: []string{"a"}}},
		{&Run{Args: []string{"a", "b"}}, &Run{Args: []string{"a"}, Env: []string{"b"}}},
		{&Run{Env: []string{"A=1", "B=2"}}, &Run{Env: []string{"A=1\nB=2"}}},
		{&Run{Dir: "/a", User: "b"}, &Run{Dir: "/", User: "ab"}},
		{&Run{Files: []Inline{{Name: "a", Data: []byte("b")}}}, &Run{Files: []Inline{{Name: "ab"}}}},
		{&Copy{Dest: "/a", Owner: "b"}, &Copy{Dest: "/ab"}},
		{&Copy{Sources: []Source{{Scratch: true, Paths: []string{"a", "b"}}}}, &Copy{Sources: []Source{{Scratch: true, Paths: []string{"a"}}, {Scratch: true, Paths: []string{"b"}}}}},
		{&Copy{Exclude: []string{"a,b"}}, &Copy{Exclude: []string{"a", "b"}}},
		{&Copy{Sources: []Source{{Step: &Step{}}}}, &Copy{Sources: []Source{{Local: &Local{}}}}},
		{&Mkdir{Path: "/a", Owner: ""}, &Copy{Dest: "/a"}},
	}
	for _, p := range pairs {
		if string(p[0].Definition()) == string(p[1].Definition()) {
			t.Errorf("equal definitions: %+v and %+v", p[0], p[1])
		}
	}
}

func TestDefinitionLeavesOutWhatDoesNotCount(t *testing.T) {
	pairs := map[string][2]Op{
		"proxy settings":       {&Run{Proxy: []string{"a=b"}}, &Run{}},
		"address of a host":    {&Run{Hosts: []string{"h=1.1.1.1"}}, &Run{Hosts: []string{"h=2.2.2.2"}}},
		"name of a context":    {&Copy{Sources: []Source{{Local: &Local{"a"}}}}, &Copy{Sources: []Source{{Local: &Local{"b"}}}}},
		"which step it is":     {&Copy{Sources: []Source{{Step: &Step{ID: 1}}}}, &Copy{Sources: []Source{{Step: &Step{ID: 2}}}}},
		"name of an image":     {&Image{Ref: "r", Name: "a"}, &Image{Ref: "r", Name: "b"}},
		"nil and empty slices": {&Run{Args: []string{}}, &Run{}},
	}
	for name, p := range pairs {
		if string(p[0].Definition()) != string(p[1].Definition()) {
			t.Errorf("%s changes the definition", name)
		}
	}
}
