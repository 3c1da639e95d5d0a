package intel

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// Explanation says why an attacker has the verdict that it has, and what every
// source has to do with it. Make one with [Explain] or [Worker.Explain]. In words
// it is [Explanation.String].
type Explanation struct {
	// AttackerUUID identifies the attacker.
	AttackerUUID uuid.UUID `json:"attacker_uuid"`
	// AttackerIP is the address as it was registered. It may be any text.
	AttackerIP string `json:"attacker_ip"`
	// FirstSeen and LastSeen are in UTC; zero if they are not known.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	// At is when the explanation was made, in UTC. Ages and states are those of
	// this time.
	At time.Time `json:"at"`
	// Verdict is the combined verdict; [provider.None] if no source has an opinion.
	Verdict provider.Verdict `json:"verdict"`
	// Sentence explains the verdict, see [aggregate.Decision.String].
	Sentence string `json:"sentence"`
	// Policy is the name of the policy that decided, like "strongest/2", and
	// Fingerprint what [aggregate.Fingerprint] makes of it and of the profiles. Both
	// are empty before the first decision.
	Policy      string `json:"policy"`
	Fingerprint string `json:"fingerprint"`
	// Outdated says that the worker would decide by another fingerprint now. A
	// rescore, or the next finding, brings the decision up to date.
	Outdated bool `json:"outdated"`
	// Score is the balance of the evidence from -1 to 1, and zero if the policy
	// does not weigh.
	Score float64 `json:"score"`
	// Conflict says that opinions contradict each other.
	Conflict bool `json:"conflict"`
	// Revision counts the saves that stored a finding.
	Revision uint64 `json:"revision"`
	// CachedAt is when a finding was last stored, in UTC; zero if none was.
	CachedAt time.Time `json:"cached_at,omitzero"`
	// ExpiresAt is when the first finding stops being fresh, in UTC; zero if there is
	// none.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Sources are the configured providers and those that once answered, in order
	// of name.
	Sources []SourceExplanation `json:"sources"`
}

