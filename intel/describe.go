package intel

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// explainState sets why an entry is not applicable.
func (w *Worker) explainState(l *ledger, e *store.Entry) {
	if e.State != store.NotApplicable {
		e.Reason = ""
		return
	}
	s := w.sources.byName(e.Provider)
	if s == nil {
		return // it is not ours to say
	}
	switch e.Reason = s.Refuses(l.addr); {
	case e.Reason != "":
	case e.Error == rejected:
		e.Reason = provider.RejectedBySource
	default:
		e.Reason = provider.Spared
	}
}

// describe returns what the log says at Debug about a pass that ends: which
// providers have answered in it, and what the others wait for.
func (w *Worker) describe(l *ledger, pending []string, now time.Time) []any {
	line := []any{"attacker", l.record.ID, "verdict", l.record.Decision.Verdict.String(), "answered", slices.Clone(l.answered)}
	var waiting, excluded []string
	for i := range l.record.Entries {
		e := &l.record.Entries[i]
		if e.State == store.NotApplicable && w.sources.byName(e.Provider) != nil {
			excluded = append(excluded, e.Provider+": "+e.Reason)
		}
	}
	for _, name := range pending {
		why := "due"
		if e := l.record.Entry(name); e != nil {
			switch {
			case e.State == store.Waiting:
				why = w.waitsFor(name, now)
			case e.Error != "":
				why = fmt.Sprintf("%s, again at %s", e.Error, e.Due.Format(time.RFC3339))
			case e.State == store.Due && e.Due.After(now):
				why = "put off until " + e.Due.Format(time.RFC3339)
			}
		}
		waiting = append(waiting, name+": "+why)
	}
	return append(line, "waiting", waiting, "not_applicable", excluded)
}

// waitsFor returns what the entries that wait for a provider are waiting for.
func (w *Worker) waitsFor(name string, now time.Time) string {
	s := w.sources.byName(name)
	if s == nil {
		return "not configured"
	}
	st := s.Status(context.Background(), now)
	why := string(st.State)
	if st.State == gate.Working || st.State == gate.Unproven {
		why = "its turn"
	}
	if !st.Until.IsZero() && st.State != gate.Probing {
		why += " until " + st.Until.UTC().Format(time.RFC3339)
	}
	return why
}

// invalid counts the attackers whose address is not an IP address.
type invalid struct {
	mu   sync.Mutex
	seen map[uuid.UUID]struct{} // at most maxUnsaved of them
	n    uint64
}

// add counts an attacker, once, and reports whether it is the first of all.
func (v *invalid) add(id uuid.UUID) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.seen[id]; known {
		return false
	}
	if v.seen == nil || len(v.seen) >= maxUnsaved {
		v.seen = make(map[uuid.UUID]struct{})
	}
	v.seen[id] = struct{}{}
	v.n++
	return v.n == 1
}

func (v *invalid) count() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.n
}

// noteInvalid takes note of an attacker whose address is not an IP address.
func (w *Worker) noteInvalid(a *store.Attacker) {
	if w.invalid.add(a.ID) {
		w.log.Warn("the address of an attacker is not an IP address; no provider is queried about such attackers, and the status counts them",
			"attacker", a.ID, "address", fmt.Sprintf("%.60q", a.IP))
	}
}
