package unixbus

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// DECNET lets its operators enter patterns that nothing validates, and one client
// of its bus has the patterns of all of them. Its server therefore accepts every
// pattern and every topic, and so does ours.

// pattern is what a client subscribed to.
type pattern struct {
	text  string // as the client wrote it
	match string // the valid pattern that it acts like; empty if it matches nothing
}

// parsePattern reads a pattern as DECNET's server does: what follows a ">" does
// not count, and any other malformed pattern matches nothing.
func parsePattern(text string) pattern {
	tokens := strings.Split(text, ".")
	if i := slices.Index(tokens, ">"); i >= 0 {
		tokens = tokens[:i+1]
	}
	for _, token := range tokens {
		if token != "*" && token != ">" && (token == "" || strings.ContainsAny(token, "*> ")) {
			return pattern{text: text}
		}
	}
	return pattern{text, strings.Join(tokens, ".")}
}

// falsy reports whether DECNET's server, which is written in Python, passes an
// empty object on in place of the payload: it is missing, or false, zero, empty
// text or an empty list.
func falsy(payload json.RawMessage) bool {
	if len(payload) == 0 {
		return true
	}
	switch payload[0] {
	case '[':
		return len(bytes.TrimSpace(payload[1:len(payload)-1])) == 0
	case '"':
		return len(payload) == len(`""`)
	case 't', '{':
		return false
	case 'f':
		return true
	default:
		x, err := strconv.ParseFloat(string(payload), 64)
		return err == nil && x == 0
	}
}
