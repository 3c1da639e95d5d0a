package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

func model(tb testing.TB, h Harness) {
	Model(tb, h, rand.Uint64())
}

// Model makes the same random calls to a store that h makes and to one of
// package memstore, and reports where their answers differ. The seed, which it
// names in every failure, determines the calls.
func Model(tb testing.TB, h Harness, seed uint64) {
	tb.Helper()
	m := &modelTest{
		Rand: rand.New(rand.NewPCG(seed, 0)),
		got:  setUp(tb, h),
		want: on(tb, memstore.New()),
		seed: seed,
	}
	m.start = m.got.now
	m.want.now = m.start
	for range 12 {
		m.ids = append(m.ids, uuid.NewSHA1(uuid.NameSpaceOID, binary.BigEndian.AppendUint64(nil, m.Uint64())))
	}
	for m.step = range 400 {
		m.one()
		if m.step%20 == 0 {
			m.compare()
		}
	}
	m.compare()
}

type modelTest struct {
	*rand.Rand
	got, want *fixture // the store under test, and the model
	seed      uint64
	step      int
	call      string // the last call, for people to read
	start     time.Time
	tick      time.Duration // to make times differ
	ids       []uuid.UUID
	tokens    []*token // leases that were claimed, most of which are good
}

// token is a lease in both stores.
type token struct {
	rec       store.Record // as the model returned it or was last told
	got, want uint64       // fences
	moved     bool         // the address has changed since the claim
}

var modelProviders = []string{"a", "b", "c", "d"}

func (m *modelTest) fail(format string, args ...any) {
	m.got.Helper()
	m.got.Fatalf("seed %d, step %d, after %s: %s", m.seed, m.step, m.call, fmt.Sprintf(format, args...))
}

// both makes a call to both stores; either both fail or none.
func (m *modelTest) both(call func(f *fixture) error) {
	m.got.Helper()
	got, want := call(m.got), call(m.want)
	if (got == nil) != (want == nil) {
		m.fail("the store returned the error %v, the model %v", got, want)
	}
}

// later returns a time up to two hours ahead that no other call returns.
func (m *modelTest) later() time.Time {
	m.tick += time.Microsecond
	return m.got.now.Add(time.Duration(m.IntN(120))*time.Minute + m.tick)
}

func (m *modelTest) address() string {
	if m.IntN(8) == 0 {
		return "no address"
	}
	return address(m.IntN(5)).String()
}

// one makes one random call.
func (m *modelTest) one() {
	if m.IntN(4) == 0 {
		m.got.now = m.got.now.Add(time.Duration(m.IntN(180)) * time.Second)
		m.want.now = m.got.now
	}
	switch n := m.IntN(100); {
	case n < 12:
		m.observe()
	case n < 15:
		m.forget()
	case n < 45:
		m.claim()
	case n < 55:
		m.claimOnly()
	case n < 85:
		m.save()
	case n < 95:
		m.release()
	default:
		m.publish()
	}
}

func (m *modelTest) id() uuid.UUID { return m.ids[m.IntN(len(m.ids))] }

func (m *modelTest) observe() {
	var attackers []store.Attacker
	for range 1 + m.IntN(3) {
		a := store.Attacker{ID: m.id(), IP: m.address(), LastSeen: m.later().Add(-12 * time.Hour)}
		a.FirstSeen = a.LastSeen.Add(-time.Duration(m.IntN(100)) * time.Minute)
		known, err := m.want.store.Get(m.want.ctx, a.ID)
		if err == nil && m.IntN(2) == 0 {
			a.IP = known.IP
		}
		for _, t := range m.tokens {
			t.moved = t.moved || t.rec.ID == a.ID && known.IP != a.IP
		}
		attackers = append(attackers, a)
	}
	m.call = fmt.Sprintf("Observe(%+v)", attackers)
	m.both(func(f *fixture) error { return f.reg.Observe(f.ctx, attackers...) })
}

func (m *modelTest) forget() {
	id := m.id()
	m.call = fmt.Sprintf("Forget(%s)", id)
	m.both(func(f *fixture) error { return f.reg.Forget(f.ctx, id) })
}

