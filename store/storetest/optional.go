package storetest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// answer is what an answer is compared by.
type answer struct {
	provider string
	addr     netip.Addr
	score    int64
	raw      string
	expires  time.Time
}

func (f *fixture) answers(now time.Time, addrs ...netip.Addr) []answer {
	f.Helper()
	got, err := optional[store.Answers](f).Answers(f.ctx, now, addrs...)
	if err != nil {
		f.Fatalf("Answers: %v", err)
	}
	var out []answer
	for _, g := range got {
		score, _ := g.Finding.Attrs["score"].(int64)
		raw, _ := json.Marshal(canonical(g.Finding.Raw))
		out = append(out, answer{g.Finding.Provider, g.Finding.Addr, score, string(raw), g.Expires.UTC()})
	}
	slices.SortFunc(out, func(a, b answer) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.provider, b.provider), a.expires.Compare(b.expires))
	})
	return out
}

// answered stores a finding and returns the answer it is.
func (f *fixture) answered(a store.Attacker, name string, addr netip.Addr, score int64, expires time.Time) answer {
	f.Helper()
	e := f.fresh(name, addr)
	e.Finding.Attrs["score"], e.Expires = score, expires
	rec := f.take(a)
	entries := slices.DeleteFunc(rec.Entries, func(old store.Entry) bool { return old.Provider == name })
	u := f.update(rec, append(entries, e)...)
	u.Changed = []string{name}
	f.save(u)
	raw, _ := json.Marshal(canonical(e.Finding.Raw))
	return answer{name, addr, score, string(raw), expires}
}

func answers(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Answers](f)
	all := f.attackers(4)
	one, two, none := address(1), netip.MustParseAddr("2a01:4f8:c17:b8f::2"), address(99)
	soon, late := f.now.Add(time.Hour), f.now.Add(2*time.Hour)
	f.answered(all[0], "a", one, 1, soon)
	best := f.answered(all[1], "a", one, 2, late)
	f.answered(all[2], "a", one, 3, soon)
	b := f.answered(all[0], "b", one, 4, soon)
	other := f.answered(all[3], "a", two, 5, soon)
	check := func(what string, got []answer, want ...answer) {
		f.Helper()
		if !slices.Equal(got, want) {
			f.Fatalf("Answers %s returned\n%+v; want\n%+v", what, got, want)
		}
	}
	check("about one address", f.answers(f.now, one), best, b)
	check("about another address", f.answers(f.now, two), other)
	check("about several addresses", f.answers(f.now, two, none, one, two), best, b, other)
	check("about an address nobody was asked about", f.answers(f.now, none))
	c := f.answered(all[1], "a", two, 6, late)
	second := f.answered(all[2], "a", one, 7, soon.Add(time.Minute))
	check("after the best answer was replaced by one about another address", f.answers(f.now, one), second, b)
	check("about the address of the new one", f.answers(f.now, two), c)
}

func answersBoundary(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Answers](f)
	a := f.attackers(1)[0]
	expires := f.now.Add(time.Hour)
	want := f.answered(a, "a", a.Addr(), 1, expires)
	if got := f.answers(expires.Add(-time.Microsecond), a.Addr()); !slices.Equal(got, []answer{want}) {
		f.Errorf("Answers a microsecond before the finding expires returned %+v; want %+v", got, want)
	}
	if got := f.answers(expires, a.Addr()); len(got) > 0 {
		f.Errorf("Answers at the time the finding expires returned %+v; want none", got)
	}
}

func answersForgotten(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Answers](f)
	all := f.attackers(3)
	addr := address(1)
	f.answered(all[0], "a", addr, 1, f.now.Add(3*time.Hour))
	f.answered(all[1], "a", addr, 2, f.now.Add(2*time.Hour))
	want := f.answered(all[2], "a", addr, 3, f.now.Add(time.Hour))
	f.forget(all[0].ID)
	u := f.update(f.take(all[1]), store.Entry{Provider: "a"})
	u.Changed = []string{"a"}
	f.save(u)
	if got := f.answers(f.now, addr); !slices.Equal(got, []answer{want}) {
		f.Errorf("Answers after one was forgotten and one dropped returned %+v; want %+v", got, want)
	}
}

// pages lists everything, and fails the test if a page is larger than asked.
func (f *fixture) pages(req store.ListRequest) []store.Record {
	f.Helper()
	s := optional[store.Lister](f)
	var all []store.Record
	for range 100 {
		page, err := s.List(f.ctx, req)
		if err != nil {
			f.Fatalf("List: %v", err)
		}
		if len(page.Records) > req.Limit {
			f.Fatalf("List with a limit of %d returned %d records", req.Limit, len(page.Records))
		}
		all = append(all, page.Records...)
		if page.Next == "" {
			return all
		}
		req.Cursor = page.Next
	}
	f.Fatal("List did not come to an end within 100 pages")
	return nil
}

