package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
)

// compare compares everything that can be seen of the two stores.
func (m *modelTest) compare() {
	for _, id := range m.ids {
		var got, want store.Record
		m.both(func(f *fixture) error {
			rec, err := f.store.Get(f.ctx, id)
			if f == m.got {
				got = rec
			} else {
				want = rec
			}
			return err
		})
		if diffs := difference(got, want, true); len(diffs) > 0 {
			m.fail("attacker %s differs from the model's:\n%s", id, strings.Join(diffs, "\n"))
		}
	}
	if s, ok := store.As[store.Statistician](m.got.store); ok {
		got, err := s.Stats(m.got.ctx, m.got.now)
		if err != nil {
			m.fail("Stats: %v", err)
		}
		want, _ := m.want.store.(store.Statistician).Stats(m.want.ctx, m.want.now)
		if g, w := fmt.Sprint(noZeros(got)), fmt.Sprint(noZeros(want)); g != w {
			m.fail("Stats returned %s; the model's are %s", g, w)
		}
	}
	if _, ok := store.As[store.Outbox](m.got.store); ok {
		m.got.events(fmt.Sprintf("seed %d, step %d: Unpublished", m.seed, m.step), m.events(m.got), m.events(m.want)...)
	}
	if _, ok := store.As[store.Answers](m.got.store); ok {
		for i := range 5 {
			got, want := m.got.answers(m.got.now, address(i)), m.want.answers(m.want.now, address(i))
			if !slices.Equal(got, want) {
				m.fail("Answers about %v returned\n%+v; the model's are\n%+v", address(i), got, want)
			}
		}
	}
	if _, ok := store.As[store.Lister](m.got.store); ok {
		req := store.ListRequest{Limit: 1 + m.IntN(4), Enriched: m.IntN(2) == 0}
		got, want := m.got.pages(req), m.want.pages(req)
		if len(got) != len(want) {
			m.fail("List returned %d records, the model's %d", len(got), len(want))
		}
		for i := range want {
			if diffs := difference(got[i], want[i], true); len(diffs) > 0 {
				m.fail("record %d of the listing differs from the model's:\n%s", i, strings.Join(diffs, "\n"))
			}
		}
	}
}

// noZeros leaves providers out for which nothing waits.
func noZeros(s store.Stats) store.Stats {
	for _, by := range []*map[string]int{&s.Waiting, &s.Readers} {
		kept := make(map[string]int)
		for name, n := range *by {
			if n > 0 {
				kept[name] = n
			}
		}
		*by = kept
	}
	return s
}

// events returns the events in the outbox in an order of their own.
func (m *modelTest) events(f *fixture) []bus.Event {
	events := f.unpublished(0, 1000)
	slices.SortFunc(events, func(a, b bus.Event) int { return cmp.Compare(a.ID, b.ID) })
	return events
}
