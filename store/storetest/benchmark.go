package storetest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

// Benchmark measures the stores that h makes: the time of each call, and for
// those that work on many attackers how many they work on in a second.
func Benchmark(b *testing.B, h Harness) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("ClaimSave/attackers=%d", n), func(b *testing.B) { benchClaimSave(b, h, n) })
	}
	b.Run("ClaimNothing", func(b *testing.B) {
		f := filled(b, h, 10_000)
		for f.cycle(1000) > 0 {
		}
		for b.Loop() {
			f.claim(providers("a"), grants(map[string]int{"a": 10}))
		}
	})
	b.Run("Observe", func(b *testing.B) {
		const batch = 100
		f := setUp(b, h)
		for n := 0; b.Loop(); n += batch {
			b.StopTimer()
			attackers := make([]store.Attacker, batch)
			for i := range attackers {
				attackers[i] = f.attacker(n + i)
			}
			b.StartTimer()
			f.observe(attackers...)
		}
		perSecond(b, batch*b.N)
	})
	b.Run("Get", func(b *testing.B) {
		f := setUp(b, h)
		a := f.attackers(1)[0]
		f.enrich(a, "a", "b", "c", "d")
		for b.Loop() {
			f.get(a.ID)
		}
	})
	b.Run("Answers", func(b *testing.B) {
		f := setUp(b, h)
		s, ok := store.As[store.Answers](f.store)
		if !ok {
			b.Skip("the store is no store.Answers")
		}
		a := f.attackers(1)[0]
		f.enrich(a, "a", "b", "c", "d")
		addrs := []netip.Addr{a.Addr()}
		for b.Loop() {
			if got, err := s.Answers(f.ctx, f.now, addrs...); len(got) != 4 || err != nil {
				b.Fatalf("Answers returned %v, %v; want 4", got, err)
			}
		}
	})
}

// load is a store with many attackers, and what is saved about them.
type load struct {
	*fixture
	ledgers [256][]store.Entry // made ahead, so that making them is not measured
}

// filled returns a store with n attackers.
func filled(b *testing.B, h Harness, n int) *load {
	b.Helper()
	l := &load{fixture: setUp(b, h)}
	for i := range l.ledgers {
		for _, name := range []string{"a", "b", "c", "d"} {
			l.ledgers[i] = append(l.ledgers[i], l.fresh(name, address(i)))
		}
	}
	var batch []store.Attacker
	for i := range n {
		batch = append(batch, l.attacker(i))
		if len(batch) == 1000 || i == n-1 {
			l.observe(batch...)
			batch = batch[:0]
		}
	}
	return l
}

// cycle claims up to n attackers and saves four findings about each, for a
// day. It returns how many it claimed.
func (l *load) cycle(n int) int {
	l.Helper()
	recs := l.claim(limit(n)).Records
	updates := make([]store.Update, len(recs))
	for i, rec := range recs {
		updates[i] = l.update(rec, l.ledgers[rec.ID[0]]...)
	}
	l.save(updates...)
	return len(recs)
}

func benchClaimSave(b *testing.B, h Harness, attackers int) {
	const batch = 50
	l := filled(b, h, attackers)
	done := 0
	for b.Loop() {
		n := l.cycle(batch)
		if done += n; n < batch {
			l.now = l.now.Add(25 * time.Hour) // all are due again
		}
	}
	perSecond(b, done)
}

func perSecond(b *testing.B, attackers int) {
	b.ReportMetric(float64(attackers)/b.Elapsed().Seconds(), "attackers/s")
}
