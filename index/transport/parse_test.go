package transport

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestParseChallenges(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want []challenge
	}{
		"bearer with quoted commas": {
			`Bearer realm="https://auth.example/token",service="reg",scope="repository:a:pull,push"`,
			[]challenge{{"bearer", map[string]string{"realm": "https://auth.example/token", "service": "reg", "scope": "repository:a:pull,push"}}},
		},
		"two schemes in one line":            {`Negotiate, Basic realm="x"`, []challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}}},
		"escaped quote":                      {`Basic realm="a\"b"`, []challenge{{"basic", map[string]string{"realm": `a"b`}}}},
		"unquoted value, spaces around =":    {`BASIC Realm = x`, []challenge{{"basic", map[string]string{"realm": "x"}}}},
		"unfinished string ends the list":    {`Basic realm="x`, []challenge{{"basic", map[string]string{}}}},
		"parameter without scheme":           {`realm="x"`, nil},
		"nothing":                            {``, nil},
		"nonsense stops without a complaint": {`=== ;;`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseChallenges(test.in); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth.example/token",service="reg"`)
	f.Add(`Basic realm="a\"b", Negotiate`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges(s) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Errorf("scheme %q", c.scheme)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"7":                             7 * time.Second,
		"-7":                            0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"soon":                          0,
		"":                              0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestErrorBodyIsMadeFitForATerminal(t *testing.T) {
	for name, test := range map[string]struct{ body, contentType, want string }{
		"codes and messages":        {`{"errors":[{"code":"DENIED","message":"no"},{"message":"really"}]}`, "application/json", "DENIED: no; really"},
		"docker hub's token server": {`{"details":"incorrect username"}`, "application/json", "incorrect username"},
		"plain text, one line":      {"a\n\tb\x1b[31mred\x07 \u202ec\xff", "text/plain", "a b[31mred c"},
		"html is not shown":         {"<html>", "text/html; charset=utf-8", ""},
		"long text is cut":          {strings.Repeat("x", 1000), "text/plain", strings.Repeat("x", maxQuote) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := parseErrorBody([]byte(test.body), test.contentType); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"DENIED","message":"no"}]}`))
	f.Add([]byte("\x1b]0;title\x07"))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, got := parseErrorBody(body, "")
		for _, r := range got {
			if unicode.IsControl(r) {
				t.Errorf("control character %U in %q", r, got)
			}
		}
	})
}
