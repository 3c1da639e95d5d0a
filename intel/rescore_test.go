package intel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// opinions is a provider whose verdict depends on the address alone.
func opinions(name string, verdict func(last byte) provider.Verdict) *source {
	return newSource(name).will(func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
		return says(verdict(addr.As4()[3]))(ctx, addr)
	})
}

// silent is a provider that must not be called.
func silent(t *testing.T, name string) intel.Provider {
	return newSource(name).will(func(context.Context, netip.Addr) (provider.Finding, error) {
		t.Errorf("%s was asked", name)
		return provider.Finding{}, errors.New("not to be asked")
	})
}

// enriched returns a rig whose n attackers were enriched with opinions that
// Strongest and Weighted see differently, an hour ago, and whose worker now
// has the given configuration and providers that must not be called.
func enriched(t *testing.T, n int, c intel.Config) (*rig, []uuid.UUID) {
	t.Helper()
	first := newRig(t, intel.Config{},
		opinions("abuseipdb", func(b byte) provider.Verdict { return provider.Verdict(b % 5) }),
		opinions("custom", func(b byte) provider.Verdict { return provider.Verdict(b / 5 % 5) }),
		opinions("greynoise", func(b byte) provider.Verdict { return provider.Verdict(b / 25 % 5) }))
	ids := first.observe(ips(n)...)
	require.NoError(t, first.worker.Drain(t.Context()))
	time.Sleep(time.Hour)
	if c.Store == nil {
		c.Store = first.store
	}
	if c.Policy == nil {
		c.Policy = aggregate.Weighted{}
	}
	second := newRig(t, c, silent(t, "abuseipdb"), silent(t, "custom"), silent(t, "greynoise"))
	second.store = first.store
	return second, ids
}

// records returns all records by attacker.
func (r *rig) records() map[uuid.UUID]store.Record {
	r.t.Helper()
	page, err := r.store.List(r.t.Context(), store.ListRequest{Limit: 1_000_000})
	require.NoError(r.t, err)
	all := make(map[uuid.UUID]store.Record)
	for _, rec := range page.Records {
		all[rec.ID] = rec
	}
	return all
}

// rescored demands that the decisions on the named attackers have become the
// policy's, and that nothing else is different from before.
func (r *rig) rescored(before map[uuid.UUID]store.Record, ids ...uuid.UUID) {
	r.t.Helper()
	after := r.records()
	require.Len(r.t, after, len(before))
	for id, was := range before {
		if slices.Contains(ids, id) {
			var evidence []aggregate.Evidence
			for _, e := range was.Entries {
				evidence = append(evidence, aggregate.Evidence{Finding: e.Finding, Stale: !time.Now().Before(e.Expires)})
			}
			was.Decision = r.config.Policy.Decide(evidence, time.Now().UTC())
			was.Decision.Policy = aggregate.Fingerprint(r.config.Policy, nil)
		}
		require.Equal(r.t, was, after[id])
	}
}

func TestRescore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 600 // three pages
		bus := membus.New(membus.Options{})
		defer bus.Close()
		everything, err := bus.Subscribe(t.Context(), ">")
		require.NoError(t, err)
		var saved []intel.SavedInfo
		r, ids := enriched(t, n, intel.Config{Bus: bus, Hooks: intel.Hooks{
			Saved: func(info intel.SavedInfo) { saved = append(saved, info) },
		}})
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(n)})) // about whom nothing is known
		before := r.records()

		done, err := r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		r.rescored(before, ids...)
		verdicts := 0
		for id, rec := range r.records() {
			if rec.Decision.Verdict != before[id].Decision.Verdict {
				verdicts++
			}
		}
		require.Greater(t, verdicts, n/10)
		require.Equal(t, intel.Rescored{Seen: n, Changed: n, Verdicts: verdicts}, done)

		require.Len(t, saved, n)
		for _, info := range saved {
			require.Equal(t, r.get(info.Record.ID).Decision, info.Record.Decision)
			require.Equal(t, before[info.Record.ID].Decision.Verdict != info.Record.Decision.Verdict, info.Changed)
			require.Empty(t, info.Answered)
			require.Empty(t, info.Pending)
		}
		synctest.Wait()
		require.Empty(t, everything.Events(), "nothing was learnt, so there is nothing to announce")
		unpublished, err := r.store.Unpublished(t.Context(), 0, 10)
		require.NoError(t, err)
		require.Empty(t, unpublished)

		// Another time the weights are others, and the decisions the same.
		time.Sleep(time.Hour)
		before = r.records()
		done, err = r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, intel.Rescored{Seen: n}, done)
		r.rescored(before)

		// After a day and more the findings are stale, and that is told.
		time.Sleep(25 * time.Hour)
		done, err = r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, n, done.Changed)
		r.rescored(before, ids...)
	})
}