func (m *modelTest) claim() {
	req := m.got.request(limit(1 + m.IntN(5)))
	req.Lease = 24 * time.Hour
	if m.IntN(4) == 0 {
		req.Now = req.Now.Add(-time.Duration(m.IntN(60)) * time.Minute) // a worker with another clock
	}
	for _, name := range modelProviders {
		if m.IntN(3) == 0 {
			if req.Grants == nil {
				req.Grants = make(map[string]store.Grant)
			}
			req.Grants[name] = store.Grant{Calls: m.IntN(4), Oldest: m.IntN(3)}
		}
	}
	req.Providers = modelProviders[:m.IntN(len(modelProviders)+1)]
	got, want := m.claimed(req)
	switch {
	case got.NextDue.Equal(want.NextDue):
	case !got.NextDue.IsZero() && !want.NextDue.IsZero() && !got.NextDue.After(req.Now) && !want.NextDue.After(req.Now):
	case got.NextDue.After(m.start.Add(20*time.Hour)) && want.NextDue.After(m.start.Add(20*time.Hour)): // ends of leases
	default:
		m.fail("NextDue is %v; the model's is %v", got.NextDue, want.NextDue)
	}
}

func (m *modelTest) claimOnly() {
	req := m.got.request(limit(1 + m.IntN(3)))
	req.Lease = 24 * time.Hour
	for range 1 + m.IntN(3) {
		req.Only = append(req.Only, m.id())
	}
	m.claimed(req)
}

// claimed makes a claim and compares the records.
func (m *modelTest) claimed(req store.ClaimRequest) (got, want store.Claimed) {
	m.call = fmt.Sprintf("Claim(%+v)", req)
	m.both(func(f *fixture) error {
		c, err := f.store.Claim(f.ctx, req)
		if f == m.got {
			got = c
		} else {
			want = c
		}
		return err
	})
	if len(got.Records) != len(want.Records) {
		m.fail("the store returned %d records, the model %d", len(got.Records), len(want.Records))
	}
	for i := range want.Records {
		if diffs := difference(got.Records[i], want.Records[i], false); len(diffs) > 0 {
			m.fail("record %d of the claim differs from the model's:\n%s", i, strings.Join(diffs, "\n"))
		}
		m.tokens = append(m.tokens, &token{rec: want.Records[i], got: got.Records[i].Fence, want: want.Records[i].Fence})
	}
	return got, want
}

// pick returns up to n leases, most of them good, and forgets most of them.
func (m *modelTest) pick(n int) []*token {
	var picked []*token
	for range min(n, len(m.tokens)) {
		i := m.IntN(len(m.tokens))
		t := m.tokens[i]
		if slices.ContainsFunc(picked, func(p *token) bool { return p.rec.ID == t.rec.ID }) {
			continue
		}
		picked = append(picked, t)
		if m.IntN(5) > 0 {
			m.tokens = slices.Delete(m.tokens, i, i+1)
		}
	}
	return picked
}

func (m *modelTest) save() {
	picked := m.pick(1 + m.IntN(3))
	updates := make([]store.Update, len(picked))
	for i, t := range picked {
		updates[i] = m.update(t)
	}
	m.call = fmt.Sprintf("Save(%+v)", updates)
	var failed [2][]string
	m.both(func(f *fixture) error {
		ups := slices.Clone(updates)
		for i, t := range picked {
			ups[i].Fence = t.want
			if f == m.got {
				ups[i].Fence = t.got
			}
		}
		err := f.store.Save(f.ctx, ups...)
		e, ok := errors.AsType[*store.SaveError](err)
		if !ok {
			return err
		}
		side := 0
		if f == m.got {
			side = 1
		}
		for id := range e.Failed {
			failed[side] = append(failed[side], id.String())
		}
		return nil
	})
	slices.Sort(failed[0])
	slices.Sort(failed[1])
	if !slices.Equal(failed[0], failed[1]) {
		m.fail("the store refused the updates of %v, the model those of %v", failed[1], failed[0])
	}
	for i, t := range picked {
		if updates[i].Hold {
			t.rec.Entries = updates[i].Entries
			if !slices.Contains(m.tokens, t) {
				m.tokens = append(m.tokens, t)
			}
		}
	}
}