func budget(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.QuotaLedger](f)
	check := func(name, doc string, version uint64) {
		f.Helper()
		got, at, err := s.Budget(f.ctx, name)
		if err != nil || string(got) != doc || at != version {
			f.Fatalf("Budget of %q returned %q, %d, %v; want %q, %d", name, got, at, err, doc, version)
		}
	}
	swap := func(name string, version uint64, doc string, want bool) {
		f.Helper()
		if got, err := s.SwapBudget(f.ctx, name, version, []byte(doc)); err != nil || got != want {
			f.Fatalf("SwapBudget of %q at version %d returned %v, %v; want %v", name, version, got, err, want)
		}
	}
	check("a", "", 0)
	swap("a", 1, "early", false)
	check("a", "", 0)
	swap("a", 0, `{"left":25}`, true)
	swap("a", 0, "again", false)
	check("a", `{"left":25}`, 1)
	swap("b", 0, "other", true)
	swap("a", 1, `{"left":24}`, true)
	swap("a", 1, "late", false)
	check("a", `{"left":24}`, 2)
	check("b", "other", 1)
	large := strings.Repeat("0123456789abcdef", 1<<10)
	swap("b", 1, large, true)
	check("b", large, 2)
	doc := []byte("kept?")
	if _, err := s.SwapBudget(f.ctx, "c", 0, doc); err != nil {
		f.Fatalf("SwapBudget: %v", err)
	}
	copy(doc, "xxxxx")
	got, _, _ := s.Budget(f.ctx, "c")
	copy(got, "yyyyy")
	check("c", "kept?", 1)
}

// budgetConcurrently has many goroutines swap the same version.
func budgetConcurrently(tb testing.TB, h Harness) {
	const rivals, rounds = 8, 10
	f := setUp(tb, h)
	s := optional[store.QuotaLedger](f)
	for round := range uint64(rounds) {
		var (
			wg      sync.WaitGroup
			winners = make(chan string, rivals)
		)
		for i := range rivals {
			wg.Go(func() {
				doc := fmt.Sprintf("round %d, rival %d", round, i)
				swapped, err := s.SwapBudget(f.ctx, "a", round, []byte(doc))
				if err != nil {
					f.Errorf("SwapBudget: %v", err)
				}
				if swapped {
					winners <- doc
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			f.Fatalf("%d of %d calls of SwapBudget at version %d succeeded; want 1", len(winners), rivals, round)
		}
		want := <-winners
		doc, version, err := s.Budget(f.ctx, "a")
		if err != nil || string(doc) != want || version != round+1 {
			f.Fatalf("Budget returned %q, version %d, %v; want %q, version %d", doc, version, err, want, round+1)
		}
	}
}

func list(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Lister](f)
	f.expect("List of an empty store", f.pages(store.ListRequest{Limit: 3}))
	all := make([]store.Attacker, 10)
	for i := range all {
		all[i] = f.attacker(i / 4) // several were last seen at the same time
	}
	f.observe(all...)
	f.enrich(all[3], "a", "b")
	got := f.pages(store.ListRequest{Limit: 3})
	if len(got) != len(all) {
		f.Fatalf("List in pages of 3 returned %d records; want %d", len(got), len(all))
	}
	seen := make(map[string]bool)
	for i, rec := range got {
		if i > 0 && rec.LastSeen.After(got[i-1].LastSeen) {
			f.Errorf("record %d of a listing was seen at %v, after the one before it at %v", i, rec.LastSeen, got[i-1].LastSeen)
		}
		if seen[rec.ID.String()] {
			f.Errorf("attacker %s is listed twice", rec.ID)
		}
		seen[rec.ID.String()] = true
		f.same("List", rec, f.get(rec.ID))
	}
	if got := f.pages(store.ListRequest{Limit: math.MaxInt}); len(got) != len(all) {
		f.Fatalf("List with the greatest limit returned %d records; want %d", len(got), len(all))
	}

	// A page does not depend on what came in, or went, before its cursor.
	first, err := s.List(f.ctx, store.ListRequest{Limit: 3})
	if err != nil {
		f.Fatalf("List: %v", err)
	}
	for range 2 {
		newest := f.attacker(0)
		newest.LastSeen = f.now.Add(time.Hour)
		f.observe(newest)
	}
	f.forget(first.Records[2].ID)
	rest := f.pages(store.ListRequest{Limit: 3, Cursor: first.Next})
	if len(rest) != 7 || rest[0].ID != got[3].ID {
		f.Errorf("the pages after the first have %d records; want the 7 that they had before", len(rest))
	}
	for _, bad := range []store.ListRequest{{}, {Limit: -1}, {Limit: 1, Cursor: "no cursor"}} {
		if _, err := s.List(f.ctx, bad); !errors.Is(err, store.ErrInvalid) {
			f.Errorf("List(%+v) returned %v; want an error that wraps ErrInvalid", bad, err)
		}
	}
}

func listEnriched(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Lister](f)
	all := f.attackers(6)
	f.enrich(all[1], "a")
	f.enrich(all[4], "a")
	f.schedule(all[2], f.now.Add(time.Hour), awaits("a"))
	f.expect("List of the enriched", f.pages(store.ListRequest{Limit: 1, Enriched: true}), all[1], all[4])
	f.expect("List of all", f.pages(store.ListRequest{Limit: 6}), all...)
}

func listFiltered(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Lister](f)
	all := make([]store.Attacker, 6)
	for i := range all {
		all[i] = f.attacker(i)
	}
	all[2].IP, all[3].IP = "2A01:4f8::C2", "2a02:c207::ADD:E55"
	f.observe(all...)
	for i, verdict := range []provider.Verdict{provider.Malicious, provider.None, provider.Benign, provider.Malicious} {
		rec := f.take(all[i])
		u := f.update(rec, f.fresh("a", address(i)))
		u.Decision.Verdict = verdict
		f.save(u)
	}
	list := func(what string, req store.ListRequest, want ...store.Attacker) {
		f.Helper()
		for _, req.Limit = range []int{1, 2, 9, math.MaxInt} {
			f.expect("List of "+what, f.pages(req), want...)
		}
	}
	list("the malicious", store.ListRequest{Verdicts: []provider.Verdict{provider.Malicious}}, all[0], all[3])
	list("those without an opinion", store.ListRequest{Verdicts: []provider.Verdict{provider.None}}, all[1])
	list("two verdicts", store.ListRequest{Verdicts: []provider.Verdict{provider.Benign, provider.Malicious}}, all[0], all[2], all[3])
	list("those seen since", store.ListRequest{SeenSince: all[2].LastSeen}, all[:3]...)
	list("those seen before", store.ListRequest{SeenBefore: all[2].LastSeen}, all[3:]...)
	list("those seen in between", store.ListRequest{SeenSince: all[4].LastSeen, SeenBefore: all[1].LastSeen}, all[2:5]...)
	list("an address", store.ListRequest{Text: address(4).String()}, all[4])
	list("the same part of addresses", store.ListRequest{Text: "45.9."}, all[0], all[1], all[4], all[5])
	list("letters in another case", store.ListRequest{Text: "a01:4F8::c"}, all[2])
	list("a UUID", store.ListRequest{Text: strings.ToUpper(all[5].ID.String()[4:30])}, all[5])
	list("what is a pattern elsewhere", store.ListRequest{Text: "5%"})
	list("what stands for any character elsewhere", store.ListRequest{Text: "45_9"})
	list("everything at once", store.ListRequest{
		Verdicts: []provider.Verdict{provider.Malicious}, SeenBefore: all[0].LastSeen, Text: "aDD:e5", Enriched: true,
	}, all[3])
}

func listOfSource(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Lister](f)
	all := make([]store.Attacker, 6)
	for i := range all {
		all[i] = f.attacker(i)
	}
	f.observe(all...)
	for i, names := range [][]string{{"b_c", "a"}, {"a"}, {"b_c"}, {"bxc"}, {"a", "b_c"}} {
		rec := f.take(all[i])
		u := f.update(rec)
		for _, name := range names {
			e := f.fresh(name, address(i))
			e.Finding.Attrs["said \"so\""] = i < 2
			if e.Finding.Known = i != 2; !e.Finding.Known { // answered, and does not have it
				e.Finding.Verdict = provider.None
			}
			u.Entries = append(u.Entries, e)
			u.Changed = append(u.Changed, name)
		}
		slices.SortFunc(u.Entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
		slices.Sort(u.Changed)
		u.Revision, u.SavedAt = rec.Revision+1, f.now.Add(-time.Duration(i)*time.Hour)
		f.save(u)
	}
	list := func(what string, req store.ListRequest, want ...store.Attacker) {
		f.Helper()
		for _, req.Limit = range []int{1, 2, 9, math.MaxInt} {
			f.expect("List of "+what, f.pages(req), want...)
		}
	}
	list("those a source has", store.ListRequest{Source: "b_c"}, all[0], all[4])
	list("those another source has", store.ListRequest{Source: "bxc"}, all[3])
	list("those a source has that nobody knows", store.ListRequest{Source: "c"})
	list("those changed since", store.ListRequest{ChangedSince: f.now.Add(-2 * time.Hour)}, all[:3]...)
	list("those a source has, changed since", store.ListRequest{Source: "a", ChangedSince: f.now.Add(-time.Hour)}, all[0], all[1])
	list("all, for an attribute", store.ListRequest{OnlyTrue: "said \"so\""}, all...)
	for i, rec := range f.pages(store.ListRequest{Limit: 9, NoRaw: true, OnlyTrue: "said \"so\""}) {
		whole := f.get(rec.ID)
		for _, name := range []string{"a", "b_c"} {
			if e := rec.Entry(name); whole.Entry(name) != nil && i < 2 && (e == nil || e.Finding == nil || e.Finding.Attrs["said \"so\""] != true) {
				f.Errorf("List for an attribute returned attacker %d with the entry %+v of %s, which lacks it", i, e, name)
			}
		}
	}
}

func count(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Counter](f)
	all := make([]store.Attacker, 7)
	for i := range all {
		all[i] = f.attacker(i)
		all[i].LastSeen = f.now.Add(-time.Duration(i) * time.Hour)
		all[i].FirstSeen = all[i].LastSeen
	}
	f.observe(all...)
	for i, verdict := range []provider.Verdict{provider.Malicious, provider.None, provider.Malicious, provider.Malicious, provider.Benign, provider.Malicious} {
		rec := f.take(all[i])
		u := f.update(rec, f.fresh("a", address(i)))
		u.Decision.Verdict = verdict
		f.save(u)
	}
	from := f.now.Add(-4 * time.Hour)
	got, err := s.Count(f.ctx, store.CountRequest{From: from, To: f.now, Every: 2 * time.Hour})
	want := []store.Count{
		{From: from.UTC(), Verdict: provider.Benign, Attackers: 1}, {From: from.UTC(), Verdict: provider.Malicious, Attackers: 1},
		{From: from.Add(2 * time.Hour).UTC(), Verdict: provider.None, Attackers: 1},
		{From: from.Add(2 * time.Hour).UTC(), Verdict: provider.Malicious, Attackers: 1},
	}
	if err != nil || !slices.Equal(got, want) {
		f.Errorf("Count returned %v, %v; want %v", got, err, want)
	}
	for _, bad := range []store.CountRequest{{}, {From: f.now, To: f.now, Every: time.Hour}, {From: from, To: f.now}, {From: from, To: f.now, Every: time.Nanosecond}} {
		if _, err := s.Count(f.ctx, bad); !errors.Is(err, store.ErrInvalid) {
			f.Errorf("Count(%+v) returned %v; want an error that wraps ErrInvalid", bad, err)
		}
	}
}

func stats(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Statistician](f)
	all := f.attackers(10)
	f.enrich(all[0], "a")
	f.enrich(all[1], "a")
	f.schedule(all[2], f.now, f.fresh("a", all[2].Addr()))
	f.schedule(all[3], time.Time{}, awaits("a"))
	f.schedule(all[4], f.now.Add(time.Hour), awaits("a"), awaits("b"))
	f.schedule(all[5], time.Time{}, excluded("a"))
	f.take(all[6])
	f.announced(all[0])
	check := func(now time.Time, due int) {
		f.Helper()
		got, err := s.Stats(f.ctx, now)
		if err != nil {
			f.Fatalf("Stats: %v", err)
		}
		outbox := got.Outbox
		if _, ok := store.As[store.Outbox](f.store); ok && outbox != 1 {
			f.Errorf("Stats counts %d events in the outbox; want 1", outbox)
		}
		if got.Attackers != 10 || got.Enriched != 3 || got.Due != due || got.Leased != 1 ||
			got.Waiting["a"] != 2 || got.Waiting["b"] != 1 || got.Waiting["c"] != 0 {
			f.Errorf("Stats returned %+v; want 10 attackers, 3 enriched, %d due, 1 leased, 2 waiting for a and 1 for b", got, due)
		}
	}
	check(f.now, 4)
	check(f.now.Add(-time.Microsecond), 3)
	check(f.now.Add(time.Hour), 5)
}

func prune(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Pruner](f)
	all := f.attackers(3)
	at := f.now.Add(-time.Hour).Truncate(time.Second) // as all databases can keep it
	for i, observed := range []time.Time{at.Add(-time.Second), at, at.Add(time.Second)} {
		rec := f.take(all[i])
		u := f.update(rec, f.fresh("greynoise", all[i].Addr()), f.fresh("own", all[i].Addr()))
		for j := range u.Entries {
			u.Entries[j].Finding.ObservedAt = observed
		}
		f.save(u)
	}
	want := []store.Record{f.get(all[0].ID), f.get(all[1].ID), f.get(all[2].ID)}
	pruned := func(before time.Time, raws int) {
		f.Helper()
		got, err := s.Prune(f.ctx, before)
		if want := (store.Pruned{Raws: raws}); err != nil || got != want {
			f.Errorf("Prune of what is older than %v returned %+v, %v; want %+v", before, got, err, want)
		}
		for i := range want {
			for j := range want[i].Entries {
				if e := &want[i].Entries[j]; e.Finding.ObservedAt.Before(before) {
					bare := *e.Finding
					bare.Raw = nil
					e.Finding = &bare
				}
			}
			f.same("Get after Prune", f.get(all[i].ID), want[i])
		}
	}
	pruned(time.Time{}, 0)
	pruned(at, 2)
	pruned(at, 0)
	f.expect("a claim after Prune", f.claim().Records)
	pruned(at.Add(time.Minute), 4)
}

func migrate(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Migrator](f)
	a := f.attackers(1)[0]
	want := f.enrich(a, "a")
	errs := make(chan error)
	for range 4 {
		go func() { errs <- s.Migrate(f.ctx) }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			f.Errorf("Migrate of tables that are up to date: %v", err)
		}
	}
	f.same("Get after migrations", f.get(a.ID), want)
}

func reopen(tb testing.TB, h Harness) {
	if h.Reopen == nil {
		tb.Skip("the harness has no Reopen")
	}
	f := setUp(tb, h)
	all := f.attackers(7)
	f.announced(all[0])
	f.enrich(all[1], "a", "b")
	typed := f.fresh("c", all[1].Addr())
	typed.Finding.Attrs = allTypes()
	f.save(f.update(f.take(all[1]), typed))
	f.schedule(all[2], f.now.Add(time.Hour), f.fresh("a", all[2].Addr()))
	f.schedule(all[3], time.Time{}, awaits("a"))
	f.schedule(all[4], time.Time{}, excluded("a"))
	leased := f.take(all[5])
	ledger, keepsBudgets := store.As[store.QuotaLedger](f.store)
	if keepsBudgets {
		if _, err := ledger.SwapBudget(f.ctx, "a", 0, []byte("left")); err != nil {
			f.Fatalf("SwapBudget: %v", err)
		}
	}
	places, keepsPositions := store.As[store.Positions](f.store)
	if keepsPositions {
		if err := places.ObserveAt(f.ctx, "a", []byte("read")); err != nil {
			f.Fatalf("ObserveAt: %v", err)
		}
	}
	var want []store.Record
	for _, a := range all {
		want = append(want, f.get(a.ID))
	}
	events := f.unpublished(0, 9)

	now := f.now
	f = on(tb, h.Reopen(tb, f.store))
	f.now = now
	for i, a := range all {
		f.same("Get after the store was reopened", f.get(a.ID), want[i])
	}
	f.events("Unpublished after the store was reopened", f.unpublished(0, 9), events...)
	if keepsBudgets {
		doc, version, err := optional[store.QuotaLedger](f).Budget(f.ctx, "a")
		if err != nil || string(doc) != "left" || version != 1 {
			f.Errorf("Budget after the store was reopened returned %q, %d, %v; want what was stored", doc, version, err)
		}
	}
	if keepsPositions {
		doc, err := optional[store.Positions](f).Position(f.ctx, "a")
		if err != nil || string(doc) != "read" {
			f.Errorf("Position after the store was reopened returned %q, %v; want what was stored", doc, err)
		}
	}
	c := f.claim(providers("a"))
	f.expect("a claim of what was never enriched", c.Records, all[6])
	f.expect("a claim of what waited", f.claim(grants(map[string]int{"a": 1})).Records, all[3])
	f.expect("a claim for a new provider", f.claim(providers("a", "b")).Records, all[4])
	f.expect("a claim of what was due later", f.claim(at(f.now.Add(time.Hour))).Records, all[2])
	f.save(f.update(leased, f.fresh("a", all[5].Addr())))
	if again := f.take(all[5]); again.Fence <= leased.Fence {
		f.Errorf("a claim after the store was reopened has fence %d after %d; want a greater one", again.Fence, leased.Fence)
	}
}