// Rescore changes nothing about when attackers are due.
func TestRescoreKeepsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ids := enriched(t, 20, intel.Config{})
		var due []time.Time
		first := func(id uuid.UUID) (at time.Time) {
			for _, e := range r.get(id).Entries {
				if at.IsZero() || e.Expires.Before(at) {
					at = e.Expires
				}
			}
			return at
		}
		for _, id := range ids {
			due = append(due, first(id))
		}
		slices.SortFunc(due, time.Time.Compare)
		done, err := r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 20, done.Changed)
		// One is seen again, and then replaced early.
		seen := slices.IndexFunc(ids, func(id uuid.UUID) bool { return first(id).Equal(due[19]) })
		early := r.get(ids[seen]).Entries[0].Finding.ObservedAt.Add(24 * time.Hour)
		for _, e := range r.get(ids[seen]).Entries {
			half := e.Finding.ObservedAt.Add(e.Expires.Sub(e.Finding.ObservedAt) / 2)
			if half.Before(early) {
				early = half
			}
		}
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: ids[seen], IP: r.get(ids[seen]).IP, LastSeen: time.Now()}))
		claim := func(at time.Time) int {
			c, err := r.store.Claim(t.Context(), store.ClaimRequest{Now: at, Owner: "test", Lease: 100 * time.Hour, Limit: 100})
			require.NoError(t, err)
			return len(c.Records)
		}
		require.Zero(t, claim(early.Add(-time.Microsecond)))
		require.Equal(t, 1, claim(early))
		for _, at := range due[:19] {
			require.Zero(t, claim(at.Add(-time.Microsecond)))
			require.Equal(t, 1, claim(at))
		}
	})
}

func TestRescoreLeavesAloneWhatOthersHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ids := enriched(t, 10, intel.Config{})
		before := r.records()
		c, err := r.store.Claim(t.Context(), store.ClaimRequest{
			Now: time.Now(), Owner: "another", Lease: time.Hour, Limit: 10, Only: ids[:3],
		})
		require.NoError(t, err)
		require.Len(t, c.Records, 3)

		done, err := r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 10, done.Seen)
		require.Equal(t, 7, done.Changed)
		require.Equal(t, 3, done.Busy)
		r.rescored(before, ids[3:]...)

		for _, rec := range c.Records { // their owner still has them
			require.NoError(t, r.store.Save(t.Context(), store.Update{
				Lease: store.Lease{ID: rec.ID, Fence: rec.Fence}, IP: rec.IP, Entries: rec.Entries, Revision: rec.Revision, KeepDue: true,
			}))
		}
		done, err = r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 3, done.Changed)
		require.Zero(t, done.Busy)
		r.rescored(before, ids...)
	})
}

// interposed is a memory store with something in front of its calls.
type interposed struct {
	*memstore.Store
	list   func(req store.ListRequest)
	claim  func(c store.Claimed)
	saving func(updates []store.Update) error
	poison uuid.UUID // cannot be saved
}

func (s *interposed) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	if s.list != nil {
		s.list(req)
	}
	return s.Store.List(ctx, req)
}