// update makes up an update under the lease.
func (m *modelTest) update(t *token) store.Update {
	f := m.want
	u := store.Update{Lease: store.Lease{ID: t.rec.ID}, IP: t.rec.IP, Revision: t.rec.Revision, Hold: m.IntN(6) == 0}
	if m.IntN(8) == 0 {
		u.KeepDue, u.Due, u.Entries = true, m.later(), slices.Clone(t.rec.Entries)
		u.Decision = f.update(t.rec, f.fresh("b", netip.Addr{})).Decision
		return u
	}
	waits, applies := false, false
	for _, name := range modelProviders {
		e := store.Entry{Provider: name}
		old := t.rec.Entry(name)
		if old != nil {
			e = *old
			e.State, e.Due, e.Rank, e.Since = store.Fresh, time.Time{}, 0, time.Time{}
		}
		switch n := m.IntN(10); {
		case n < 2: // no such entry
			continue
		case n < 5:
			about := m.IntN(5)
			if m.IntN(3) > 0 { // a finding seldom serves others
				about += 5 * (1 + m.IntN(100))
			}
			fresh := f.fresh(name, address(about))
			fresh.Expires = m.later()
			fresh.Finding.Attrs["score"] = m.Int64()
			e, u.Changed = fresh, append(u.Changed, name)
		case n < 6:
			e.State, e.Due, e.Failures, e.Error = store.Due, m.later(), 1+m.IntN(9), "unavailable"
			if e.Finding == nil {
				e.Addr = t.rec.Addr()
			}
		case n < 7 && !waits:
			e.State, waits = store.Waiting, true
			e.Rank, e.Since = m.IntN(3)-1, m.later()
		case n < 9:
			e.State = store.NotApplicable
		case old != nil:
			e, u.Changed = store.Entry{Provider: name}, append(u.Changed, name)
		}
		applies = applies || e.State != store.NotApplicable
		u.Entries = append(u.Entries, e)
	}
	m.Shuffle(len(u.Entries), func(i, j int) { u.Entries[i], u.Entries[j] = u.Entries[j], u.Entries[i] })
	if parks := len(u.Entries) > 0 && !applies; !parks && !(waits && m.IntN(2) == 0) {
		u.Due = m.later()
	}
	if m.IntN(2) == 0 {
		u.Ahead = m.later().Add(-12 * time.Hour) // about when attackers are seen
	}
	if len(u.Changed) > 0 {
		u.Revision++
		u.SavedAt, u.Event = f.now, f.event()
	}
	if m.IntN(2) == 0 {
		u.Decision = f.update(t.rec, f.fresh("a", netip.Addr{})).Decision
	}
	return u
}

func (m *modelTest) release() {
	picked := m.pick(1 + m.IntN(3))
	due := m.later()
	if m.IntN(2) == 0 {
		due = m.want.now
	}
	m.call = fmt.Sprintf("Release due %v of", due)
	for _, t := range picked {
		m.call += fmt.Sprintf(" %s,", t.rec.ID)
	}
	m.both(func(f *fixture) error {
		var leases []store.Lease
		for _, t := range picked {
			l := store.Lease{ID: t.rec.ID, Fence: t.want}
			if f == m.got {
				l.Fence = t.got
			}
			leases = append(leases, l)
		}
		return f.store.Release(f.ctx, due, leases...)
	})
}

// publish removes some events from the outbox.
func (m *modelTest) publish() {
	if _, ok := store.As[store.Outbox](m.got.store); !ok {
		return
	}
	var ids []string
	for _, ev := range m.events(m.want) {
		if m.IntN(3) == 0 {
			ids = append(ids, ev.ID)
		}
	}
	m.call = fmt.Sprintf("Published(%v)", ids)
	m.both(func(f *fixture) error { return optional[store.Outbox](f).Published(f.ctx, ids...) })
}
