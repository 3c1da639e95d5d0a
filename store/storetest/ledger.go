package storetest

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// stored saves the update and fails the test unless the record is then what
// the update says, to Get and to Claim.
func (f *fixture) stored(a store.Attacker, u store.Update) {
	f.Helper()
	f.save(u)
	want := store.Record{Attacker: a, Entries: u.Entries, Revision: u.Revision, CachedAt: u.SavedAt}
	if u.Decision != nil {
		want.Decision = *u.Decision
	}
	f.same("Get after a save", f.get(a.ID), want)
	if diffs := difference(f.take(a), want, false); len(diffs) > 0 {
		f.Fatalf("Claim after a save: attacker %s differs:\n%s", a.ID, strings.Join(diffs, "\n"))
	}
}

func ledger(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attacker(0)
	a.IP = "2a01:4f8:c17:b8f::2"
	a.FirstSeen, a.LastSeen = a.FirstSeen.Add(123456*time.Microsecond), a.LastSeen.Add(999999*time.Microsecond)
	f.observe(a)
	rec := f.take(a)
	v6, v4 := rec.Addr(), netip.MustParseAddr("45.9.148.3")
	entries := []store.Entry{
		{
			Provider: "abuseipdb", State: store.Fresh, Expires: f.now.Add(time.Hour + time.Microsecond),
			Finding: &provider.Finding{
				Provider: "abuseipdb", Addr: v6, Known: true, Verdict: provider.Malicious,
				Attrs: map[string]any{
					"score": int64(100), "categories": []int64{18, 22, 5},
					"most": int64(math.MaxInt64), "least": int64(math.MinInt64), "beyond_float": int64(1<<53 + 1),
					"whole": 5.0, "fraction": 0.1, "large": -1e300, "zero": 0.0,
					"yes": true, "no": false, "nothing": nil,
					"no_numbers": []int64{}, "no_texts": []string{}, "nil_numbers": []int64(nil), "nil_texts": []string(nil),
					"empty": "", "number_text": "5", "true_text": "true", "null_text": "null",
				},
				Raw:        json.RawMessage(`{"abuseConfidenceScore":100,"countryCode":null,"reports":[{"a":1.5}]}`),
				ObservedAt: f.now.Add(-time.Microsecond), TTL: 24 * time.Hour,
			},
		},
		{
			Provider: "custom_1", State: store.Due, Due: f.now.Add(time.Minute + time.Microsecond),
			Failures: 3, Error: provider.ErrRateLimited.Error(), Addr: v6,
		},
		{
			Provider: "feodo", State: store.Fresh, Expires: f.now.Add(2 * time.Hour),
			Finding: &provider.Finding{
				Provider: "feodo", Addr: v6, Attrs: map[string]any{"listed": false},
				ObservedAt: f.now.AddDate(0, 0, -3), TTL: time.Second,
			},
		},
		{
			Provider: "greynoise", State: store.Due, Expires: f.now.Add(-time.Hour), Failures: 1,
			Error: provider.ErrUnavailable.Error(),
			Finding: &provider.Finding{
				Provider: "greynoise", Addr: v4, Known: true, Verdict: provider.Benign,
				Attrs: map[string]any{
					"classification": strings.Repeat("long ", 20), "name": strings.Repeat("ÄöÜ€😀", 60),
					"tags": []string{"", "a", "a", "Ünïcode ☃", strings.Repeat("t", 300)},
				},
				Raw: json.RawMessage(`["an array"]`), ObservedAt: f.now.AddDate(-1, 0, 0),
			},
		},
		{
			Provider: "threatfox", State: store.Waiting, Expires: f.now,
			Finding: &provider.Finding{Provider: "threatfox", Addr: v6, Verdict: provider.Unknown, ObservedAt: f.now},
		},
		{Provider: "zzz", State: store.NotApplicable, Reason: provider.OwnNetwork},
	}
	u := f.update(rec, entries...)
	u.SavedAt = f.now.Add(time.Microsecond)
	u.Decision = &aggregate.Decision{Verdict: provider.Malicious, Policy: "storetest/1", Score: -0.123, Conflict: true, Reasons: []aggregate.Reason{
		{
			Provider: "abuseipdb", Verdict: provider.Malicious, ObservedAt: f.now.Add(-time.Microsecond), Decisive: true,
			Weight: 0.877, Age: 12345 * time.Hour,
		},
		{
			Provider: "greynoise", Verdict: provider.Benign, ObservedAt: f.now.AddDate(-1, 0, 0), Stale: true,
			Weight: 1e-3, Group: "sensors", Ignored: aggregate.Dependent,
			Rank: provider.RankOperator, By: "abuseipdb",
		},
	}}
	f.stored(a, u)

	b := f.attacker(1)
	f.observe(b)
	z, y, x := f.fresh("zzz", b.Addr()), awaits("yyy"), excluded("xxx")
	f.save(f.update(f.take(b), z, x, y))
	got := f.get(b.ID)
	if len(got.Entries) != 3 || got.Entries[0].Provider != "xxx" || got.Entries[1].Provider != "yyy" || got.Entries[2].Provider != "zzz" {
		f.Errorf("the entries %+v are not in order of provider name", got.Entries)
	}
}