func (s *interposed) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, req)
	if s.claim != nil {
		s.claim(c)
	}
	return c, err
}

func (s *interposed) Save(ctx context.Context, updates ...store.Update) error {
	if s.saving != nil {
		if err := s.saving(updates); err != nil {
			return err
		}
	}
	return (&picky{Store: s.Store, poison: s.poison}).Save(ctx, updates...)
}

// behind returns a rig whose worker has its store behind s.
func behind(t *testing.T, n int, s *interposed, c intel.Config) (*rig, []uuid.UUID) {
	t.Helper()
	c.Store = s
	r, ids := enriched(t, n, c)
	s.Store = r.store
	return r, ids
}

func TestRescoreGoesOnWhereItWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 600
		ctx, cancel := context.WithCancel(t.Context())
		s := &interposed{list: func(req store.ListRequest) {
			if req.Cursor != "" {
				cancel()
			}
		}}
		r, ids := behind(t, n, s, intel.Config{})
		before := r.records()
		done, err := r.worker.Rescore(ctx, "")
		require.ErrorIs(t, err, context.Canceled)
		require.NotEmpty(t, done.Next)
		require.Greater(t, done.Changed, 0)
		require.Less(t, done.Changed, n)
		require.Equal(t, done.Seen, done.Changed)

		s.list = nil
		rest, err := r.worker.Rescore(t.Context(), done.Next)
		require.NoError(t, err)
		require.Equal(t, n-done.Seen, rest.Seen, "no record is looked at twice")
		require.Equal(t, n-done.Changed, rest.Changed)
		require.Empty(t, rest.Next)
		r.rescored(before, ids...)
	})
}

func TestRescoreSavesWhatItHasClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r, ids := behind(t, 5, &interposed{claim: func(store.Claimed) { cancel() }}, intel.Config{})
		before := r.records()
		done, err := r.worker.Rescore(ctx, "")
		require.NoError(t, err)
		require.Equal(t, 5, done.Changed)
		r.rescored(before, ids...)
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Zero(t, stats.Leased)
	})
}

// A page whose records cannot be saved is done again by the next call.
func TestRescoreWhileTheStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("disk full")
		s := &interposed{saving: func([]store.Update) error { return down }}
		r, ids := behind(t, 5, s, intel.Config{})
		before := r.records()
		done, err := r.worker.Rescore(t.Context(), "")
		require.ErrorIs(t, err, down)
		require.ErrorContains(t, err, "intel: rescore: save records: disk full")
		require.Zero(t, done)

		s.saving = nil
		time.Sleep(2*time.Minute + time.Second) // until the leases expire
		done, err = r.worker.Rescore(t.Context(), done.Next)
		require.NoError(t, err)
		require.Equal(t, 5, done.Changed)
		r.rescored(before, ids...)
	})
}

func TestRescoreGoesOnAfterARecordThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var ids []uuid.UUID
		s := &interposed{}
		r, ids := behind(t, 5, s, intel.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		before := r.records()
		s.poison = ids[2]
		done, err := r.worker.Rescore(t.Context(), "")
		require.EqualError(t, err, "intel: rescore: 1 of 5 records failed; the log says which and why")
		require.Equal(t, 4, done.Changed)
		require.Equal(t, 1, done.Failed)
		require.Contains(t, log.String(), "cannot be stored")
		require.Contains(t, log.String(), ids[2].String())
		r.rescored(before, ids[0], ids[1], ids[3], ids[4])
	})
}

// A worker that lost its lease between claiming and saving overwrites nothing.
func TestRescoreLosesALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &interposed{}
		r, ids := behind(t, 5, s, intel.Config{})
		before := r.records()
		s.claim = func(c store.Claimed) {
			require.NoError(t, r.store.Release(t.Context(), time.Now().Add(time.Hour), store.Lease{ID: c.Records[0].ID, Fence: c.Records[0].Fence}))
			ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return id == c.Records[0].ID })
		}
		done, err := r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 4, done.Changed)
		require.Equal(t, 1, done.Busy)
		require.Len(t, ids, 4)
		r.rescored(before, ids...)
	})
}

