package intel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// limited is a source that declares limits.
type limited struct {
	*source
	limits provider.Limits
}

func (l limited) Limits() provider.Limits { return l.limits }

// scarce returns a source with a rolling quota.
func scarce(name string, calls int, window time.Duration) limited {
	return limited{newSource(name), provider.Limits{Quotas: []provider.Quota{{Calls: calls, Window: window}}}}
}

// saves notes what is saved.
type saves struct {
	mu    sync.Mutex
	infos []intel.SavedInfo
	at    []time.Time
}

func (s *saves) hooks() intel.Hooks {
	return intel.Hooks{Saved: func(info intel.SavedInfo) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.infos, s.at = append(s.infos, info), append(s.at, time.Now())
	}}
}

func (s *saves) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.infos)
}

// storeOf returns a store with so many attackers.
func storeOf(t *testing.T, attackers int) *memstore.Store {
	s := memstore.New()
	for n := range attackers {
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), IP: ip(n)}))
	}
	return s
}

// TestASpentQuotaLetsWait: what a quota does not allow waits, without an error
// and without being rewritten, until claims hand it out as the quota grants.
func TestASpentQuotaLetsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly, free := scarce("weekly", 5, provider.Week), newSource("free")
		var done saves
		b := membus.New(membus.Options{})
		ear := listen(t, b, intel.TopicEnriched)
		r := newRig(t, intel.Config{Bus: b, Hooks: done.hooks(), TTL: 60 * provider.Day}, weekly, free)
		ids := r.observe(ips(40)...)
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 5, weekly.asked())
		require.Equal(t, 40, free.asked())
		waiting := 0
		for _, id := range ids {
			rec := r.get(id)
			require.Equal(t, provider.Malicious, rec.Decision.Verdict, "what is known is written at once")
			if e := rec.Entry("weekly"); e.State == store.Waiting {
				waiting++
				require.Zero(t, e.Failures)
				require.Empty(t, e.Error)
				require.WithinDuration(t, time.Now(), e.Since, time.Minute)
			}
		}
		require.Equal(t, 35, waiting)
		said := 0
		for _, ev := range ear.heard() {
			if slices.Equal(ev["pending"].([]any), []any{"weekly"}) && slices.Equal(ev["answered"].([]any), []any{"free"}) {
				said++
			}
		}
		require.GreaterOrEqual(t, said, 35, "events say what is pending")

		saved := done.count()
		time.Sleep(provider.Week - time.Hour)
		synctest.Wait()
		require.Equal(t, 5, weekly.asked(), "no call before the quota has reset")
		require.Equal(t, saved, done.count(), "nobody was rewritten meanwhile")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, 10, weekly.asked())
		require.LessOrEqual(t, done.count(), saved+10, "only those that the quota grants are handed out")
		require.Greater(t, done.count(), saved)
	})
}

// TestBudgetsSurviveARestart: the next worker goes on with what is left.
func TestBudgetsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daily := scarce("daily", 10, provider.Day)
		r := newRig(t, intel.Config{}, daily)
		r.observe(ips(7)...)
		r.start()
		r.stop()
		require.Equal(t, 7, daily.asked())
		again := newRig(t, intel.Config{Store: r.store}, daily)
		again.store = r.store
		again.observe(ips(30)...)
		again.start()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		require.Equal(t, 10, daily.asked())
	})
}

// TestAQuotaSpentByOthers: a source whose allowance somebody else has used is
// asked again when it says.
func TestAQuotaSpentByOthers(t *testing.T) {
	refusal := func(u *provider.Usage, wait time.Duration) func(context.Context, netip.Addr) (provider.Finding, error) {
		return fails(&provider.Error{Kind: provider.ErrQuotaExhausted, StatusCode: 429, Usage: u, RetryAfter: wait})
	}
	for name, c := range map[string]struct {
		answer func(context.Context, netip.Addr) (provider.Finding, error)
		rests  time.Duration
	}{
		"no word about when":  {refusal(nil, 0), time.Hour},
		"the window":          {refusal(&provider.Usage{Limit: 25, Window: provider.Week}, 0), time.Hour},
		"a wait":              {refusal(nil, 5*time.Hour), 5 * time.Hour},
		"an absurd wait":      {refusal(nil, 1000*provider.Day), provider.Week},
		"a wait, but no kind": {fails(&provider.Error{Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: 5 * time.Hour}), 5 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				weekly := scarce("weekly", 25, provider.Week)
				weekly.will(c.answer)
				r := newRig(t, intel.Config{}, weekly)
				r.observe(ips(300)...)
				r.start()
				time.Sleep(c.rests - time.Minute)
				synctest.Wait()
				require.Equal(t, 1, weekly.asked(), "once is enough to know")
				weekly.will(says(provider.Benign))
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				require.GreaterOrEqual(t, weekly.asked(), 24, "and then it is asked again")
				require.LessOrEqual(t, weekly.asked(), 26)
			})
		})
	}
}

