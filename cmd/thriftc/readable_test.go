package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadable(t *testing.T) {
	name := strings.Repeat("n", 100_000)
	got := readable(fmt.Sprintf("Conv %s: weights\n\tare missing", name))
	if len(got) > 300 || !strings.HasPrefix(got, "Conv nnn") || !strings.HasSuffix(got, "(100001 bytes) weights\n\tare missing") {
		t.Errorf("%q", got)
	}
	if got := readable("a\x1b[2Jb\u0085c\r"); got != `a\x1b[2Jb\u0085c\r` {
		t.Errorf("%q", got)
	}
	lines := strings.Repeat("Foo bar: operator Foo is not supported\n", 10_000)
	got = readable(lines)
	if len(got) > maxMessage+40 || !strings.HasSuffix(got, " lines more") {
		t.Errorf("%d bytes, %q", len(got), got[max(0, len(got)-60):])
	}
	shown := strings.Count(got, "not supported")
	if want := fmt.Sprintf("… %d lines more", 10_000-shown); !strings.HasSuffix(got, want) {
		t.Errorf("%q, want %q", got[len(got)-40:], want)
	}
	for _, s := range []string{"", "ordinary: %x = Conv(%y)\n  hint", strings.Repeat("é", maxWord/2)} {
		if readable(s) != s {
			t.Errorf("%q became %q", s, readable(s))
		}
	}
}