// What another worker has decided meanwhile is left as it is.
func TestRescoreDecidesOnWhatItClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &interposed{}
		r, ids := behind(t, 5, s, intel.Config{})
		rival, err := intel.NewWorker(intel.Config{
			Store: r.store, Providers: r.config.Providers, Policy: r.config.Policy, Logger: r.config.Logger,
		})
		require.NoError(t, err)
		before := r.records()
		listed := false
		s.list = func(store.ListRequest) { listed = true }
		late := &lateLister{interposed: s, after: func() {
			require.True(t, listed)
			done, err := rival.Rescore(t.Context(), "")
			require.NoError(t, err)
			require.Equal(t, 5, done.Changed)
		}}
		c := r.config
		c.Store = late
		w, err := intel.NewWorker(c)
		require.NoError(t, err)
		done, err := w.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, intel.Rescored{Seen: 5}, done)
		r.rescored(before, ids...)
	})
}

// lateLister lets something happen after a page was read.
type lateLister struct {
	*interposed
	after func()
}

func (s *lateLister) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	page, err := s.interposed.List(ctx, req)
	s.after()
	return page, err
}

// One that moves after it was listed is left as it is.
func TestRescoreWhileSomebodyMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &interposed{claim: func(c store.Claimed) {
			for i := range c.Records { // as a store may return them
				c.Records[i].Entries = slices.Grow(c.Records[i].Entries, 9)
			}
		}}
		r, ids := behind(t, 3, s, intel.Config{})
		c := r.config
		var before map[uuid.UUID]store.Record
		c.Store = &lateLister{interposed: s, after: func() {
			require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: ids[0], IP: "45.200.0.1"}))
			before = r.records()
		}}
		w, err := intel.NewWorker(c)
		require.NoError(t, err)
		done, err := w.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 2, done.Changed)
		r.rescored(before, ids[1:]...)
	})
}

// fixed is a policy that decides without looking.
type fixed struct{ decision aggregate.Decision }

func (p fixed) Name() string { return p.decision.Policy }

func (p fixed) Decide([]aggregate.Evidence, time.Time) aggregate.Decision { return p.decision }

func TestWhatRescoreTakesForAnotherDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ids := enriched(t, 1, intel.Config{})
		decide := func(d aggregate.Decision) int {
			t.Helper()
			c := r.config
			c.Policy = fixed{d}
			w, err := intel.NewWorker(c)
			require.NoError(t, err)
			done, err := w.Rescore(t.Context(), "")
			require.NoError(t, err)
			if done.Changed > 0 {
				require.Equal(t, d, r.get(ids[0]).Decision)
			}
			return done.Changed
		}
		reason := aggregate.Reason{Provider: "a", ObservedAt: time.Now(), Weight: 0.5, Age: time.Minute}
		d := aggregate.Decision{Verdict: provider.Benign, Policy: "fixed/1", Score: -0.5, Reasons: []aggregate.Reason{reason}}
		require.Equal(t, 1, decide(d))
		require.Equal(t, 0, decide(d))
		d.Verdict = provider.Malicious
		require.Equal(t, 1, decide(d))
		d.Conflict = true
		require.Equal(t, 1, decide(d))
		d.Policy = "fixed/2"
		require.Equal(t, 1, decide(d))
		change := func(change func(r *aggregate.Reason)) int {
			t.Helper()
			d.Reasons = slices.Clone(d.Reasons)
			change(&d.Reasons[0])
			return decide(d)
		}
		require.Equal(t, 1, change(func(r *aggregate.Reason) { r.ObservedAt = r.ObservedAt.Add(time.Second) }))
		require.Equal(t, 1, change(func(r *aggregate.Reason) { r.Ignored = aggregate.Dependent }))
		require.Equal(t, 1, change(func(r *aggregate.Reason) { r.Stale = true }))
		require.Equal(t, 0, change(func(r *aggregate.Reason) { r.Weight, r.Age = 0.4, time.Hour }))
		d.Score = -0.4
		require.Equal(t, 0, decide(d))
		d.Reasons = append(d.Reasons, reason)
		require.Equal(t, 1, decide(d))
	})
}