// TestAConfiguredQuotaIsACeiling: what a source says of its plan does not raise
// what somebody configured.
func TestAConfiguredQuotaIsACeiling(t *testing.T) {
	for _, c := range []struct {
		assumed bool
		calls   int
	}{{false, 5}, {true, 200}} {
		synctest.Test(t, func(t *testing.T) {
			daily := scarce("daily", 5, provider.Day)
			daily.limits.Assumed = c.assumed
			daily.will(func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
				return provider.Finding{Usage: &provider.Usage{Limit: 1000, Remaining: 500, Window: provider.Day}}, nil
			})
			r := newRig(t, intel.Config{}, daily)
			r.observe(ips(200)...)
			r.start()
			time.Sleep(12 * time.Hour)
			synctest.Wait()
			require.Equal(t, c.calls, daily.asked())
		})
	}
}

// TestABurstLimitIsShort: a source that was asked too fast is asked again soon.
func TestABurstLimitIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a").will(fails(&provider.Error{Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: 20 * time.Second}))
		r := newRig(t, intel.Config{}, a)
		ids := r.observe(ips(50)...)
		r.start()
		time.Sleep(19 * time.Second)
		require.Equal(t, 1, a.asked())
		a.will(says(provider.Suspicious))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 51, a.asked())
		for _, id := range ids {
			require.Equal(t, provider.Suspicious, r.get(id).Decision.Verdict)
		}
	})
}

// TestABadKeyIsTriedOnce: one call, one alarm, and health says what to mend.
func TestABadKeyIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
		locked := newSource("locked").will(fails(&provider.Error{Kind: provider.ErrUnauthorized, StatusCode: 401}))
		good := newSource("good")
		b := membus.New(membus.Options{})
		r := newRig(t, intel.Config{Logger: log, Bus: b}, locked, good)
		ids := r.observe(ips(200)...)
		r.start()
		for n := range 60 {
			r.observe(ip(1000 + n))
			r.worker.Wake()
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		require.Equal(t, 1, locked.asked(), "calls in the first hour")
		require.Equal(t, 1, strings.Count(logged.String(), `"level":"ERROR"`), logged.String())
		require.Contains(t, logged.String(), "locked")
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("good").Finding)
		}

		health := listen(t, b, intel.TopicHealth)
		time.Sleep(time.Minute)
		synctest.Wait()
		said, err := json.Marshal(health.heard()[0]["providers"])
		require.NoError(t, err)
		require.Contains(t, string(said), `"state":"unauthorized"`)
		require.Contains(t, string(said), "correct the API key of locked")

		time.Sleep(4 * time.Hour)
		synctest.Wait()
		require.Equal(t, 1, locked.asked())
		locked.will(says(provider.Benign))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Greater(t, locked.asked(), 200, "the key was mended; all who waited are asked about")
	})
}

// TestAHangingProviderDelaysOnce: the first attackers of a process wait for a
// provider that hangs, for Patience. What the others find later is stored at the
// very instant at which it is stored without the one that hangs.
func TestAHangingProviderDelaysOnce(t *testing.T) {
	instants := func(others ...intel.Provider) map[string][]time.Duration {
		stored := make(map[string][]time.Duration)
		synctest.Test(t, func(t *testing.T) {
			var done saves
			started := time.Now()
			r := &rig{t: t, store: memstore.New()}
			w, err := intel.NewWorker(intel.Config{
				Store: r.store, Providers: others, Hooks: done.hooks(), Logger: slog.New(slog.DiscardHandler),
			})
			require.NoError(t, err)
			r.worker = w
			r.start()
			for n := range 20 {
				r.observe(ips(50 * (n + 1))[50*n:]...)
				w.Wake()
				time.Sleep(17 * time.Second)
			}
			synctest.Wait()
			r.stop()
			for i, info := range done.infos {
				for _, name := range info.Answered {
					stored[name] = append(stored[name], done.at[i].Sub(started))
				}
			}
		})
		for _, at := range stored {
			slices.Sort(at)
		}
		return stored
	}
	others := func() []intel.Provider {
		return []intel.Provider{
			newSource("a"), newSource("b").will(takes(70*time.Millisecond, provider.Benign)),
			newSource("c").will(takes(310*time.Millisecond, provider.Suspicious)),
		}
	}
	without := instants(others()...)
	with := instants(append(others(), newSource("hanging").will(hangs))...)
	for _, name := range []string{"a", "b", "c"} {
		require.Len(t, without[name], 1000)
		require.Len(t, with[name], 1000)
		for i := range 50 {
			require.GreaterOrEqual(t, with[name][i], time.Second, name)
			require.LessOrEqual(t, with[name][i], 1010*time.Millisecond, name)
		}
		require.True(t, slices.Equal(without[name][50:], with[name][50:]), name)
	}
}

