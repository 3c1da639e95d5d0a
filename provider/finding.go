package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/decnet/enrich/internal/jsontext"
)

// Finding is what one provider said about one address at one moment. It is
// immutable once returned: it is shared between records, stores and events
// without being copied.
type Finding struct {
	// Provider is the name of the provider that answered.
	Provider string
	// Addr is the address that was asked about, in its [Canonical] form.
	Addr netip.Addr
	// Known tells whether the provider has this address at all. False means
	// that it answered and does not; attributes may be present all the same.
	Known bool
	// Verdict is the provider's opinion. The zero value is no opinion.
	Verdict Verdict
	// Attrs are the details worth keeping, by name. Names follow
	// [ValidateName]. Values are of type string, bool, int64, float64 (finite),
	// []string, []int64, or nil; stores give back the same types. All of them
	// together, with their names, take at most [MaxAttrs] bytes.
	Attrs map[string]any
	// Raw is the part of the answer kept for people to read: valid JSON, or
	// empty if there is none. See [CapRaw].
	Raw json.RawMessage
	// ObservedAt is when the answer was obtained, in UTC; for bulk data, when
	// the data was loaded. The worker replaces a zero or future time by now.
	ObservedAt time.Time
	// TTL is how long the answer may be reused before the provider is asked
	// again. Zero leaves it to the worker.
	TTL time.Duration
	// Usage is what the source said about its allowance along with the answer;
	// nil if it said nothing. It is for whoever called: it is not stored.
	Usage *Usage
}

// Validate reports what makes f unfit to be stored: a provider or an address that
// is missing, or a field that breaks the rules given with [Finding]. Some ten problems
// at most are joined in one error.
func (f *Finding) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if f.Provider == "" {
		refuse("the finding names no provider")
	}
	if !f.Addr.IsValid() {
		refuse("the finding names no address")
	}
	if f.Verdict > Malicious {
		refuse("verdict %d is not one of the five", f.Verdict)
	}
	if f.TTL < 0 {
		refuse("TTL %v is negative", f.TTL)
	}
	if len(f.Raw) > 0 && !jsontext.IsObject(f.Raw, jsontext.MaxDepth) && !json.Valid(f.Raw) { // the first is faster
		refuse("raw is not valid JSON")
	}
	size := 0
	for name, v := range f.Attrs {
		if err := ValidateName(name); err != nil {
			refuse("attribute %w", err)
		}
		n, err := sizeOf(v)
		if err != nil {
			refuse("attribute %q %w", name, err)
		}
		if size += len(name) + n; size > MaxAttrs {
			errs = append(errs, fmt.Errorf("attributes take %d bytes or more, with their names; at most %d are allowed", size, MaxAttrs))
			break
		}
	}
	return errors.Join(errs...)
}

// sizeOf returns what the value of an attribute counts, and an error if it cannot
// be one.
func sizeOf(v any) (size int, err error) {
	switch v := v.(type) {
	case nil, bool:
		return 1, nil
	case int64:
		return 8, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 8, errors.New("is not a finite number")
		}
		return 8, nil
	case string:
		return len(v), nil
	case []string:
		for _, s := range v {
			size += len(s) + 1
		}
		return size, nil
	case []int64:
		return 8 * len(v), nil
	}
	return 0, fmt.Errorf("has type %T; use string, bool, int64, float64, []string or []int64", v)
}

// MaxAttrs is the greatest size in bytes of a finding's attributes together, with
// their names. A number counts 8 bytes.
const MaxAttrs = 64 << 10

// MaxRaw is the size in bytes above which [CapRaw] replaces a raw answer.
const MaxRaw = 256 << 10

// CapRaw returns raw in the form [Finding].Raw wants it: compacted, and if it
// is longer than [MaxRaw] then replaced by {"truncated":true,"bytes":N}, where
// N is its length. Input that is not valid JSON yields nil.
func CapRaw(raw []byte) json.RawMessage {
	if len(raw) <= MaxRaw && jsontext.IsCompact(raw) { // most are, and this is faster
		return bytes.Clone(raw)
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	if json.Compact(&b, raw) != nil {
		return nil
	}
	if b.Len() > MaxRaw {
		return fmt.Appendf(nil, `{"truncated":true,"bytes":%d}`, b.Len())
	}
	return b.Bytes()
}

// ValidateName returns an error unless name can prefix a column or a payload
// key: one to 32 characters out of a-z, 0-9 and underscore, the first of them
// a letter.
func ValidateName(name string) error {
	ok := len(name) >= 1 && len(name) <= 32
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || i > 0 && (c >= '0' && c <= '9' || c == '_')
	}
	if !ok {
		return fmt.Errorf("name %q is not 1 to 32 characters of a-z, 0-9 and _ starting with a letter", name)
	}
	return nil
}