// touchy is a policy that panics about one address.
type touchy struct{ about netip.Addr }

func (touchy) Name() string { return "touchy/1" }

func (p touchy) Decide(evidence []aggregate.Evidence, now time.Time) aggregate.Decision {
	if evidence[0].Finding.Addr == p.about {
		panic("too much")
	}
	return aggregate.Weighted{}.Decide(evidence, now)
}

func TestRescoreWithAPolicyThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, ids := enriched(t, 4, intel.Config{
			Policy: touchy{netip.MustParseAddr(ip(1))}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		before := r.records()
		done, err := r.worker.Rescore(t.Context(), "")
		require.ErrorContains(t, err, "1 of 4 records failed")
		require.Equal(t, 3, done.Changed)
		require.Equal(t, 1, done.Failed)
		require.Contains(t, log.String(), "panic; its value is not shown")
		require.Contains(t, log.String(), ids[1].String())
		r.rescored(before, ids[0], ids[2], ids[3])
	})
}

// Who has another address now is due, and decided on then.
func TestRescoreSkipsWhoHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ids := enriched(t, 3, intel.Config{})
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: ids[0], IP: "45.200.0.1"}))
		before := r.records()
		done, err := r.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, 3, done.Seen)
		require.Equal(t, 2, done.Changed)
		r.rescored(before, ids[1:]...)
		c, err := r.store.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Hour, Limit: 9})
		require.NoError(t, err)
		require.Len(t, c.Records, 1)
		require.Equal(t, ids[0], c.Records[0].ID)
	})
}

// The findings that count are those a pass would count.
func TestRescoreCountsLikeAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("a"), newSource("b").will(says(provider.Benign)))
		id := r.observe("45.1.2.3")[0]
		require.NoError(t, r.worker.Drain(t.Context()))
		require.Equal(t, provider.Malicious, r.get(id).Decision.Verdict)
		rescore := func(c intel.Config, ps ...intel.Provider) *store.Record {
			c.Store, c.Providers, c.Logger = r.store, ps, slog.New(slog.DiscardHandler)
			w, err := intel.NewWorker(c)
			require.NoError(t, err)
			_, err = w.Rescore(t.Context(), "")
			require.NoError(t, err)
			return r.get(id)
		}
		require.Equal(t, provider.Benign, rescore(intel.Config{}, silent(t, "b")).Decision.Verdict, "a is not configured")
		require.Equal(t, provider.Malicious, rescore(intel.Config{}, silent(t, "a"), silent(t, "b"), silent(t, "c")).Decision.Verdict)
		time.Sleep(29 * 24 * time.Hour)
		require.Equal(t, provider.Malicious, rescore(intel.Config{}, silent(t, "a")).Decision.Verdict)
		require.Equal(t, provider.None, rescore(intel.Config{MaxStale: 29 * 24 * time.Hour}, silent(t, "a")).Decision.Verdict)
		require.Equal(t, provider.Malicious, rescore(intel.Config{MaxStale: 29*24*time.Hour + 1}, silent(t, "a")).Decision.Verdict)
	})
}

func TestRescoreRefuses(t *testing.T) {
	s := memstore.New()
	w, err := intel.NewWorker(intel.Config{Store: struct{ store.Store }{s}, Providers: []intel.Provider{newSource("a")}})
	require.NoError(t, err)
	done, err := w.Rescore(t.Context(), "here")
	require.ErrorContains(t, err, "store.Lister")
	require.Equal(t, intel.Rescored{Next: "here"}, done)

	w, err = intel.NewWorker(intel.Config{Store: s})
	require.NoError(t, err)
	_, err = w.Rescore(t.Context(), "")
	require.ErrorContains(t, err, "no providers")

	w, err = intel.NewWorker(intel.Config{Store: s, Providers: []intel.Provider{newSource("a")}})
	require.NoError(t, err)
	_, err = w.Rescore(t.Context(), "nonsense")
	require.ErrorIs(t, err, store.ErrInvalid)
	done, err = w.Rescore(t.Context(), "")
	require.NoError(t, err)
	require.Zero(t, done, "an empty store")
}