// SourceExplanation is one source's part of an [Explanation].
type SourceExplanation struct {
	// Provider is the source's name.
	Provider string `json:"provider"`
	// Configured says that the worker has this provider. The findings of others do
	// not count. It is true if it is not known which providers there are.
	Configured bool `json:"configured"`
	// State is "fresh" (its answer is reused), "stale" (its answer has expired and
	// was not replaced yet), "due" (it has not answered yet and is to be asked),
	// "waiting", "not applicable", or "not configured".
	State string `json:"state"`
	// Answered says that there is an answer. Without one, Known is false, Verdict is
	// none and the times are zero.
	Answered bool `json:"answered"`
	// Known says that the source has the address.
	Known bool `json:"known"`
	// Verdict is the source's opinion.
	Verdict provider.Verdict `json:"verdict"`
	// ObservedAt is when the answer was obtained and ExpiresAt when it stops being
	// fresh, in UTC.
	ObservedAt time.Time `json:"observed_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	// AgeSeconds is the answer's age.
	AgeSeconds int64 `json:"age_seconds"`
	// Stale says that the answer has expired.
	Stale bool `json:"stale"`
	// Counts says that the opinion went into the verdict, and Decisive that the
	// verdict would have been another without it and the other decisive ones.
	Counts   bool `json:"counts"`
	Decisive bool `json:"decisive"`
	// Weight is what the opinion weighs, from 0 to 1. It is zero if the policy does
	// not weigh.
	Weight float64 `json:"weight"`
	// Rank and Group are from the provider's profile.
	Rank  int    `json:"rank"`
	Group string `json:"group,omitempty"`
	// Why says in words what the answer did for the verdict, or why it did not count.
	// Without an answer it is empty, or says that the source is not configured.
	Why string `json:"why,omitempty"`
	// By is the source because of which the opinion does not count.
	By string `json:"by,omitempty"`
	// Waiting says what the lookup is waiting for; empty if it is not. Since is from
	// when on, and Until is when that ends, in UTC, zero if that is not known.
	Waiting string    `json:"waiting,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	// NotApplicable says why the source is not asked about this address; empty if it
	// is.
	NotApplicable string `json:"not_applicable,omitempty"`
	// Error says what failed at the last attempt, and Failures how often in a row; both
	// are zero after a success. ErrorText is the text of the provider's last error,
	// about whatever address, while Error is set and the worker knows it. NextTry is
	// when the source is asked again, in UTC; zero if that is now, or not known.
	Error     string    `json:"error,omitempty"`
	Failures  int       `json:"failures,omitempty"`
	ErrorText string    `json:"error_text,omitempty"`
	NextTry   time.Time `json:"next_try,omitzero"`
	// Attrs are all attributes of the answer, by name.
	Attrs map[string]any `json:"attrs,omitempty"`
	// Raw is the answer as the source gave it, as far as it is kept. [Explain] leaves
	// it out unless it is told otherwise.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// ExplainOptions says what [Explain] may use beyond the record.
type ExplainOptions struct {
	// Now is the time of the explanation. Default: the current time.
	Now time.Time
	// Status is what the worker is doing; the backlog is not used. Nil if there is
	// no worker: it is then not known what sources wait for, or which are
	// configured.
	Status *Status
	// Guard is the one of the worker.
	Guard provider.Guard
	// Policy is the fingerprint that the worker decides by; empty if that is not
	// known.
	Policy string
	// Raw includes the answers as the sources gave them.
	Raw bool
}

// Explain explains the verdict on a record. It does no I/O. The explanation shares
// the findings' attributes with the record.
func Explain(rec *store.Record, o ExplainOptions) Explanation {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	d := &rec.Decision
	x := Explanation{
		AttackerUUID: rec.ID, AttackerIP: rec.IP, FirstSeen: rec.FirstSeen, LastSeen: rec.LastSeen,
		At: o.Now.UTC(), Verdict: d.Verdict, Sentence: d.String(), Fingerprint: d.Policy,
		Outdated: o.Policy != "" && d.Policy != "" && d.Policy != o.Policy,
		Score:    d.Score, Conflict: d.Conflict, Revision: rec.Revision, CachedAt: rec.CachedAt,
		Sources: []SourceExplanation{},
	}
	x.Policy, _, _ = strings.Cut(d.Policy, "@")
	if rec.Revision > 0 {
		x.ExpiresAt = decnet.ExpiresAt(rec)
	}
	if rec.Revision == 0 {
		x.Sentence = "no verdict: nothing was learnt about this attacker yet"
	}
	for _, name := range sourceNames(rec, o.Status) {
		x.Sources = append(x.Sources, explainSource(rec, name, &o))
	}
	return x
}

// sourceNames returns the names of the configured providers and of those with an
// entry, in order.
func sourceNames(rec *store.Record, s *Status) (names []string) {
	for i := range rec.Entries {
		names = append(names, rec.Entries[i].Provider)
	}
	if s != nil {
		for i := range s.Providers {
			names = append(names, s.Providers[i].Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// explainSource explains the part of one source.
func explainSource(rec *store.Record, name string, o *ExplainOptions) SourceExplanation {
	x := SourceExplanation{Provider: name, Configured: true, State: "due"}
	var status *ProviderStatus
	if o.Status != nil {
		i := slices.IndexFunc(o.Status.Providers, func(p ProviderStatus) bool { return p.Name == name })
		if x.Configured = i >= 0; x.Configured {
			status = &o.Status.Providers[i]
		}
	}
	e := rec.Entry(name)
	if e == nil {
		e = &store.Entry{Provider: name}
	}
	x.Error, x.Failures = e.Error, e.Failures
	if x.Error != "" && status != nil {
		if x.ErrorText = status.LastError; x.ErrorText == "" && status.List != nil {
			x.ErrorText = status.List.Error
		}
	}
	if f := e.Finding; f != nil {
		x.answer(e, o)
		x.judge(rec, f)
	}
	switch {
	case !x.Configured:
		x.State, x.NextTry = "not configured", time.Time{}
		if !x.Answered {
			x.Why = x.State
		}
	case e.State == store.NotApplicable:
		x.State, x.NotApplicable = "not applicable", notApplicable(rec, e.Reason, o.Guard)
	case e.State == store.Waiting:
		x.State, x.Since = "waiting", e.Since
		x.Waiting, x.Until = waitingFor(status, e.Error)
	case x.Answered && x.Stale:
		x.State, x.NextTry = "stale", e.Due
	case x.Answered && e.State == store.Fresh:
		x.State = "fresh"
	case x.Answered: // due although its answer has not expired
		x.State, x.NextTry = "fresh", e.Due
	default:
		x.NextTry = e.Due
	}
	if !x.NextTry.After(o.Now) {
		x.NextTry = time.Time{}
	}
	return x
}

// Answer says in a few words what the source answered.
func (x *SourceExplanation) Answer() string {
	switch {
	case !x.Answered:
		return "no answer yet"
	case x.Verdict != provider.None:
		return x.Verdict.String()
	case !x.Known:
		return "not listed"
	}
	return "no opinion"
}

// answer enters what the source said.
func (x *SourceExplanation) answer(e *store.Entry, o *ExplainOptions) {
	f := e.Finding
	x.Answered, x.Known, x.Verdict = true, f.Known, f.Verdict
	x.ObservedAt, x.ExpiresAt = f.ObservedAt, e.Expires
	x.AgeSeconds = int64(max(o.Now.Sub(f.ObservedAt), 0) / time.Second)
	x.Stale = !e.Expires.IsZero() && !o.Now.Before(e.Expires)
	x.Attrs = f.Attrs
	if o.Raw {
		x.Raw = f.Raw
	}
}

// judge enters what the answer did for the verdict.
func (x *SourceExplanation) judge(rec *store.Record, f *provider.Finding) {
	var reason *aggregate.Reason
	for i := range rec.Decision.Reasons {
		if rec.Decision.Reasons[i].Provider == f.Provider {
			reason = &rec.Decision.Reasons[i]
		}
	}
	switch {
	case f.Addr.IsValid() && f.Addr != rec.Addr():
		x.Why = "does not count: it is about " + f.Addr.String() + ", which is no longer the attacker's address"
		return
	case reason == nil && !x.Configured:
		x.Why = "does not count: the source is no longer configured"
		return
	case reason == nil && f.Verdict == provider.None:
		x.Why = "has no opinion"
		return
	case reason == nil && x.Stale:
		x.Why = "does not count: too old"
		return
	case reason == nil:
		x.Why = "did not count at the last decision"
		return
	}
	x.Decisive, x.Weight, x.Rank, x.Group, x.By = reason.Decisive, reason.Weight, reason.Rank, reason.Group, reason.By
	x.Counts = reason.Ignored == ""
	switch {
	case x.Decisive:
		x.Why = "decides"
	case x.Counts && f.Verdict == provider.Unknown:
		x.Why = "counts, but cannot tell"
	case x.Counts:
		x.Why = "counts, but does not decide"
	default:
		x.Why = "does not count: " + ignoredWords(reason)
	}
}

// ignoredWords says why an opinion does not count.
func ignoredWords(r *aggregate.Reason) string {
	by := func(text, other string) string {
		if r.By == "" {
			return other
		}
		return text + r.By
	}
	switch r.Ignored {
	case aggregate.NoOpinion:
		return "no opinion"
	case aggregate.Weightless:
		return "too old, or its source is not trusted"
	case aggregate.Derived:
		return by("copies ", "copies a source that has an opinion")
	case aggregate.Dependent:
		return by("in one group with ", "another source of its group already counts")
	case aggregate.Outranked:
		return by("outranked by ", "outranked")
	}
	return string(r.Ignored)
}

// waitingFor says what a lookup at a provider waits for, and until when. Refusal is
// the error of its entry: that the provider refused the key or the configuration.
// A process that did not make the lookup knows it only from there.
func waitingFor(p *ProviderStatus, refusal string) (what string, until time.Time) {
	switch {
	case p == nil:
		return "the provider cannot be asked at the moment", time.Time{}
	case p.Mend != "":
		return p.State + ": " + p.Mend, p.Until
	case p.State != "working" && p.State != "unproven" && p.State != "probing":
		return p.State, p.Until
	case refusal != "":
		return "another try, as the provider refused the key or the configuration", time.Time{}
	}
	return "its turn: others go first", time.Time{}
}

// notApplicable says in words why a provider is not asked about the attacker's
// address: for the reason in its entry or, in one that was saved before reasons were,
// for what can be told now.
func notApplicable(rec *store.Record, reason string, guard provider.Guard) string {
	addr := rec.Addr()
	if reason == "" {
		reason = guard.Refuses(addr)
	}
	switch {
	case reason == provider.NotAnAddress:
		return "the attacker's address is not an IP address"
	case reason == provider.OwnNetwork:
		return "the address is in one of your own networks"
	case reason == provider.Private:
		return "the address is private or has a special purpose, and never leaves"
	case reason == provider.OtherFamily:
		return "the source does not cover IPv6"
	case reason == provider.RejectedBySource:
		return "the source rejected the address"
	case reason == provider.Spared:
		return "the call is spared: " + harmlessTo(rec) + " knows the address to be harmless, and outranks the source"
	case reason != "":
		return reason
	case addr.Is6():
		return "the source does not cover IPv6, or rejected the address"
	}
	return "the source rejected the address"
}

// harmlessTo returns the name of the source of highest rank that says benign.
func harmlessTo(rec *store.Record) string {
	name, rank := "a list", provider.RankReputation
	for _, r := range rec.Decision.Reasons {
		if r.Verdict == provider.Benign && r.Rank > rank {
			name, rank = r.Provider, r.Rank
		}
	}
	return name
}

// ExplainRecord is [Explain] where there is no worker, with nothing but the record.
func ExplainRecord(_ context.Context, rec *store.Record, raw bool) Explanation {
	return Explain(rec, ExplainOptions{Raw: raw})
}

// ExplainRecord explains the verdict on a record with what the worker knows about
// its providers, and what those in memory say of an attacker whom they do not have. It
// does not ask the store.
func (w *Worker) ExplainRecord(ctx context.Context, rec *store.Record, raw bool) Explanation {
	now := time.Now()
	s := Status{Providers: make([]ProviderStatus, len(w.sources))}
	for i, source := range w.sources {
		s.Providers[i] = source.status(ctx, now)
	}
	all := *rec
	all.Entries = w.withMisses(ctx, rec, now)
	return Explain(&all, ExplainOptions{Now: now, Status: &s, Guard: w.config.Guard, Policy: w.policy, Raw: raw})
}

// withMisses returns the record's entries and, for local providers without one, what
// they say now: nothing is stored about an attacker whom they do not have.
func (w *Worker) withMisses(ctx context.Context, rec *store.Record, now time.Time) []store.Entry {
	entries, addr := slices.Clip(rec.Entries), rec.Addr()
	for _, s := range w.sources {
		if !s.Local() || s.late.Load() || rec.Entry(s.Name()) != nil {
			continue
		}
		e := store.Entry{Provider: s.Name(), State: store.Fresh}
		if e.Reason = s.Refuses(addr); e.Reason != "" {
			e.State = store.NotApplicable
		} else {
			f, err := s.LookupLocal(ctx, addr, now)
			list := s.List()
			switch {
			case err != nil:
				e.State, e.Error = store.Due, provider.Kind(err).Error()
			case f != nil: // about to be stored
				continue
			default:
				e.Finding = &provider.Finding{Provider: s.Name(), Addr: addr, ObservedAt: now.UTC()}
				if !list.LoadedAt.IsZero() {
					e.Finding.ObservedAt = list.LoadedAt
				}
				if list.Stale {
					e.Expires = e.Finding.ObservedAt
				}
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// Explain explains the verdict on one attacker, without the answers as the sources
// gave them. It queries no provider and changes nothing. It returns the store's
// error, which wraps store.ErrNotFound if there is no such attacker.
func (w *Worker) Explain(ctx context.Context, id uuid.UUID) (Explanation, error) {
	rec, err := w.config.Store.Get(ctx, id)
	if err != nil {
		return Explanation{}, fmt.Errorf("intel: explain: %w", named(id, err))
	}
	return w.ExplainRecord(ctx, &rec, false), nil
}
