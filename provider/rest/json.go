package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/decnet/enrich/provider"
)

// Decode parses body, which must be one JSON value, into v. A byte order mark at
// its beginning is ignored. The error says what is wrong and where, and holds no
// part of body.
func Decode(body []byte, v any) error {
	body = withoutBOM(body)
	if decodeMembers(body, v) {
		return nil
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return foreign("the body is empty")
	case trimmed[0] == '<':
		return foreign("the body is a web page, not JSON")
	case !bytes.ContainsAny(trimmed[:1], `{["`) && !json.Valid(trimmed):
		return foreign("the body is text, not JSON")
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		if syntax.Offset >= int64(len(body)) {
			return errors.New("the body is JSON that breaks off")
		}
		return fmt.Errorf("the body is not JSON; see byte %d", syntax.Offset)
	}
	return errors.New("the body is JSON of an unexpected shape")
}

// foreign is an error about a body that does not even begin as JSON does, and so is
// not the service's.
type foreign string

func (e foreign) Error() string { return string(e) }

// About returns an error if said, the address that an answer names, is not addr.
// An answer that names none counts as one about addr.
func About(addr netip.Addr, said String) error {
	if !said.OK {
		return nil
	}
	if a, err := provider.ParseAddr(said.Value); err != nil || a != addr {
		return errors.New("the answer is about another address")
	}
	return nil
}

// Raw returns raw in the form of [provider.Finding].Raw; see [provider.CapRaw].
// Bytes that are not UTF-8 become U+FFFD: a JSON string may hold them, and
// databases refuse them.
func Raw(raw []byte) json.RawMessage {
	raw = withoutBOM(raw)
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	return provider.CapRaw(raw)
}

// withoutBOM returns b without the UTF-8 byte order mark that some servers put in
// front (RFC 8259, section 8.1).
func withoutBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }
