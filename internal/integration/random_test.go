package integration

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/sqlstore"
)

// How many random operations TestRandomOperations makes on each kind of database,
// and from which seed: ENRICH_TEST_RANDOM_STEPS=100000 ENRICH_TEST_RANDOM_SEED=7.
var (
	randomSteps = cmp.Or(number("ENRICH_TEST_RANDOM_STEPS"), 400)
	randomSeed  = cmp.Or(number("ENRICH_TEST_RANDOM_SEED"), 1)
)

func number(name string) int {
	n, _ := strconv.Atoi(os.Getenv(name)) // nothing is 0
	return n
}

// TestRandomOperations compares each database with the memory store, call by call,
// while somebody else writes to attackers and raw answers are pruned.
func TestRandomOperations(t *testing.T) {
	onEach(t, func(t *testing.T, on *database) {
		for round := 0; round*1000 < randomSteps; round++ { // each in a database of its own
			s, db := on.openStore(t)
			r := &random{
				T: t, Rand: rand.New(rand.NewPCG(uint64(randomSeed), uint64(round))), on: on, db: db, sql: s, mem: memstore.New(),
				now: time.Now().UTC().Truncate(time.Second), touched: make(map[uuid.UUID]bool),
			}
			for r.step = range min(1000, randomSteps-round*1000) {
				r.one()
			}
			t.Logf("%d operations without a difference; %d attackers", round*1000+r.step+1, len(r.ids))
		}
	})
}

// random is one run. What a claim has not noticed yet of what others wrote is in
// touched: there, the memory store knows already what the database learns at the
// next claim.
type random struct {
	*testing.T
	*rand.Rand
	on      *database
	db      *sql.DB
	sql     *sqlstore.Store
	mem     *memstore.Store
	step    int
	now     time.Time
	tick    time.Duration
	ids     []uuid.UUID
	leases  []leased
	touched map[uuid.UUID]bool
}

// leased is an attacker that both stores have leased.
type leased struct {
	rec             store.Record
	inSQL, inMemory uint64
}

var randomProviders = []string{"a", "feodo", "greynoise", "zz"}

func (r *random) one() {
	r.now = r.now.Add(time.Duration(r.IntN(40)) * time.Second)
	switch n := r.IntN(100); {
	case n < 14:
		r.insert()
	case n < 22:
		r.writeElsewhere()
	case n < 24:
		r.deleteElsewhere()
	case n < 52:
		r.claim(1 + r.IntN(6))
	case n < 82:
		r.save()
	case n < 88:
		r.release()
	case n < 91:
		r.prune()
	case n < 95:
		r.list()
	default:
		r.answers()
	}
	if len(r.ids) > 0 {
		r.get(r.ids[r.IntN(len(r.ids))])
	}
}

// later returns a time that no other call returns.
func (r *random) later(within time.Duration) time.Time {
	r.tick += time.Microsecond
	return r.now.Add(time.Duration(r.Int64N(int64(within))).Truncate(time.Second) + r.tick)
}

func (r *random) ip() string { return fmt.Sprintf("45.9.0.%d", 1+r.IntN(8)) }

func (r *random) exec(text string, args ...any) {
	r.Helper()
	_, err := r.db.Exec(r.on.placed(text), args...)
	require.NoError(r, err)
}

// insert adds an attacker, by Observe or as DECNET does.
func (r *random) insert() {
	seen := r.later(time.Hour).Add(-2 * time.Hour)
	id := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, r.Uint64()))
	a := store.Attacker{ID: id, IP: r.ip(), FirstSeen: seen.Add(-time.Hour), LastSeen: seen}
	r.ids = append(r.ids, a.ID)
	require.NoError(r, r.mem.Observe(r.Context(), a))
	if r.IntN(2) == 0 {
		require.NoError(r, r.sql.Observe(r.Context(), a))
		return
	}
	r.touched[a.ID] = true
	r.exec("INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at) VALUES (?, ?, ?, ?, ?)",
		a.ID.String(), a.IP, sqlalchemy(a.FirstSeen), sqlalchemy(a.LastSeen), sqlalchemy(time.Now()))
}

// writeElsewhere sees an attacker again, or moves it, behind the store's back.
func (r *random) writeElsewhere() {
	id, rec := r.some()
	if rec == nil || r.touched[id] {
		return
	}
	r.touched[id] = true
	a := rec.Attacker
	if at := r.later(time.Hour); at.After(a.LastSeen) && r.IntN(2) == 0 { // time does not go back elsewhere
		a.LastSeen = at
	}
	if r.IntN(3) == 0 {
		a.IP = r.ip()
	}
	r.exec("UPDATE attackers SET ip = ?, last_seen = ?, updated_at = ? WHERE uuid = ?",
		a.IP, sqlalchemy(a.LastSeen), sqlalchemy(time.Now()), id.String())
	require.NoError(r, r.mem.Observe(r.Context(), a))
}

func (r *random) deleteElsewhere() {
	id, rec := r.some()
	if rec == nil {
		return
	}
	r.exec("DELETE FROM attackers WHERE uuid = ?", id.String())
	require.NoError(r, r.mem.Forget(r.Context(), id))
}

// some returns an attacker that is there, or nil.
func (r *random) some() (uuid.UUID, *store.Record) {
	if len(r.ids) == 0 {
		return uuid.Nil, nil
	}
	id := r.ids[r.IntN(len(r.ids))]
	rec, err := r.mem.Get(r.Context(), id)
	if err != nil {
		return id, nil
	}
	return id, &rec
}

func (r *random) claim(limit int) {
	r.Helper()
	req := store.ClaimRequest{
		Now: r.now, Owner: "random", Lease: 24 * time.Hour, Limit: limit, Providers: randomProviders[:1+r.IntN(len(randomProviders))],
	}
	for _, name := range randomProviders {
		if r.IntN(3) == 0 {
			if req.Grants == nil {
				req.Grants = make(map[string]store.Grant)
			}
			req.Grants[name] = store.Grant{Calls: r.IntN(4), Oldest: r.IntN(3)}
		}
	}
	got, err := r.sql.Claim(r.Context(), req)
	require.NoError(r, err)
	want, err := r.mem.Claim(r.Context(), req)
	require.NoError(r, err)
	clear(r.touched)
	require.Len(r, got.Records, len(want.Records), "seed %d, step %d: a claim", randomSeed, r.step)
	for i := range want.Records {
		r.same("a claim", got.Records[i], want.Records[i], false)
		require.Equal(r, want.Records[i].Granted, got.Records[i].Granted)
		r.leases = append(r.leases, leased{want.Records[i], got.Records[i].Fence, want.Records[i].Fence})
	}
}

// settle lets the database notice what others have written.
func (r *random) settle() {
	if len(r.touched) > 0 {
		r.claim(1)
	}
}

// take removes a lease, mostly, and returns it.
func (r *random) take() (l leased, ok bool) {
	r.settle()
	if len(r.leases) == 0 {
		return l, false
	}
	i := r.IntN(len(r.leases))
	l = r.leases[i]
	if r.IntN(10) > 0 {
		r.leases = slices.Delete(r.leases, i, i+1)
	}
	return l, true
}

func (r *random) save() {
	l, ok := r.take()
	if !ok {
		return
	}
	u := store.Update{
		Lease: store.Lease{ID: l.rec.ID}, IP: l.rec.IP, Entries: slices.Clone(l.rec.Entries), Revision: l.rec.Revision,
		Due: r.later(3 * time.Hour), KeepDue: r.IntN(10) == 0,
	}
	if r.IntN(5) == 0 {
		u.Due = time.Time{}
	}
	if r.IntN(3) == 0 {
		u.Ahead = r.later(time.Hour)
	}
	addr := l.rec.Addr()
	for _, name := range randomProviders {
		if r.IntN(2) == 0 {
			continue
		}
		e := store.Entry{Provider: name}
		if i := slices.IndexFunc(u.Entries, func(e store.Entry) bool { return e.Provider == name }); i >= 0 {
			e = u.Entries[i]
			u.Entries = slices.Delete(u.Entries, i, i+1)
		}
		switch r.IntN(5) {
		case 0:
			e.State, e.Rank, e.Since = store.Waiting, r.IntN(3), r.later(time.Hour).Add(-time.Hour)
		case 1:
			e.State, e.Reason = store.NotApplicable, provider.Private
		case 2:
			e.State, e.Due, e.Failures, e.Error = store.Due, r.later(time.Hour), r.IntN(4), "unavailable"
		default:
			e = store.Entry{Provider: name, State: store.Fresh, Expires: r.later(3 * time.Hour), Finding: &provider.Finding{
				Provider: name, Addr: addr, Known: r.IntN(2) == 0, Verdict: provider.Verdict(r.IntN(5)),
				Attrs: map[string]any{
					"listed": r.IntN(2) == 0, "name": fmt.Sprint("n", r.IntN(9)), "tags": []string{"x"}, "n": r.Int64(), "f": float64(r.IntN(3)),
				},
				Raw: json.RawMessage(fmt.Sprintf(`{"n":%d}`, r.IntN(1e6))), ObservedAt: r.later(time.Hour).Add(-time.Hour),
			}}
			u.Changed = append(u.Changed, name)
		}
		if e.State != store.Fresh {
			e.Finding, e.Expires = nil, time.Time{}
			if slices.ContainsFunc(l.rec.Entries, func(was store.Entry) bool { return was.Provider == name && was.Finding != nil }) {
				u.Changed = append(u.Changed, name)
			}
		}
		u.Entries = append(u.Entries, e)
	}
	slices.SortFunc(u.Entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
	if len(u.Changed) > 0 {
		u.Revision, u.SavedAt = u.Revision+1, r.now
		u.Decision = &aggregate.Decision{Verdict: provider.Verdict(r.IntN(5)), Policy: "random", Score: float64(r.IntN(10)) / 10}
	}
	inSQL, inMemory := u, u
	inSQL.Fence, inMemory.Fence = l.inSQL, l.inMemory
	got, want := r.sql.Save(r.Context(), inSQL), r.mem.Save(r.Context(), inMemory)
	require.Equal(r, want == nil, got == nil, "seed %d, step %d: Save: %v; in memory: %v", randomSeed, r.step, got, want)
}

func (r *random) release() {
	l, ok := r.take()
	if !ok {
		return
	}
	due := r.later(time.Hour).Add(-30 * time.Minute)
	require.NoError(r, r.sql.Release(r.Context(), due, store.Lease{ID: l.rec.ID, Fence: l.inSQL}))
	require.NoError(r, r.mem.Release(r.Context(), due, store.Lease{ID: l.rec.ID, Fence: l.inMemory}))
}

func (r *random) prune() {
	before := r.later(time.Hour).Add(-2 * time.Hour).Truncate(time.Second)
	got, err := r.sql.Prune(r.Context(), before)
	require.NoError(r, err)
	want, err := r.mem.Prune(r.Context(), before)
	require.NoError(r, err)
	_, _ = got, want // raw answers of attackers that are gone count in one store only
}

func (r *random) list() {
	req := store.ListRequest{Limit: 1 + r.IntN(50), Enriched: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		req.Verdicts = []provider.Verdict{provider.Verdict(r.IntN(5))}
	}
	r.settle()
	got, err := r.sql.List(r.Context(), req)
	require.NoError(r, err)
	want, err := r.mem.List(r.Context(), req)
	require.NoError(r, err)
	require.Len(r, got.Records, len(want.Records), "seed %d, step %d: List(%+v)", randomSeed, r.step, req)
	for i := range want.Records {
		r.same("a listing", got.Records[i], want.Records[i], true)
	}
}

func (r *random) answers() {
	addr := netip.MustParseAddr(r.ip())
	texts := func(answers []store.Answer, err error) (all []string) {
		require.NoError(r, err)
		for _, a := range answers {
			f := *a.Finding
			b, err := store.EncodeFinding(&f)
			require.NoError(r, err)
			all = append(all, compact(b)+a.Expires.String())
		}
		slices.Sort(all)
		return all
	}
	require.Equal(r, texts(r.mem.Answers(r.Context(), r.now, addr)), texts(r.sql.Answers(r.Context(), r.now, addr)),
		"seed %d, step %d: Answers(%v)", randomSeed, r.step, addr)
}

func (r *random) get(id uuid.UUID) {
	got, gotErr := r.sql.Get(r.Context(), id)
	want, wantErr := r.mem.Get(r.Context(), id)
	require.Equal(r, wantErr == nil, gotErr == nil, "seed %d, step %d: Get: %v; in memory: %v", randomSeed, r.step, gotErr, wantErr)
	if wantErr == nil {
		r.same("Get", got, want, true)
	}
}

// same compares records but for what belongs to one store.
func (r *random) same(what string, got, want store.Record, raw bool) {
	r.Helper()
	got, want = plainRecord(got, raw), plainRecord(want, raw)
	if !reflect.DeepEqual(got, want) {
		require.Equal(r, want, got, "seed %d, step %d: %s", randomSeed, r.step, what)
	}
}

func plainRecord(rec store.Record, raw bool) store.Record {
	rec.Fence, rec.Row, rec.Unpublished, rec.Granted = 0, store.Row{}, "", nil
	rec.Entries = append([]store.Entry{}, rec.Entries...)
	for i := range rec.Entries {
		if f := rec.Entries[i].Finding; f != nil {
			plain := *f
			plain.Raw = nil
			if raw && len(f.Raw) > 0 {
				plain.Raw = json.RawMessage(compact(f.Raw))
			}
			rec.Entries[i].Finding = &plain
		}
	}
	return rec
}

func compact(b []byte) string {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return string(b)
	}
	return out.String()
}
