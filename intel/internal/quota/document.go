package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// document is a budget as it is stored. Times are in microseconds since 1970.
// Programs that know only a part of it, and drop the rest, work on the same
// document.
type document struct {
	Version int `json:"v"`
	account
	Other *account `json:"other,omitempty"` // of the key that was used before
}

// account is the budget of one key.
type account struct {
	Key      string           `json:"key,omitempty"` // provider.Accounted; empty if not known
	Until    int64            `json:"until,omitempty"`
	Why      Reason           `json:"why,omitempty"`
	Failures int              `json:"failures,omitempty"`
	Steps    int              `json:"steps,omitempty"`
	Busy     int64            `json:"busy,omitempty"`
	Costs    []costDocument   `json:"costs,omitempty"`
	Windows  []windowDocument `json:"windows,omitempty"`
}

type costDocument struct {
	Addr  netip.Addr `json:"addr"`
	Calls int        `json:"calls"`
	First int64      `json:"first"`
}

type windowDocument struct {
	Window   time.Duration `json:"window"`
	Calendar bool          `json:"calendar,omitempty"`
	Declared int           `json:"declared"`
	Calls    int           `json:"calls"`
	Unused   bool          `json:"unused,omitempty"` // the quota is not configured now
	Used     [][2]int64    `json:"used,omitempty"`   // bucket and number of calls
}

const documentVersion = 1

var errDamaged = errors.New("the stored budget is damaged")

// plausible reports whether the account can be one of ours.
func (a *account) plausible() bool {
	if a.Failures < 0 || a.Steps < 0 || len(a.Costs) > maxCosts {
		return false
	}
	for _, c := range a.Costs {
		if !c.Addr.IsValid() || c.Calls < 1 {
			return false
		}
	}
	for i := range a.Windows {
		wd := &a.Windows[i]
		if wd.Window < time.Second {
			return false
		}
		limit := math.MaxInt64/wd.empty().width - 1
		for _, used := range wd.Used {
			if used[1] < 1 || used[0] < -limit || used[0] > limit {
				return false
			}
		}
	}
	return true
}

// window returns what the account says of the quota, of one over as much time, or
// else of the one over the longest time, which has the most calls.
func (a *account) window(q provider.Quota) (found *windowDocument) {
	for i := range a.Windows {
		wd := &a.Windows[i]
		switch {
		case found == nil:
			found = wd
		case wd.Window == q.Window:
			if found.Window != q.Window || wd.Calendar == q.Calendar {
				found = wd
			}
		case found.Window != q.Window && wd.Window > found.Window:
			found = wd
		}
	}
	return found
}

// configured reports whether the quotas of the account are those of the budget.
func (a *account) configured(b *Budget) bool {
	n := 0
	for i := range a.Windows {
		wd := &a.Windows[i]
		if wd.Unused {
			continue
		}
		n++
		if !slices.ContainsFunc(b.windows, func(w window) bool {
			return w.Window == wd.Window && w.Calendar == wd.Calendar && w.declared == wd.Declared
		}) {
			return false
		}
	}
	return n == len(b.windows)
}

// empty returns the window as it was stored, without its calls.
func (wd *windowDocument) empty() *window {
	q := provider.Quota{Window: wd.Window, Calendar: wd.Calendar}
	return &window{Quota: q, width: width(q)}
}

// account returns the budget as it is stored.
func (b *Budget) account() account {
	c := &b.caution
	a := account{Key: b.key, Failures: c.failures, Steps: c.steps}
	if !b.until.IsZero() {
		a.Until, a.Why = b.until.UnixMicro(), b.why
	}
	if !c.busy.IsZero() {
		a.Busy = c.busy.UnixMicro()
	}
	for _, spent := range c.costs {
		a.Costs = append(a.Costs, costDocument{spent.addr, spent.calls, spent.first.UnixMicro()})
	}
	for i := range b.windows {
		w := &b.windows[i]
		wd := windowDocument{w.Window, w.Calendar, w.declared, w.Calls, false, make([][2]int64, len(w.buckets))}
		for j, s := range w.buckets {
			wd.Used[j] = [2]int64{s.index, int64(s.calls)}
		}
		a.Windows = append(a.Windows, wd)
	}
	a.Windows = append(a.Windows, b.unused...)
	return a
}

// encode returns the budget as a document.
func (b *Budget) encode() []byte {
	text, _ := json.Marshal(document{documentVersion, b.account(), b.other}) // numbers and text always marshal
	return text
}

// decode replaces what is spent by what a document says about the budget's key. A
// key that the document does not have begins its own counts; the document keeps
// those of the last two. Other quotas of the same key keep what was spent, but
// neither a limit that the source reported nor a pause.
func (b *Budget) decode(text []byte) error {
	var doc document
	if len(text) > 0 {
		err := json.Unmarshal(text, &doc)
		if doc.Version > documentVersion {
			return fmt.Errorf("the stored budget has version %d and this program knows versions up to %d; use a newer program",
				doc.Version, documentVersion)
		}
		if err != nil || doc.Version < 1 || !doc.plausible() || doc.Other != nil && !doc.Other.plausible() {
			return errDamaged
		}
	}
	a, other := &doc.account, doc.Other
	switch {
	case a.Key == b.key || a.Key == "":
	case other != nil && other.Key == b.key:
		a, other = other, a
	default: // a new key
		a, other = &account{}, a
	}
	b.other = other
	b.load(a)
	return nil
}

// load replaces what is spent by what an account says.
func (b *Budget) load(a *account) {
	b.until, b.why, b.caution = time.Time{}, None, caution{costs: b.caution.costs[:0]}
	if a.configured(b) {
		if a.Until != 0 {
			b.until, b.why = time.UnixMicro(a.Until), a.Why
		}
		b.caution.failures, b.caution.steps = a.Failures, a.Steps
	}
	if a.Busy != 0 {
		b.caution.busy = time.UnixMicro(a.Busy)
	}
	for _, spent := range a.Costs {
		b.caution.costs = append(b.caution.costs, cost{spent.Addr, spent.Calls, time.UnixMicro(spent.First)})
	}
	for i := range b.windows {
		w := &b.windows[i]
		w.Calls, w.buckets, w.total = w.declared, w.buckets[:0], 0
		wd := a.window(w.Quota)
		if wd == nil {
			continue
		}
		if wd.Window == w.Window && wd.Declared == w.declared && wd.Calls > 0 {
			w.Calls = b.limit(w, wd.Calls)
		}
		stored := wd.empty()
		for _, used := range wd.Used {
			w.add(stored.end(used[0]).Add(-1), int(used[1]))
		}
	}
	b.unused = b.unused[:0]
	for _, wd := range a.Windows {
		same := func(w window) bool { return w.Window == wd.Window && w.Calendar == wd.Calendar }
		if len(wd.Used) > 0 && !slices.ContainsFunc(b.windows, same) {
			wd.Unused = true
			b.unused = append(b.unused, wd)
		}
	}
}

// use makes the budget that of another key.
func (b *Budget) use(key string) {
	text := b.encode()
	b.key = key
	_ = b.decode(text) // it is our own
}
