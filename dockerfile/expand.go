package dockerfile

import (
	"errors"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// maxExpansion bounds the bytes that variables may contribute to one plan for one platform, so that
// ENV A=$A$A, thirty times, does not eat the machine.
const maxExpansion = 16 << 20

var errExpansion = errors.New("expanding variables gives too much text")

// expander expands variables in words and keeps count of how much text that gave.
type expander struct {
	lex  *shell.Lex
	left int
}

func newExpander(escape rune) *expander {
	return &expander{lex: shell.NewLex(escape), left: maxExpansion}
}

// word expands one word. It also says which variables were found and which were not.
func (x *expander) word(lex *shell.Lex, word string, vars shell.EnvGetter) (shell.ProcessWordResult, error) {
	m := &meter{EnvGetter: vars, left: x.left}
	if err := m.checkReplacements(word); err != nil {
		return shell.ProcessWordResult{}, err
	}
	res, err := lex.ProcessWordWithMatches(word, m)
	return res, x.account(m, len(res.Result), err)
}

// words expands one word and splits the result at blanks.
func (x *expander) words(word string, vars shell.EnvGetter) ([]string, error) {
	m := &meter{EnvGetter: vars, left: x.left}
	if err := m.checkReplacements(word); err != nil {
		return nil, err
	}
	words, err := x.lex.ProcessWords(word, m)
	return words, x.account(m, 0, err)
}

func (x *expander) account(m *meter, result int, err error) error {
	x.left = min(m.left, x.left-result)
	if err == nil && (m.over || x.left < 0) {
		return errExpansion
	}
	return err
}

// meter hands out variables until the allowance is used up.
type meter struct {
	shell.EnvGetter
	left int
	over bool
}

func (m *meter) Get(key string) (string, bool) {
	v, ok := m.EnvGetter.Get(key)
	if len(v) > m.left {
		m.over = true
		return "", ok
	}
	m.left -= len(v)
	return v, ok
}

var replaceAll = regexp.MustCompile(`\$\{(\w+)//`)

// checkReplacements bounds ${v//pattern/text}, the one form whose result may be much longer than
// what goes in: every byte of such a value may become the whole rest of the word, expanded.
func (m *meter) checkReplacements(word string) error {
	found := replaceAll.FindAllStringSubmatch(word, -1)
	if len(found) == 0 {
		return nil
	}
	longest := 0
	for _, k := range m.EnvGetter.Keys() {
		v, _ := m.EnvGetter.Get(k)
		longest = max(longest, len(v))
	}
	size := len(word) + strings.Count(word, "$")*longest
	for _, sub := range found {
		if size > maxExpansion {
			return errExpansion
		}
		v, _ := m.EnvGetter.Get(sub[1])
		size *= len(v) + 1
	}
	if size > maxExpansion {
		return errExpansion
	}
	return nil
}
