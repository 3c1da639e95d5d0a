package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/provider"
)

// findingDoc is the form of a finding that EncodeFinding writes.
type findingDoc struct {
	Provider   string           `json:"provider"`
	Addr       netip.Addr       `json:"addr"`
	Known      bool             `json:"known,omitempty"`
	Verdict    provider.Verdict `json:"verdict,omitempty"`
	ObservedAt *int64           `json:"observed,omitempty"` // microseconds since 1970; nil for the zero time
	TTL        time.Duration    `json:"ttl,omitempty"`
	Attrs      json.RawMessage  `json:"attrs,omitempty"`
	Raw        json.RawMessage  `json:"raw,omitempty"`
}

// EncodeFinding returns a finding as a JSON object, for stores that keep findings as
// text or bytes. [DecodeFinding] is the inverse. The time is kept to the microsecond,
// and Usage is not kept. The error wraps [ErrInvalid] for a verdict, an attribute or a
// raw answer that no finding may have.
func EncodeFinding(f *provider.Finding) ([]byte, error) {
	doc := findingDoc{
		Provider: f.Provider, Addr: provider.Canonical(f.Addr), Known: f.Known, Verdict: f.Verdict, TTL: f.TTL, Raw: f.Raw,
	}
	if !f.ObservedAt.IsZero() {
		doc.ObservedAt = new(f.ObservedAt.UnixMicro())
	}
	if f.Verdict > provider.Malicious {
		return nil, fmt.Errorf("%w: finding of %s: verdict %d is not one of the five", ErrInvalid, f.Provider, f.Verdict)
	}
	if f.Attrs != nil {
		attrs, err := AppendAttrs(nil, f.Attrs)
		if err != nil {
			return nil, fmt.Errorf("%w: finding of %s: %w", ErrInvalid, f.Provider, err)
		}
		doc.Attrs = attrs
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // a raw answer is kept
	if err := encoder.Encode(doc); err != nil {
		return nil, fmt.Errorf("%w: finding of %s: raw is not valid JSON", ErrInvalid, f.Provider)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeFinding reads what [EncodeFinding] has written, with the same types of
// attributes. The text of an error holds no part of data.
func DecodeFinding(data []byte) (*provider.Finding, error) {
	var doc findingDoc
	if json.Unmarshal(data, &doc) != nil {
		return nil, errFinding
	}
	f := &provider.Finding{
		Provider: doc.Provider, Addr: doc.Addr, Known: doc.Known, Verdict: doc.Verdict, TTL: doc.TTL, Raw: doc.Raw,
	}
	if doc.ObservedAt != nil {
		f.ObservedAt = time.UnixMicro(*doc.ObservedAt).UTC()
	}
	if doc.Attrs != nil {
		var attrs map[string]json.RawMessage
		if json.Unmarshal(doc.Attrs, &attrs) != nil {
			return nil, errFinding
		}
		var err error
		if f.Attrs, err = DecodeAttrs(attrs); err != nil {
			return nil, err
		}
	}
	return f, nil
}

var errFinding = errors.New("not a finding that this program has encoded")

// AppendAttrs appends attributes as a JSON object, in order of name, in a form that
// keeps their types:
//
//	string, bool, nil   as in JSON
//	int64               a number without a point or an exponent
//	float64             a number with one
//	[]string, []int64   an array; {"ints":[]}, {"ints":null} and
//	                    {"strings":null} where an array would not tell
//
// Texts are made storable everywhere: bytes that are not UTF-8 become U+FFFD, and NUL
// characters are left out. [DecodeAttrs] is the inverse.
func AppendAttrs(b []byte, attrs map[string]any) ([]byte, error) {
	var few [16]string // more than most findings have
	names := few[:0]
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		var err error
		if b, err = appendAttr(b, attrs[name]); err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
	}
	return append(b, '}'), nil
}

// DecodeAttrs returns the attributes that [AppendAttrs] has written.
func DecodeAttrs(raw map[string]json.RawMessage) (map[string]any, error) {
	attrs := make(map[string]any, len(raw))
	for name, text := range raw {
		v, err := decodeAttr(text)
		if err != nil {
			return nil, errFinding
		}
		attrs[name] = v
	}
	return attrs, nil
}

func appendString(b []byte, s string) []byte { return jsontext.AppendString(b, jsontext.Clean(s)) }

func appendAttr(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendString(b, v), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("not a finite number")
		}
		start := len(b)
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
		if !strings.ContainsAny(string(b[start:]), ".e") {
			b = append(b, ".0"...)
		}
		return b, nil
	case []string:
		if v == nil {
			return append(b, `{"strings":null}`...), nil
		}
		return jsontext.AppendList(b, v, appendString), nil
	case []int64:
		switch {
		case v == nil:
			return append(b, `{"ints":null}`...), nil
		case len(v) == 0:
			return append(b, `{"ints":[]}`...), nil
		}
		return jsontext.AppendList(b, v, jsontext.AppendInt), nil
	}
	return nil, fmt.Errorf("type %T; use string, bool, int64, float64, []string or []int64", v)
}

func decodeAttr(raw json.RawMessage) (any, error) {
	switch raw[0] {
	case 'n':
		return nil, nil
	case 't', 'f':
		return raw[0] == 't', nil
	case '"':
		return decodeAs[string](raw)
	case '[':
		if len(raw) > 1 && raw[1] != '"' && raw[1] != ']' {
			return decodeAs[[]int64](raw)
		}
		return decodeAs[[]string](raw)
	case '{':
		var lists map[string][]int64
		if err := json.Unmarshal(raw, &lists); err != nil {
			return nil, err
		}
		if ints, ok := lists["ints"]; ok {
			return ints, nil
		}
		return []string(nil), nil
	}
	if strings.ContainsAny(string(raw), ".eE") {
		return decodeAs[float64](raw)
	}
	return decodeAs[int64](raw)
}

func decodeAs[T any](raw json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}
