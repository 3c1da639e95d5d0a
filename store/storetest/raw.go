package storetest

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

// allTypes are attributes of every type, among them those that a detour over JSON
// or floating point changes.
func allTypes() map[string]any {
	return map[string]any{
		"beyond_float": int64(1<<53 + 1), "most": int64(math.MaxInt64), "whole": 1.0, "large": 1e300, "number": int64(1),
		"no_numbers": []int64{}, "no_texts": []string{}, "numbers": []int64{1 << 60}, "texts": []string{"1"},
		"nothing": nil, "yes": true, "text": "1",
	}
}

// oddNames checks that a claim works whatever its owner and its providers are
// called.
func oddNames(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(4)
	for i, name := range []string{"\x00", "\xff\xfe", strings.Repeat("ü", 70_000), "Камень '; DROP TABLE attackers; --"} {
		f.expect("a claim with an odd owner and odd names of providers", f.claim(limit(1), func(r *store.ClaimRequest) {
			r.Owner = name
			r.Providers = []string{name}
			r.Grants = map[string]store.Grant{name: {Calls: 1, Oldest: 1}}
		}).Records, all[i])
	}
}

// observeTwice checks that one call about an attacker seen twice does what two
// calls do.
func observeTwice(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	u := f.update(f.take(a), f.fresh("a", a.Addr()))
	u.Due, u.Ahead = f.now.Add(24*time.Hour), f.now.Add(time.Minute)
	f.save(u)
	again, later := a, a
	again.LastSeen, later.LastSeen = f.now.Add(2*time.Minute), f.now.Add(time.Hour)
	f.observe(again, later)
	if got := f.get(a.ID); !got.LastSeen.Equal(later.LastSeen) {
		f.Errorf("LastSeen after one call about an attacker seen twice is %v, want %v", got.LastSeen, later.LastSeen)
	}
	f.expect("a claim before the first of two sightings", f.claim(at(f.now.Add(2*time.Minute-time.Microsecond))).Records)
	f.expect("a claim at the first of two sightings", f.claim(at(f.now.Add(2*time.Minute))).Records, later)
}

// awayAndBack checks that an attacker whose address has changed twice under a
// lease is due now, and that what was learnt about the address is stored.
func awayAndBack(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	for _, together := range []bool{false, true} {
		a := f.attacker(0)
		f.observe(a)
		rec := f.take(a)
		away := a
		away.IP = address(99).String()
		if together {
			f.observe(away, a)
		} else {
			f.observe(away)
			f.observe(a)
		}
		u := f.update(rec, f.fresh("a", a.Addr()))
		u.Due = f.now.Add(24 * time.Hour)
		f.save(u)
		if got := f.get(a.ID); got.Revision != 1 || got.Entry("a") == nil {
			f.Errorf("an update about the address that the attacker has again was not stored: %+v", got)
		}
		f.expect("a claim of an attacker whose address has changed and changed back", f.claim().Records, a)
	}
}

// answersOnce checks that an address given in several forms has one answer.
func answersOnce(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Answers](f)
	a := f.attackers(1)[0]
	mapped := netip.AddrFrom16(address(1).As16())
	want := f.answered(a, "a", address(1), 1, f.now.Add(time.Hour))
	if got := f.answers(f.now, address(1), mapped, address(1)); !slices.Equal(got, []answer{want}) {
		f.Errorf("Answers about one address in several forms returned %+v; want %+v once", got, want)
	}
}

// nameless checks that a finding that names no provider or no address is refused, and
// an entry whose provider has no valid name.
func nameless(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	var updates []store.Update
	for _, a := range all {
		updates = append(updates, f.update(f.take(a), f.fresh("a", a.Addr())))
	}
	finding := func(u store.Update) *store.Entry {
		e := &u.Entries[0]
		copied := *e.Finding
		e.Finding = &copied
		return e
	}
	finding(updates[0]).Finding.Provider = ""
	finding(updates[1]).Finding.Addr = netip.Addr{}
	failed := f.failed(f.store.Save(f.ctx, updates...))
	for i, missing := range []string{"provider", "address"} {
		if err := failed[all[i].ID]; !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "no "+missing) {
			f.Errorf("Save of a finding that names no %s: %v; want an error that says so and wraps ErrInvalid", missing, err)
		}
	}
	if f.get(all[2].ID).Revision != 1 {
		f.Errorf("an update beside refused ones was not stored")
	}
	f.release(f.now, updates[0].Lease)
	u := f.update(f.take(all[0]))
	for _, name := range []string{"", "Upper", "two words", "a/1", strings.Repeat("a", 33)} {
		u.Entries = []store.Entry{awaits("a"), awaits(name)}
		if err := f.failed(f.store.Save(f.ctx, u))[u.ID]; !errors.Is(err, store.ErrInvalid) {
			f.Errorf("Save of an entry of provider %q: %v; want an error that wraps ErrInvalid", name, err)
		}
	}
	u.Entries = u.Entries[:1]
	f.save(u) // the lease must be good
}
