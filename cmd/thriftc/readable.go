package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The bounds of what is said of a file: of a name in it, and of a message.
const (
	maxWord    = 200      // bytes
	maxMessage = 16 << 10 // bytes
)

var longWord = regexp.MustCompile(fmt.Sprintf(`\S{%d}\S+`, maxWord))

// control is what moves a terminal's cursor or worse; tabs and ends of lines are meant.
var control = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x{9f}]`)

// readable makes a message fit for a terminal: names of files' making are cut to their two ends
// where they are long, control characters are shown as \x1b is, and what is
// longer than maxMessage ends with how much more there is.
func readable(msg string) string {
	msg = control.ReplaceAllStringFunc(msg, func(c string) string { return strings.Trim(strconv.QuoteToASCII(c), `"`) })
	msg = longWord.ReplaceAllStringFunc(msg, func(w string) string {
		r := []rune(w)
		if len(r) <= maxWord {
			return w
		}
		return fmt.Sprintf("%s…%s(%d bytes)", string(r[:maxWord/2]), string(r[len(r)-maxWord/4:]), len(w))
	})
	if len(msg) <= maxMessage {
		return msg
	}
	cut := strings.LastIndexByte(msg[:maxMessage], '\n')
	if cut <= 0 {
		cut = maxMessage
	}
	rest := msg[cut:]
	return strings.ToValidUTF8(msg[:cut], "") + fmt.Sprintf("\n… %d lines more", strings.Count(strings.Trim(rest, "\n"), "\n")+1)
}