func hostileText(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	const text = "a\x00b\xff\xfec 'quoted' \"double\" \\ %s ; -- \u2028 \U0001F480 {}[]"
	e := f.fresh("custom", a.Addr())
	e.Error = text
	e.Finding.Attrs = map[string]any{"text": text, "texts": []string{text, "\x00", "\xff"}}
	e.Finding.Raw = json.RawMessage(`{"text":"a\u0000b \ud800 ` + "\xff\xfe" + ` \u2028 '\\ %s","k\u0000":["\u0000"]}`)
	g := f.fresh("greynoise", a.Addr())
	g.Finding.Attrs = map[string]any{
		"classification": text, "name": strings.Repeat("\x00\xff€", 100), "tags": []string{text},
	}
	u := f.update(f.take(a), e, g)
	u.Decision.Policy = text
	f.stored(a, u)
}

func unchangedFindings(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	before := f.enrich(a, "a", "b", "c")
	rec := f.take(a)
	for i := range rec.Entries {
		bare := *rec.Entries[i].Finding
		bare.Raw = nil
		rec.Entries[i].Finding = &bare
	}
	entries := rec.Entries
	entries[0].State, entries[0].Due = store.Due, f.now.Add(time.Minute)
	entries[0].Failures, entries[0].Error = 2, provider.ErrUnavailable.Error()
	replaced := f.fresh("b", a.Addr())
	replaced.Finding.Attrs = map[string]any{"new": true}
	replaced.Finding.Raw = json.RawMessage(`{"new":true}`)
	entries[1] = replaced
	u := f.update(rec, entries...)
	u.Changed = []string{"b"}
	f.save(u)

	want := before
	want.Entries = []store.Entry{before.Entries[0], replaced, before.Entries[2]}
	want.Entries[0].State, want.Entries[0].Due = entries[0].State, entries[0].Due
	want.Entries[0].Failures, want.Entries[0].Error = entries[0].Failures, entries[0].Error
	want.Revision, want.Decision = u.Revision, *u.Decision
	f.same("Get after a save that changed one finding of three", f.get(a.ID), want)
}

func droppedFinding(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	before := f.enrich(a, "a", "b", "c")
	rec := f.take(a)
	u := f.update(rec, rec.Entries[0], store.Entry{Provider: "b", State: store.Waiting})
	u.Changed = []string{"b"}
	f.save(u)
	want := before
	want.Entries = []store.Entry{before.Entries[0], {Provider: "b", State: store.Waiting}}
	want.Revision, want.Decision = u.Revision, *u.Decision
	f.same("Get after one finding was dropped and one entry left out", f.get(a.ID), want)
}

func keptDecision(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	before := f.enrich(a, "a")
	rec := f.take(a)
	rec.Entries[0].Failures = 1
	u := f.update(rec, rec.Entries...)
	u.Changed, u.Decision, u.SavedAt, u.Revision = nil, nil, time.Time{}, rec.Revision
	f.save(u)
	want := before
	want.Entries[0].Failures = 1
	f.same("Get after a save without a decision and a time", f.get(a.ID), want)

	u = f.update(f.take(a), rec.Entries...)
	u.Changed, u.SavedAt, u.Decision = nil, time.Time{}, &aggregate.Decision{}
	f.save(u)
	want.Revision, want.Decision = u.Revision, aggregate.Decision{}
	f.same("Get after a save of the decision that nothing is known", f.get(a.ID), want)
}

