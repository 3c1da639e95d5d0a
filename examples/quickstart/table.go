package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// The words for what is not a verdict.
const (
	noOpinion   = "no opinion"   // answered, and has nothing to say
	notAnswered = "not answered" // asked, and failed
	notAsked    = "not asked"    // does not apply, or was left out
	waiting     = "waiting"      // to be asked when the provider can be
	pending     = "pending"      // to be asked
)

// words are all words in the table, strongest first.
var words = []string{
	provider.Malicious.String(), provider.Suspicious.String(), provider.Benign.String(), provider.Unknown.String(),
	noOpinion, notAnswered, waiting, pending, notAsked,
}

// table prints records in columns.
type table struct {
	src     *sources
	address int // width of the column
}

// row is a record in words.
type row struct {
	address string
	verdict string
	cells   []string // one for each of services
	why     string
}

func newTable(addrs []netip.Addr, src *sources) *table {
	t := &table{src: src, address: len("address")}
	for _, addr := range addrs {
		t.address = max(t.address, len(addr.String()))
	}
	return t
}

// header writes the line of headings; an error is the writer's to keep.
func (t *table) header(w io.Writer) {
	r := row{address: "address", verdict: "verdict", why: "why"}
	for _, service := range services {
		r.cells = append(r.cells, service.name)
	}
	_ = t.print(w, r)
}

func (t *table) print(w io.Writer, r row) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s", t.address, r.address)
	for _, cell := range append([]string{r.verdict}, r.cells...) {
		fmt.Fprintf(&b, "  %-*s", len(notAnswered), cell)
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(b.String()+"  "+r.why, " "))
	return err
}

func (t *table) row(r *store.Record) row {
	row := row{address: r.IP}
	for _, service := range services {
		row.cells = append(row.cells, t.cell(service.name, r.Entry(service.name)))
	}
	row.verdict = verdict(r, row.cells)
	row.why = why(r)
	return row
}

// cell says in a word what a provider said.
func (t *table) cell(name string, e *store.Entry) string {
	switch {
	case e != nil && e.Finding != nil && e.Finding.Verdict != provider.None:
		return e.Finding.Verdict.String()
	case e != nil && e.Finding != nil:
		return noOpinion
	case !t.src.has(name), e != nil && e.State == store.NotApplicable:
		return notAsked
	case e != nil && e.Error != "":
		return notAnswered
	case e != nil && e.State == store.Waiting:
		return waiting
	}
	return pending
}

// verdict returns the verdict on a record, and if there is none the word that
// tells best why.
func verdict(r *store.Record, cells []string) string {
	if r.Decision.Verdict != provider.None {
		return r.Decision.Verdict.String()
	}
	for _, word := range []string{noOpinion, notAnswered, waiting, pending} {
		if slices.Contains(cells, word) {
			return word
		}
	}
	return notAsked
}

// why names the providers whose opinion made the verdict, and those that
// failed.
func why(r *store.Record) string {
	var parts []string
	for _, reason := range r.Decision.Reasons {
		if reason.Decisive {
			parts = append(parts, named(reason.Provider, details(r.Entry(reason.Provider))))
		}
	}
	for i := range r.Entries {
		if e := &r.Entries[i]; e.Error != "" {
			parts = append(parts, e.Provider+" failed: "+e.Error)
		}
	}
	return strings.Join(parts, ", ")
}

func named(name string, details []string) string {
	if len(details) == 0 {
		return name
	}
	return name + " (" + strings.Join(details, ", ") + ")"
}

// details returns what is most telling about a finding.
func details(e *store.Entry) (list []string) {
	if e == nil || e.Finding == nil {
		return nil
	}
	attrs := e.Finding.Attrs
	if name, ok := attrs["name"].(string); ok && name != "" && name != "unknown" {
		list = append(list, clean(name))
	}
	if score, ok := attrs["score"].(int64); ok {
		list = append(list, fmt.Sprintf("score %d", score))
	}
	if listed, ok := attrs["is_whitelisted"].(bool); ok && listed {
		list = append(list, "whitelisted")
	}
	if family, ok := attrs["malware_family"].(string); ok {
		list = append(list, clean(family))
	}
	if families, ok := attrs["malware_families"].([]string); ok {
		for _, family := range families[:min(len(families), 2)] {
			list = append(list, clean(family))
		}
	}
	if !time.Now().Before(e.Expires) {
		list = append(list, "stale")
	}
	return list
}

// clean makes foreign text fit for a terminal: what does not print, such as an
// escape sequence, becomes a question mark, and long text is cut.
func clean(s string) string {
	const longest = 40
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > longest {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
