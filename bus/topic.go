package bus

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/decnet/enrich/internal/jsontext"
)

// MaxTopic is the greatest length in bytes of a topic or pattern.
const MaxTopic = 255

// MaxPayload is the greatest length in bytes of an event's payload: 1 MiB, the
// greatest message of common transports, less 8 KiB for the envelope.
const MaxPayload = 1<<20 - 8<<10

// ValidateTopic returns an error that wraps [ErrInvalid] unless topic is a
// sequence of tokens separated by dots, none of them empty and none with a
// dot, "*", ">", white space or control character in it, of at most [MaxTopic]
// bytes of UTF-8 in all.
func ValidateTopic(topic string) error {
	return validate("topic", topic, func(token string, last bool) bool { return false })
}

// ValidatePattern is like [ValidateTopic], but a token may also be "*", and
// the last may be ">".
func ValidatePattern(pattern string) error {
	return validate("pattern", pattern, func(token string, last bool) bool {
		return token == "*" || token == ">" && last
	})
}

func validate(what, s string, wildcard func(token string, last bool) bool) error {
	if len(s) > MaxTopic {
		return fmt.Errorf("%w %s: %d bytes long; at most %d are allowed", ErrInvalid, what, len(s), MaxTopic)
	}
	if plain(s) {
		return nil
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w %s %q: not UTF-8", ErrInvalid, what, s)
	}
	for token, rest, more := "", s, true; more; {
		token, rest, more = strings.Cut(rest, ".")
		switch {
		case token == "":
			return fmt.Errorf("%w %s %q: empty token", ErrInvalid, what, s)
		case wildcard(token, !more):
		case strings.ContainsAny(token, "*>"):
			return fmt.Errorf("%w %s %q: misplaced wildcard in %q", ErrInvalid, what, s, token)
		case strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
			return fmt.Errorf("%w %s %q: white space or control character in %q", ErrInvalid, what, s, token)
		}
	}
	return nil
}

// plain reports whether s consists of tokens of letters, digits, "-" and "_", as
// nearly all topics do; there is nothing else to check then.
func plain(s string) bool {
	last := byte('.')
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && last != '.':
		default:
			return false
		}
		last = s[i]
	}
	return last != '.'
}

// Match reports whether topic matches pattern token by token: "*" stands for
// exactly one token, a final ">" for one or more. Both must be valid.
func Match(pattern, topic string) bool {
	for {
		p, patternRest, morePattern := strings.Cut(pattern, ".")
		t, topicRest, moreTopic := strings.Cut(topic, ".")
		if p == ">" && !morePattern {
			return true
		}
		if p != "*" && p != t || morePattern != moreTopic {
			return false
		}
		if !morePattern {
			return true
		}
		pattern, topic = patternRest, topicRest
	}
}

// Validate returns an error that wraps [ErrInvalid] unless ev can be carried by
// every transport: a valid topic, an ID and a type that are UTF-8, and a payload
// that is empty or a JSON object of at most [MaxPayload] bytes. The object must
// be one that every parser of JSON accepts: of valid Unicode, also in escapes,
// nested at most 999 deep, and without numbers beyond the range of a float64. The
// error does not quote the payload.
func (ev *Event) Validate() error { return ev.ValidateSize(MaxPayload) }

// ValidateSize is Validate with another limit for the payload, in bytes, for
// authors of a transport that carries more than [MaxPayload].
func (ev *Event) ValidateSize(maxPayload int) error {
	if err := ValidateTopic(ev.Topic); err != nil {
		return err
	}
	n := len(ev.Payload)
	switch {
	case !utf8.ValidString(ev.ID):
		return fmt.Errorf("%w ID of an event on %s: not UTF-8", ErrInvalid, ev.Topic)
	case !utf8.ValidString(ev.Type):
		return fmt.Errorf("%w type of an event on %s: not UTF-8", ErrInvalid, ev.Topic)
	case n > maxPayload:
		return fmt.Errorf("%w payload on %s: %d bytes long; at most %d are allowed", ErrInvalid, ev.Topic, n, maxPayload)
	case n > 0 && !jsontext.IsObject(ev.Payload, jsontext.MaxDepth-1): // the envelope is one more
		if ev.Payload[0] == '{' && json.Valid(ev.Payload) {
			return fmt.Errorf("%w payload on %s: not Unicode, nested too deep, or with a number out of range", ErrInvalid, ev.Topic)
		}
		return fmt.Errorf("%w payload on %s: not a JSON object", ErrInvalid, ev.Topic)
	}
	return nil
}
