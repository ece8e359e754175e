package ir

import (
	"fmt"
	"strconv"
	"strings"
)

type tokenKind uint8

const (
	eofToken    tokenKind = iota
	identToken            // Conv, thriftc.Quant, _
	nameToken             // %x or %"any text": text is the rest after %
	stringToken           // text is the literal with its quotes
	numberToken           // text is not checked further than its letters
	punctToken
	badToken // text says what is wrong
)

type token struct {
	kind  tokenKind
	text  string
	pos   int  // byte offset
	first bool // first token on its line
}

func (t token) String() string {
	switch t.kind {
	case eofToken:
		return "end of file"
	case nameToken:
		return "%" + shorten(t.text)
	}
	return shorten(t.text)
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:37] + "..."
	}
	return s
}

func isIdentByte(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isIdent reports whether s is written without quotes: a letter or underscore,
// then letters, digits, underscores and dots.
func isIdent(s string) bool {
	if s == "" || s[0] == '.' || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if !isIdentByte(s[i]) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool { return isIdentByte(c) || c == '/' || c == '-' }

// isName reports whether a value name is written without quotes: letters,
// digits, and any of _ . / -
func isName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return s != ""
}

type lexer struct {
	src string
	pos int
}

// next returns the next token; white space and comments from # to the end of
// the line only separate tokens. It never copies the text.
func (l *lexer) next() token {
	first := l.pos == 0
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; c {
		case '\n':
			first = true
			l.pos++
		case ' ', '\t', '\r':
			l.pos++
		case '#':
			end := strings.IndexByte(l.src[l.pos:], '\n')
			if end < 0 {
				end = len(l.src) - l.pos
			}
			l.pos += end
		default:
			t := l.token(c)
			t.first = first
			return t
		}
	}
	return token{kind: eofToken, pos: l.pos, first: true}
}

func (l *lexer) token(c byte) token {
	start := l.pos
	switch {
	case c == '%':
		if strings.HasPrefix(l.src[start+1:], `"`) {
			l.pos++
			t := l.quoted(start)
			if t.kind == stringToken {
				t.kind = nameToken
			}
			return t
		}
		end := l.span(start+1, isNameByte)
		if end == start+1 {
			return token{kind: badToken, text: "% without a name", pos: start}
		}
		return token{kind: nameToken, text: l.src[start+1 : end], pos: start}
	case c == '"':
		return l.quoted(start)
	case c == '-' || c == '+' || c >= '0' && c <= '9':
		end := start + 1
		for end < len(l.src) && (isIdentByte(l.src[end]) || (l.src[end] == '-' || l.src[end] == '+') && (l.src[end-1] == 'e' || l.src[end-1] == 'E')) {
			end++
		}
		l.pos = end
		return token{kind: numberToken, text: l.src[start:end], pos: start}
	case isIdentByte(c) && c != '.':
		return token{kind: identToken, text: l.src[start:l.span(start, isIdentByte)], pos: start}
	case strings.HasPrefix(l.src[start:], "..."):
		l.pos += 3
		return token{kind: punctToken, text: "...", pos: start}
	case strings.IndexByte("(){}[],:=?", c) >= 0:
		l.pos++
		return token{kind: punctToken, text: l.src[start:l.pos], pos: start}
	}
	l.pos++
	return token{kind: badToken, text: fmt.Sprintf("unexpected character %q", c), pos: start}
}

func (l *lexer) span(from int, in func(byte) bool) int {
	end := from
	for end < len(l.src) && in(l.src[end]) {
		end++
	}
	l.pos = end
	return end
}

// quoted scans a string literal at l.pos for a token that starts at start.
func (l *lexer) quoted(start int) token {
	open := l.pos
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '"':
			l.pos++
			return token{kind: stringToken, text: l.src[open:l.pos], pos: start}
		case '\\':
			l.pos++
		case '\n':
			return token{kind: badToken, text: "string is not closed before the end of the line", pos: start}
		}
	}
	l.pos = len(l.src)
	return token{kind: badToken, text: "string is not closed", pos: start}
}

// unquote returns what a string literal means, without a copy where it holds no escapes.
func unquote(s string) (string, bool) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' && strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1], true
	}
	u, err := strconv.Unquote(s)
	return u, err == nil
}