// TestRefreshesAreSpread: attackers that came at once are not refreshed at once.
func TestRefreshesAreSpread(t *testing.T) {
	const attackers, ttl = 10_000, 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var refreshed []time.Time
		a := newSource("a").will(func(context.Context, netip.Addr) (provider.Finding, error) {
			mu.Lock()
			defer mu.Unlock()
			refreshed = append(refreshed, time.Now())
			return provider.Finding{Known: true, Verdict: provider.Malicious}, nil
		})
		w, err := intel.NewWorker(intel.Config{
			Store: storeOf(t, attackers), Providers: []intel.Provider{a}, Logger: slog.New(slog.DiscardHandler), TTL: ttl,
		})
		require.NoError(t, err)
		r := &rig{t: t, worker: w}
		started := time.Now()
		r.start()
		synctest.Wait()
		require.Equal(t, attackers, a.asked())
		require.Less(t, time.Since(started), time.Second)
		time.Sleep(ttl + time.Minute)
		synctest.Wait()
		require.Equal(t, 2*attackers, a.asked())
		mu.Lock()
		defer mu.Unlock()
		refreshed = refreshed[attackers:]
		const bins = 20
		window := ttl / 10 // the jitter
		var per [bins]int
		for _, at := range refreshed {
			since := at.Sub(started.Add(ttl - window))
			per[min(max(int(since*bins/window), 0), bins-1)]++
		}
		for i, n := range per {
			require.LessOrEqual(t, float64(n), 1.5*attackers/bins, "part %d of %d: %v", i+1, bins, per)
		}
	})
}

// TestScarceCallsGoWhereTheyCount: undecided before decided, newest first, and
// nobody starves.
func TestScarceCallsGoWhereTheyCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hourly := scarce("hourly", 8, time.Hour)
		free := newSource("free").will(func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			if addr.As4()[3]%2 == 0 {
				return provider.Finding{Known: true, Verdict: provider.Malicious}, nil
			}
			return provider.Finding{}, nil // no opinion
		})
		r := newRig(t, intel.Config{TTL: 60 * provider.Day, Spending: intel.Spending{Fair: -1}}, hourly, free)
		seen := time.Now().Add(-time.Hour)
		for n := range 40 { // the higher n, the later seen
			require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(n), LastSeen: seen.Add(time.Duration(n) * time.Second)}))
		}
		r.start()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		require.Equal(t, 8, hourly.asked(), "by whoever came first")
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		require.Equal(t, 40, hourly.asked())
		first := make(map[bool]byte) // by whether there is an opinion: who was asked about last
		undecided := false
		for hour := 4; hour > 0; hour-- { // from the last one back
			for _, addr := range hourly.calls[8*hour:][:8] {
				n, decided := addr.As4()[3], addr.As4()[3]%2 == 0
				require.False(t, decided && undecided, "one with an opinion came before one without: %v", hourly.calls)
				if last, ok := first[decided]; ok {
					require.Greater(t, n, last, "one came before a newer one: %v", hourly.calls)
				}
			}
			for _, addr := range hourly.calls[8*hour:][:8] {
				n, decided := addr.As4()[3], addr.As4()[3]%2 == 0
				first[decided] = max(first[decided], n)
				undecided = undecided || !decided
			}
		}
	})
}

func TestNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hourly := scarce("hourly", 8, time.Hour)
		r := newRig(t, intel.Config{TTL: 60 * provider.Day}, hourly)
		first := r.observe(ips(20)...)
		r.start()
		for n := range 24 * 60 { // ten times what the quota allows, always newer
			r.observe(ip(100+2*n), ip(101+2*n))
			r.worker.Wake()
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		require.Equal(t, 8*24, hourly.asked())
		for _, id := range first {
			require.NotNil(t, r.get(id).Entry("hourly").Finding, "one of the first is still waiting")
		}
	})
}

// TestSkipDecided spares calls that cannot change the verdict.
func TestSkipDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daily, free := scarce("daily", 100, provider.Day), newSource("free")
		r := newRig(t, intel.Config{Spending: intel.Spending{SkipDecided: true}}, daily, free)
		r.observe("45.9.9.9")
		r.start()
		require.Equal(t, 1, daily.asked(), "nothing was known yet")
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		before := daily.asked()
		require.LessOrEqual(t, before, 2)

		free.will(says(provider.Suspicious))
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		require.Greater(t, daily.asked(), before, "its word could make it worse")
	})
}

