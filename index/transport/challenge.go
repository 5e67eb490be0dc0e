package transport

import (
	"net/http"
	"strings"
)

// challenge is one entry of a WWW-Authenticate header (RFC 9110, section 11.6.1).
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// pick returns the strongest challenge we can answer: bearer before basic.
func pick(h http.Header) (challenge, bool) {
	var basic challenge
	for _, line := range h.Values("WWW-Authenticate") {
		for _, c := range parseChallenges(line) {
			switch c.scheme {
			case "bearer":
				return c, true
			case "basic":
				basic = c
			}
		}
	}
	return basic, basic.scheme != ""
}

// parseChallenges reads a header value. Text it does not understand ends the
// list; it never fails.
func parseChallenges(s string) []challenge {
	var list []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word := token(s)
		if word == "" {
			return list
		}
		rest := strings.TrimLeft(s[len(word):], " \t")
		if !strings.HasPrefix(rest, "=") { // a new scheme
			list = append(list, challenge{strings.ToLower(word), map[string]string{}})
			s = rest
			continue
		}
		value, tail, ok := parameter(strings.TrimLeft(rest[1:], " \t"))
		if !ok || len(list) == 0 {
			return list
		}
		list[len(list)-1].params[strings.ToLower(word)] = value
		s = tail
	}
}

// parameter reads a token or a quoted string.
func parameter(s string) (value, tail string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value = token(s)
		return value, s[len(value):], value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

func token(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
	if end < 0 {
		return s
	}
	return s[:end]
}
