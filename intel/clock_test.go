package intel_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// The clock of a bubble begins at the same time each time. Two bubbles with one
// store are a clock that was ahead, and the same clock corrected.

// ahead runs f with a clock that is ahead of that of the next call.
func ahead(t *testing.T, by time.Duration, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(by)
		f(t)
	})
}

var wrongClocks = map[string]time.Duration{"nine hours": 9 * time.Hour, "26 years": 26 * 365 * provider.Day}

func TestQuotasAfterAClockThatWasWrong(t *testing.T) {
	for name, by := range wrongClocks {
		t.Run(name, func(t *testing.T) {
			s, weekly := memstore.New(), scarce("weekly", 25, provider.Week)
			arrive := func(t *testing.T, from, n int) {
				for i := range n {
					id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, from+i))
					require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: ip(from + i)}))
				}
			}
			ahead(t, by, func(t *testing.T) {
				arrive(t, 0, 100)
				newRig(t, intel.Config{Store: s, RefreshFor: -1}, weekly).start()
				time.Sleep(time.Hour)
			})
			require.Equal(t, 25, weekly.asked())
			ahead(t, 0, func(t *testing.T) {
				newRig(t, intel.Config{Store: s, RefreshFor: -1}, weekly).start()
				arrive(t, 100, 300)
				time.Sleep(100 * provider.Day)
				synctest.Wait()
				require.GreaterOrEqual(t, weekly.asked(), 14*25, "in 100 days")
				require.LessOrEqual(t, weekly.asked(), 16*25)
			})
		})
	}
}

// TestSightingsAfterAClockThatWasWrong: an attacker that was last seen in the future is
// not refreshed for that long, and is when it is seen again.
func TestSightingsAfterAClockThatWasWrong(t *testing.T) {
	s, a := memstore.New(), newSource("a")
	attacker := store.Attacker{ID: uuid.New(), IP: ip(1)}
	ahead(t, wrongClocks["26 years"], func(t *testing.T) { require.NoError(t, s.Observe(t.Context(), attacker)) })
	ahead(t, 0, func(t *testing.T) {
		never := newSource("never").will(fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503}))
		r := newRig(t, intel.Config{Store: s, PollInterval: time.Hour}, a, never)
		r.start()
		time.Sleep(200 * provider.Day)
		synctest.Wait()
		require.Equal(t, 1, a.asked())
		require.NoError(t, s.Observe(t.Context(), attacker))
		r.worker.Wake()
		time.Sleep(100 * provider.Day)
		synctest.Wait()
		require.GreaterOrEqual(t, a.asked(), 30)
		require.LessOrEqual(t, a.asked(), 36)
	})
}

// TestFindingsAfterAClockThatWasWrong: what is fresh for too long is refreshed once.
func TestFindingsAfterAClockThatWasWrong(t *testing.T) {
	s, a := memstore.New(), newSource("a")
	var ids []uuid.UUID
	ahead(t, 26*365*provider.Day, func(t *testing.T) {
		r := newRig(t, intel.Config{Store: s}, a)
		r.store = s
		ids = r.observe(ips(50)...)
		r.start()
	})
	require.Equal(t, 50, a.asked())
	ahead(t, 0, func(t *testing.T) {
		a.will(says(provider.Benign))
		r := newRig(t, intel.Config{Store: s}, a)
		r.store = s
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 100, a.asked())
		for _, id := range ids {
			e := r.get(id).Entry("a")
			require.Equal(t, provider.Benign, e.Finding.Verdict)
			require.LessOrEqual(t, time.Until(e.Expires), 24*time.Hour)
		}
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		require.Equal(t, 100, a.asked(), "once")
	})
}

// TestLeasesAfterAClockThatWasWrong: what a worker had that was killed is free.
func TestLeasesAfterAClockThatWasWrong(t *testing.T) {
	for name, by := range wrongClocks {
		t.Run(name, func(t *testing.T) {
			s, a := memstore.New(), newSource("a")
			id := uuid.New()
			ahead(t, by, func(t *testing.T) {
				require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: ip(1)}))
				c, err := s.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "killed", Lease: 2 * time.Minute, Limit: 1})
				require.NoError(t, err)
				require.Len(t, c.Records, 1)
			})
			ahead(t, 0, func(t *testing.T) {
				r := newRig(t, intel.Config{Store: s}, a)
				r.store = s
				r.start()
				time.Sleep(2*time.Minute + time.Second)
				require.NotNil(t, r.get(id).Entry("a"))
			})
		})
	}
}

// TestTheOutboxAfterAClockThatWasWrong: neither a turn nor an event of the future
// keeps events from being published.
func TestTheOutboxAfterAClockThatWasWrong(t *testing.T) {
	for name, by := range wrongClocks {
		t.Run(name, func(t *testing.T) {
			s, a := memstore.New(), newSource("a")
			ahead(t, by, func(t *testing.T) {
				mine, err := s.Turn(t.Context(), "killed", 30*time.Second)
				require.NoError(t, err)
				require.True(t, mine)
				require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(1)}))
				down := &deafBus{Bus: membus.New(membus.Options{})}
				newRig(t, intel.Config{Store: s, Bus: down}, a).start()
			})
			ahead(t, 0, func(t *testing.T) {
				b := membus.New(membus.Options{})
				ear := listen(t, b, intel.TopicEnriched)
				r := newRig(t, intel.Config{Store: s, Bus: b}, a)
				r.store = s
				r.start()
				r.observe(ip(2))
				r.worker.Wake()
				time.Sleep(30 * time.Second)
				synctest.Wait()
				heard := make(map[any]bool)
				for _, ev := range ear.heard() {
					heard[ev["attacker_ip"]] = true
				}
				require.Len(t, heard, 2)
				stats, err := s.Stats(t.Context(), time.Now())
				require.NoError(t, err)
				require.Zero(t, stats.Outbox)
			})
		})
	}
}

// deafBus takes no events.
type deafBus struct{ intel.Bus }

func (*deafBus) Publish(context.Context, bus.Event) error { return errors.New("no connection") }

// TestClocksAnHourApart: workers whose clocks differ lose precision and nothing else.
func TestClocksAnHourApart(t *testing.T) {
	s, daily := memstore.New(), scarce("daily", 50, provider.Day)
	n := 0
	for part := range 12 {
		by := time.Duration(part) * 4 * time.Hour
		if part%2 == 1 {
			by += time.Hour
		}
		ahead(t, by, func(t *testing.T) {
			r := newRig(t, intel.Config{Store: s, TTL: 30 * provider.Day}, daily)
			r.store = s
			for range 20 {
				r.observe(ip(n))
				n++
			}
			r.start()
			time.Sleep(3 * time.Hour)
		})
	}
	require.LessOrEqual(t, daily.asked(), 100)
	require.GreaterOrEqual(t, daily.asked(), 95)
}