func notFound(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	f.attackers(1)
	id := uuid.New()
	if rec, err := f.store.Get(f.ctx, id); !errors.Is(err, store.ErrNotFound) {
		f.Errorf("Get of an unknown attacker returned %+v, %v; want an error that wraps ErrNotFound", rec, err)
	}
}

func saveDeleted(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	recs := f.claim().Records
	f.forget(all[1].ID)
	var ups []store.Update
	for _, rec := range recs {
		ups = append(ups, f.update(rec, f.fresh("a", rec.Addr())))
	}
	f.save(ups...)
	for i, a := range all {
		rec, err := f.store.Get(f.ctx, a.ID)
		if i == 1 && !errors.Is(err, store.ErrNotFound) {
			f.Errorf("an attacker that was forgotten before the save is %+v, %v; want an error that wraps ErrNotFound", rec, err)
		}
		if i != 1 && rec.Revision != 1 {
			f.Errorf("an attacker saved together with a forgotten one is %+v, %v", rec, err)
		}
	}
}

func saveMany(tb testing.TB, h Harness) {
	const n = 1000
	f := setUp(tb, h)
	all := f.attackers(n)
	recs := f.claim(limit(n)).Records
	f.expect("a claim of many", recs, all...)
	var ups []store.Update
	for i, rec := range recs {
		e := f.fresh("a", rec.Addr())
		e.Finding.Attrs = map[string]any{"n": int64(i)}
		u := f.update(rec, e, f.fresh("b", rec.Addr()))
		u.Event = f.event()
		ups = append(ups, u)
	}
	f.save(ups...)
	for i, a := range all {
		want := store.Record{Attacker: a, Entries: ups[i].Entries, Revision: 1, CachedAt: f.now, Decision: *ups[i].Decision}
		f.same("Get after a save of many", f.get(a.ID), want)
	}
	f.refused(all, ups...)
	if events := f.unpublished(0, 2*n); events != nil && len(events) != n {
		f.Errorf("%d events are unpublished after %d saves", len(events), n)
	}
}

func noAliasing(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := []store.Attacker{f.attacker(0), f.attacker(1)}
	kept := append([]store.Attacker{}, all...)
	f.observe(all...)
	all[0].IP, all[1].ID = "changed", uuid.New()
	a := kept[0]
	f.same("Get after the attackers passed to Observe were changed", f.get(a.ID), store.Record{Attacker: a})

	u := f.update(f.take(a), f.fresh("a", a.Addr()), f.fresh("b", a.Addr()))
	f.save(u)
	want := f.get(a.ID)
	spoil := func(entries []store.Entry, reasons []aggregate.Reason) {
		for i := range entries {
			entries[i] = store.Entry{Provider: "spoiled"}
		}
		for i := range reasons {
			reasons[i] = aggregate.Reason{Provider: "spoiled"}
		}
	}
	check := func(what string) {
		f.Helper()
		got := f.get(a.ID)
		f.same("Get after "+what, got, store.Record{
			Attacker: a, Entries: []store.Entry{f.fresh("a", a.Addr()), f.fresh("b", a.Addr())},
			Decision: aggregate.Decision{
				Verdict: want.Decision.Verdict, Policy: want.Decision.Policy,
				Reasons: []aggregate.Reason{{Provider: "a", Verdict: provider.Suspicious, ObservedAt: f.now, Decisive: true}},
			},
			Revision: 1, CachedAt: f.now,
		})
	}
	check("a save")
	spoil(u.Entries, u.Decision.Reasons)
	u.Changed[0] = "spoiled"
	check("the update passed to Save was changed")
	rec := f.get(a.ID)
	spoil(rec.Entries, rec.Decision.Reasons)
	check("a record that Get returned was changed")
	rec = f.take(a)
	spoil(rec.Entries, rec.Decision.Reasons)
	check("a record that Claim returned was changed")
	if l, ok := store.As[store.Lister](f.store); ok {
		page, err := l.List(f.ctx, store.ListRequest{Limit: 9})
		if err != nil {
			f.Fatalf("List: %v", err)
		}
		for _, rec := range page.Records {
			spoil(rec.Entries, rec.Decision.Reasons)
		}
		check("a record that List returned was changed")
	}
}