func TestNewWorkerValidatesThePolicy(t *testing.T) {
	c := intel.Config{Store: memstore.New(), Policy: aggregate.Weighted{HalfLife: -1, Benign: math.NaN()}}
	_, err := intel.NewWorker(c)
	require.ErrorContains(t, err, "intel: Config.Policy: aggregate: Weighted.HalfLife is -1ns")
	require.ErrorContains(t, err, "Benign is NaN")
	c.Policy = aggregate.Weighted{HalfLife: time.Hour}
	_, err = intel.NewWorker(c)
	require.NoError(t, err)
}

func BenchmarkRescore(b *testing.B) {
	for _, n := range []int{1_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := memstore.New()
			for i := range n {
				require.NoError(b, s.Observe(b.Context(), store.Attacker{ID: uuid.New(), IP: ip(i)}))
			}
			policies := []aggregate.Policy{aggregate.Weighted{}, aggregate.Strongest{}}
			worker := func(i int) *intel.Worker {
				w, err := intel.NewWorker(intel.Config{
					Store: s, Providers: instantProviders(), Policy: policies[i%2], Logger: slog.New(slog.DiscardHandler),
				})
				require.NoError(b, err)
				return w
			}
			require.NoError(b, worker(1).Drain(b.Context()))
			i := 0
			for b.Loop() {
				done, err := worker(i).Rescore(b.Context(), "")
				require.NoError(b, err)
				require.Equal(b, n, done.Changed)
				i++
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// ranksIgnored decides as the first version of Strongest did, which had no ranks.
type ranksIgnored struct{}

func (ranksIgnored) Name() string { return "strongest/1" }

func (ranksIgnored) Decide(evidence []aggregate.Evidence, now time.Time) aggregate.Decision {
	evidence = slices.Clone(evidence)
	for i := range evidence {
		evidence[i].Profile.Rank = 0
	}
	return aggregate.Strongest{}.Decide(evidence, now)
}

// After an upgrade, a rescore changes what the new rules change, and says how many
// attackers that are: those on a list of scanners whose reputation is bad.
func TestRescoreAfterAnUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, scanning = 40, 12
		scanners := &roster{name: "scanners", verdict: provider.Benign, rank: provider.RankVerified}
		rows := map[string]string{}
		for _, addr := range ips(scanning) {
			rows[addr+"/32"] = "a"
		}
		scanners.set(rows)
		verdict := func(b byte) provider.Verdict { return []provider.Verdict{provider.Malicious, provider.Unknown}[b%2] }
		old := newRig(t, intel.Config{Policy: ranksIgnored{}}, scanners, opinions("reputation", verdict))
		ids := old.observe(ips(n)...)
		require.NoError(t, old.worker.Drain(t.Context()))
		before := old.records()

		upgraded := newRig(t, intel.Config{Store: old.store}, scanners, silent(t, "reputation"))
		done, err := upgraded.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		changed := 0
		for i, id := range ids {
			was, is := before[id].Decision.Verdict, old.get(id).Decision.Verdict
			if i < scanning {
				require.Equal(t, provider.Benign, is)
			} else {
				require.Equal(t, was, is)
			}
			if was != is {
				changed++
			}
		}
		require.Equal(t, scanning/2, changed)
		require.Equal(t, intel.Rescored{Seen: n, Changed: n, Verdicts: changed}, done, "each decision names the policy that made it")
		done, err = upgraded.worker.Rescore(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, intel.Rescored{Seen: n}, done)
	})
}
