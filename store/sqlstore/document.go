package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// A ledger is stored as a JSON array of entries, without Raw, see pack. Times are in
// microseconds; numbers are absent when zero. Attributes are as store.AppendAttrs
// writes them.

// entryDoc is the form of a store.Entry that is decoded.
type entryDoc struct {
	Provider string      `json:"provider"`
	State    store.State `json:"state"`
	Due      int64       `json:"due"`
	Expires  int64       `json:"expires"`
	Failures int         `json:"failures"`
	Error    string      `json:"error"`
	Reason   string      `json:"reason"`
	Rank     int         `json:"rank"`
	Since    int64       `json:"since"`
	Addr     netip.Addr  `json:"addr"`
	Finding  *findingDoc `json:"finding"`
}

type findingDoc struct {
	Addr     netip.Addr                 `json:"addr"`
	Known    bool                       `json:"known"`
	Verdict  provider.Verdict           `json:"verdict"`
	Observed int64                      `json:"observed"`
	TTL      time.Duration              `json:"ttl"`
	Raw      bool                       `json:"raw"` // there is one, elsewhere
	Attrs    map[string]json.RawMessage `json:"attrs"`
}

// ledger is a decoded document.
type ledger struct {
	entries []store.Entry
	raws    []string // providers whose finding has a Raw
}

// entry returns the entry of the named provider, or nil.
func (l *ledger) entry(name string) *store.Entry { return find(l.entries, name) }

func find(entries []store.Entry, name string) *store.Entry {
	for i := range entries {
		if entries[i].Provider == name {
			return &entries[i]
		}
	}
	return nil
}

// encode returns the document. hasRaw tells which findings have a Raw. It fails
// with an error that wraps store.ErrInvalid for a finding that cannot be stored.
func encode(entries []store.Entry, hasRaw func(*store.Entry) bool) (string, error) {
	b := make([]byte, 0, 256*(len(entries)+1))
	b = append(b, '[')
	for i := range entries {
		e := &entries[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"provider":`...), e.Provider)
		b = strconv.AppendUint(append(b, `,"state":`...), uint64(e.State), 10)
		b = appendNumber(b, "due", micros(e.Due))
		b = appendNumber(b, "expires", micros(e.Expires))
		b = appendNumber(b, "failures", int64(e.Failures))
		if e.Error != "" {
			b = appendString(append(b, `,"error":`...), e.Error)
		}
		if e.Reason != "" {
			b = appendString(append(b, `,"reason":`...), e.Reason)
		}
		b = appendNumber(b, "rank", int64(e.Rank))
		b = appendNumber(b, "since", micros(e.Since))
		if e.Addr.IsValid() {
			b = append(e.Addr.AppendTo(append(b, `,"addr":"`...)), '"')
		}
		if f := e.Finding; f != nil {
			var err error
			if b, err = appendFinding(append(b, `,"finding":`...), f, hasRaw(e)); err != nil {
				return "", fmt.Errorf("%w: finding of %s: %w", store.ErrInvalid, e.Provider, err)
			}
		}
		b = append(b, '}')
	}
	return string(append(b, ']')), nil
}

func appendFinding(b []byte, f *provider.Finding, raw bool) ([]byte, error) {
	if f.Verdict > provider.Malicious {
		return nil, fmt.Errorf("verdict %d is not one of the five", f.Verdict)
	}
	b = append(b, `{"addr":"`...)
	if f.Addr.IsValid() {
		b = provider.Canonical(f.Addr).AppendTo(b)
	}
	b = append(b, '"')
	if f.Known {
		b = append(b, `,"known":true`...)
	}
	if f.Verdict != provider.None {
		b = append(append(append(b, `,"verdict":"`...), f.Verdict.String()...), '"')
	}
	b = appendNumber(b, "observed", micros(f.ObservedAt))
	b = appendNumber(b, "ttl", int64(f.TTL))
	if raw {
		b = append(b, `,"raw":true`...)
	}
	if f.Attrs != nil {
		var err error
		if b, err = store.AppendAttrs(append(b, `,"attrs":`...), f.Attrs); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendNumber appends a member unless it is zero.
func appendNumber(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return strconv.AppendInt(b, n, 10)
}

// appendString appends s, made storable, as a JSON string.
func appendString(b []byte, s string) []byte { return jsontext.AppendString(b, decnet.CleanText(s)) }

// decode is the inverse of encode.
func decode(text string) (ledger, error) {
	if text == "[]" {
		return ledger{}, nil
	}
	var docs []entryDoc
	if err := json.Unmarshal([]byte(text), &docs); err != nil {
		return ledger{}, errDocument
	}
	l := ledger{entries: make([]store.Entry, len(docs))}
	for i, d := range docs {
		e := &l.entries[i]
		*e = store.Entry{
			Provider: d.Provider, State: d.State, Due: fromMicros(d.Due), Expires: fromMicros(d.Expires),
			Failures: d.Failures, Error: d.Error, Reason: d.Reason, Rank: d.Rank, Since: fromMicros(d.Since), Addr: d.Addr,
		}
		f := d.Finding
		if f == nil {
			continue
		}
		e.Finding = &provider.Finding{
			Provider: d.Provider, Addr: f.Addr, Known: f.Known, Verdict: f.Verdict,
			ObservedAt: fromMicros(f.Observed), TTL: f.TTL,
		}
		if f.Raw {
			l.raws = append(l.raws, d.Provider)
		}
		if f.Attrs == nil {
			continue
		}
		var err error
		if e.Finding.Attrs, err = store.DecodeAttrs(f.Attrs); err != nil {
			return ledger{}, errDocument
		}
	}
	return l, nil
}

// errDocument says nothing about what the document holds.
var errDocument = errors.New("stored ledger is damaged: not a document of this program")

// encodeDecision and decodeDecision convert the verdict.
func encodeDecision(d *aggregate.Decision) (string, error) {
	clean := *d
	clean.Policy, clean.Reasons = decnet.CleanText(d.Policy), slices.Clone(d.Reasons)
	for i := range clean.Reasons {
		r := &clean.Reasons[i]
		r.Provider, r.ObservedAt = decnet.CleanText(r.Provider), clamp(r.ObservedAt)
		r.Group, r.Ignored = decnet.CleanText(r.Group), aggregate.Ignored(decnet.CleanText(string(r.Ignored)))
		r.By = decnet.CleanText(r.By)
	}
	b, err := json.Marshal(clean)
	if err != nil {
		return "", fmt.Errorf("%w: decision: %w", store.ErrInvalid, err)
	}
	return string(b), nil
}

func decodeDecision(text string) (d aggregate.Decision, err error) {
	if text == "{}" {
		return d, nil
	}
	if json.Unmarshal([]byte(text), &d) != nil {
		return d, errDocument
	}
	return d, nil
}