// TestSeenAgainRefreshesEarly: a sighting pulls a refresh forward while there
// are calls to spare.
func TestSeenAgainRefreshesEarly(t *testing.T) {
	see := func(r *rig, id uuid.UUID) {
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(0), LastSeen: time.Now()}))
		r.worker.Wake()
		synctest.Wait()
	}
	for name, c := range map[string]struct {
		quota  int
		ahead  float64
		expect int
	}{
		"calls to spare":    {100, 0, 2},
		"none to spare":     {2, 0, 1},
		"not wanted":        {100, -1, 1},
		"later in its life": {100, 0.9, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				daily := scarce("daily", c.quota, provider.Week)
				r := newRig(t, intel.Config{RefreshAhead: c.ahead}, daily)
				id := r.observe(ip(0))[0]
				r.start()
				require.Equal(t, 1, daily.asked())
				time.Sleep(8 * time.Hour)
				see(r, id)
				require.Equal(t, 1, daily.asked(), "a third of its life is too early")
				time.Sleep(5 * time.Hour)
				synctest.Wait()
				see(r, id)
				require.Equal(t, c.expect, daily.asked())
				see(r, id)
				require.Equal(t, c.expect, daily.asked(), "once is enough")
			})
		})
	}
}

// TestFreshness: what is known and what is not have lives of their own.
func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a").will(func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			return provider.Finding{Known: addr.As4()[3] == 1, TTL: time.Minute}, nil
		})
		r := newRig(t, intel.Config{
			Jitter: -1, Freshness: map[string]intel.Freshness{"a": {Known: time.Hour, Unknown: 5 * time.Hour}},
		}, a)
		ids := r.observe(ip(1), ip(2))
		started := time.Now().UTC()
		r.start()
		require.Equal(t, started.Add(time.Hour), r.get(ids[0]).Entries[0].Expires)
		require.Equal(t, started.Add(5*time.Hour), r.get(ids[1]).Entries[0].Expires)
	})
	for _, name := range []string{"a", "b"} {
		_, err := intel.NewWorker(intel.Config{
			Store: newRig(t, intel.Config{}).store, Providers: []intel.Provider{newSource("a")},
			Freshness: map[string]intel.Freshness{name: {Known: -1}},
		})
		require.ErrorContains(t, err, fmt.Sprintf("Freshness[%q]", name))
	}
}

// TestABreakerOpens: a source that fails for everybody is left alone, and those
// who wait for it are asked about once it works again.
func TestABreakerOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b")
		r := newRig(t, intel.Config{}, a, b)
		r.observe("45.8.8.8")
		r.start()
		a.will(fails(errors.New("connection refused")))
		ids := r.observe(ips(1000)...)
		r.worker.Wake()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Less(t, a.asked(), 100, "it is left alone")
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("b").Finding)
		}
		a.will(says(provider.Suspicious))
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("a").Finding)
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daily, down := scarce("daily", 10, provider.Day), newSource("down").will(fails(errors.New("no route")))
		r := newRig(t, intel.Config{}, daily, down)
		fresh, err := r.worker.Status(t.Context())
		require.NoError(t, err)
		require.False(t, fresh.Running)
		require.Equal(t, "unproven", fresh.Providers[0].State)
		require.Equal(t, []intel.QuotaStatus{{Limit: 10, Seconds: 86400, Remaining: 10}}, fresh.Providers[0].Quotas)
		require.Equal(t, &intel.Backlog{Waiting: map[string]int{}}, fresh.Backlog)

		r.observe(ips(35)...)
		r.start()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s, err := r.worker.Status(t.Context())
		require.NoError(t, err)
		require.True(t, s.Running)
		d := s.Providers[0]
		require.Equal(t, "daily", d.Name)
		require.Equal(t, "quota exhausted", d.State)
		require.WithinDuration(t, time.Now().Add(provider.Day), d.Until, 7*time.Minute)
		require.Zero(t, d.Quotas[0].Remaining)
		require.Equal(t, d.Until, d.Quotas[0].Reset)
		require.EqualValues(t, 10, d.Calls)
		require.EqualValues(t, 10, d.Answered)
		require.GreaterOrEqual(t, d.Deferred, uint64(25))
		f := s.Providers[1]
		require.Equal(t, "failing", f.State)
		require.EqualValues(t, f.Calls, f.Errors["unavailable"])
		require.Equal(t, 25, s.Backlog.Waiting["daily"])
		require.InDelta(t, 2.5*86400, s.Backlog.DrainSeconds, 0.05*86400)
		text, err := json.Marshal(s)
		require.NoError(t, err)
		require.Contains(t, string(text), `"quotas":[{"limit":10,"seconds":86400,"remaining":0,"reset":"`)
	})
}
