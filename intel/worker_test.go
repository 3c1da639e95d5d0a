package intel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// source is a provider whose behaviour a test sets. It answers malicious
// unless told otherwise.
type source struct {
	name   string
	mu     sync.Mutex
	answer func(ctx context.Context, addr netip.Addr) (provider.Finding, error)
	calls  []netip.Addr
}

func newSource(name string) *source { return &source{name: name} }

func (s *source) Name() string { return s.name }

func (s *source) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	s.mu.Lock()
	s.calls = append(s.calls, addr)
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		answer = says(provider.Malicious)
	}
	f, err := answer(ctx, addr)
	if !f.Addr.IsValid() {
		f.Addr = addr
	}
	return f, err
}

func (s *source) will(answer func(context.Context, netip.Addr) (provider.Finding, error)) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
	return s
}

func (s *source) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func says(v provider.Verdict) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(context.Context, netip.Addr) (provider.Finding, error) {
		return provider.Finding{Known: true, Verdict: v, Raw: []byte(`{"said":true}`)}, nil
	}
}

func fails(err error) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(context.Context, netip.Addr) (provider.Finding, error) { return provider.Finding{}, err }
}

func hangs(ctx context.Context, _ netip.Addr) (provider.Finding, error) {
	<-ctx.Done()
	return provider.Finding{}, ctx.Err()
}

func takes(d time.Duration, v provider.Verdict) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
		select {
		case <-time.After(d):
			return says(v)(ctx, addr)
		case <-ctx.Done():
			return provider.Finding{}, ctx.Err()
		}
	}
}

// rig is a worker over a memory store, inside a synctest bubble.
type rig struct {
	t      *testing.T
	store  *memstore.Store
	worker *intel.Worker
	config intel.Config
	passes atomic.Int32
	stop   func()
	done   chan error
}

func newRig(t *testing.T, c intel.Config, ps ...intel.Provider) *rig {
	t.Helper()
	r := &rig{t: t, store: memstore.New()}
	if c.Store == nil {
		c.Store = r.store
	}
	c.Providers = ps
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	pass := c.Hooks.Pass
	c.Hooks.Pass = func(info intel.PassInfo) {
		r.passes.Add(1)
		if pass != nil {
			pass(info)
		}
	}
	saved := c.Hooks.Saved
	c.Hooks.Saved = func(info intel.SavedInfo) {
		intel.RememberEvent(info)
		if saved != nil {
			saved(info)
		}
	}
	w, err := intel.NewWorker(c)
	require.NoError(t, err)
	r.worker, r.config = w, c
	return r
}

// start runs the worker until stopped or the test ends.
func (r *rig) start() *rig {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.done = make(chan error, 1)
	go func() { r.done <- r.worker.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(r.t, <-r.done)
		})
	}
	r.t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

func (r *rig) observe(ips ...string) []uuid.UUID {
	r.t.Helper()
	ids := make([]uuid.UUID, len(ips))
	for i, ip := range ips {
		ids[i] = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, ip, i))
		require.NoError(r.t, r.store.Observe(r.t.Context(), store.Attacker{ID: ids[i], IP: ip}))
	}
	return ids
}

func (r *rig) get(id uuid.UUID) *store.Record {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), id)
	require.NoError(r.t, err)
	return &rec
}

// ip returns the n-th of many public addresses.
func ip(n int) string { return fmt.Sprintf("45.%d.%d.%d", 1+n>>16, n>>8&255, n&255) }

func ips(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = ip(i)
	}
	return list
}

func TestEnrichesWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b").will(says(provider.Unknown))
		r := newRig(t, intel.Config{}, a, b)
		ids := r.observe("45.1.2.3", "2a00:1450:4001::8", "::ffff:45.1.2.4")
		r.start()
		for _, id := range ids {
			rec := r.get(id)
			require.Equal(t, provider.Malicious, rec.Decision.Verdict)
			require.EqualValues(t, 1, rec.Revision)
			require.Len(t, rec.Entries, 2)
			require.Equal(t, store.Fresh, rec.Entries[1].State)
			require.Equal(t, provider.Unknown, rec.Entries[1].Finding.Verdict)
			require.JSONEq(t, `{"said":true}`, string(rec.Entries[0].Finding.Raw))
		}
		require.Equal(t, 3, a.asked())
		require.Contains(t, a.calls, netip.MustParseAddr("45.1.2.4"))
		// Nothing is asked again before the earliest jittered expiry, everything
		// by the latest.
		time.Sleep(21 * time.Hour)
		require.Equal(t, 3, a.asked())
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, 6, a.asked())
		require.EqualValues(t, 3, r.get(ids[0]).Revision, "each provider in its own time")
	})
}

func TestWakeDuringAPassIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		late := uuid.New()
		var once sync.Once
		r = newRig(t, intel.Config{Hooks: intel.Hooks{Pass: func(intel.PassInfo) {
			once.Do(func() { // the pass has looked already and has not ended yet
				_ = r.store.Observe(context.Background(), store.Attacker{ID: late, IP: ip(1)})
				r.worker.Wake()
			})
		}}}, newSource("a"))
		started := time.Now()
		r.start()
		require.EqualValues(t, 1, r.get(late).Revision)
		require.Zero(t, time.Since(started), "it waited for the tick")
	})
}

func TestABurstOfWakesMakesFewPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{}, 100)
		for range 10 {
			hold <- struct{}{}
		}
		r := newRig(t, intel.Config{Hooks: intel.Hooks{Pass: func(intel.PassInfo) { <-hold }}}, newSource("a")).start()
		for len(hold) > 0 { // from now on a pass does not end before it is let
			<-hold
		}
		before := r.passes.Load()
		for range 1000 {
			r.worker.Wake()
		}
		synctest.Wait()
		for range 50 {
			hold <- struct{}{}
		}
		synctest.Wait()
		require.EqualValues(t, 2, r.passes.Load()-before, "the one under way, and one for all that came meanwhile")
	})
}

func TestWithoutProvidersNothingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{})
		ids := r.observe(ips(3)...)
		r.start()
		time.Sleep(time.Hour)
		require.Empty(t, r.get(ids[0]).Entries)
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Equal(t, 3, stats.Due, "they stay due for a worker that has providers")
	})
}

func TestProvidersFailAlone(t *testing.T) {
	for name, bad := range map[string]func(context.Context, netip.Addr) (provider.Finding, error){
		"error":           fails(errors.New("broken")),
		"hang":            hangs,
		"panic":           func(context.Context, netip.Addr) (provider.Finding, error) { panic("boom") },
		"foreign finding": func(context.Context, netip.Addr) (provider.Finding, error) { return provider.Finding{Verdict: 77}, nil },
		"attribute of a kind that cannot be stored": func(context.Context, netip.Addr) (provider.Finding, error) {
			return provider.Finding{Attrs: map[string]any{"x": struct{}{}}}, nil
		},
		"typed nil error":                  fails((*provider.Error)(nil)),
		"typed nil in an error":            fails(errors.Join((*provider.Error)(nil))),
		"error that panics":                fails(booby{}),
		"panics with an error that panics": func(context.Context, netip.Addr) (provider.Finding, error) { panic(booby{}) },
		"ends its goroutine": func(context.Context, netip.Addr) (provider.Finding, error) {
			runtime.Goexit()
			return provider.Finding{}, nil
		},
		"10 MiB attribute": func(context.Context, netip.Addr) (provider.Finding, error) {
			return provider.Finding{Verdict: provider.Malicious, Attrs: map[string]any{"x": strings.Repeat("x", 10<<20)}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad := newSource("bad").will(bad)
				r := newRig(t, intel.Config{}, newSource("a").will(says(provider.Suspicious)), bad, newSource("z"))
				ids := r.observe(ip(1))
				r.start()
				time.Sleep(20 * time.Second)
				synctest.Wait()
				rec := r.get(ids[0])
				require.Equal(t, provider.Malicious, rec.Decision.Verdict)
				require.NotNil(t, rec.Entry("a").Finding)
				require.NotNil(t, rec.Entry("z").Finding)
				e := rec.Entry("bad")
				require.Nil(t, e.Finding)
				require.Equal(t, store.Due, e.State)
				require.Equal(t, 1, e.Failures)
				require.NotEmpty(t, e.Error)
				require.WithinDuration(t, time.Now(), e.Due, 2*time.Minute, "retried soon, not after the TTL")

				bad.will(says(provider.Benign))
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				rec = r.get(ids[0])
				require.Equal(t, provider.Benign, rec.Entry("bad").Finding.Verdict)
				require.Zero(t, rec.Entry("bad").Failures)
				require.Equal(t, provider.Malicious, rec.Decision.Verdict)
			})
		})
	}
}

// booby is an error that panics when it is looked at.
type booby struct{}

func (booby) Error() string   { panic(booby{}) }
func (booby) Is(error) bool   { panic(booby{}) }
func (booby) As(any) bool     { panic(booby{}) }
func (booby) Unwrap() []error { panic(booby{}) }
func (booby) RuntimeError()   {}

// TestHooksMayPanic: everything goes on as without them.
func TestHooksMayPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, intel.Config{
			Bus:    membus.New(membus.Options{}),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Hooks: intel.Hooks{
				Pass:      func(intel.PassInfo) { panic(booby{}) },
				Lookup:    func(intel.LookupInfo) { panic(booby{}) },
				Saved:     func(intel.SavedInfo) { panic(booby{}) },
				Published: func(intel.PublishedInfo) { panic(booby{}) },
			},
		}, newSource("a"), newSource("b"))
		ids := r.observe(ips(3)...)
		r.start()
		_, err := r.worker.Enrich(t.Context(), ids[0])
		require.NoError(t, err)
		r.stop()
		for _, id := range ids {
			require.Equal(t, provider.Malicious, r.get(id).Decision.Verdict)
		}
		for _, hook := range []string{"Pass", "Lookup", "Saved", "Published"} {
			require.Equal(t, 1, strings.Count(log.String(), `msg="a hook panics" hook=`+hook), log.String())
		}
	})
}

// oddNamed is a provider whose name cannot be asked for.
type oddNamed struct{ *source }

func (oddNamed) Name() string { panic(booby{}) }

// TestNewWorkerSurvivesProviders: a provider that panics when it is asked what
// it is is refused.
func TestNewWorkerSurvivesProviders(t *testing.T) {
	var none *source
	_, err := intel.NewWorker(intel.Config{Store: memstore.New(), Providers: []intel.Provider{newSource("a"), none, oddNamed{}}})
	require.ErrorContains(t, err, "intel: Config.Providers: number 2: its method Name fails: panic: ")
	require.ErrorContains(t, err, "intel: Config.Providers: number 3: its method Name fails: panic")
}

func TestAHugeRawIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := newSource("big").will(func(context.Context, netip.Addr) (provider.Finding, error) {
			return provider.Finding{Verdict: provider.Malicious, Raw: []byte(`"` + strings.Repeat("x", 10<<20) + `"`)}, nil
		})
		r := newRig(t, intel.Config{}, big)
		ids := r.observe(ip(1))
		r.start()
		require.JSONEq(t, `{"truncated":true,"bytes":10485762}`, string(r.get(ids[0]).Entries[0].Finding.Raw))
	})
}

func TestAProviderThatNeverReturnsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := newSource("deaf").will(func(context.Context, netip.Addr) (provider.Finding, error) {
			<-release
			return provider.Finding{}, errors.New("too late")
		})
		r := newRig(t, intel.Config{Concurrency: 4}, deaf, newSource("good"))
		ids := r.observe(ips(100)...)
		r.start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("good").Finding, "the good one is not held up")
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, deaf.asked(), "it is not asked on before it has answered")
		failures, waiting := 0, 0
		for _, id := range ids {
			e := r.get(id).Entry("deaf")
			failures += e.Failures
			if e.State == store.Waiting {
				waiting++
			}
		}
		require.Equal(t, 1, failures, "that one is given up")
		require.Equal(t, 99, waiting, "the others wait")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, 4, deaf.asked(), "no more calls than it may have in flight")
		close(release)
	})
}

func TestASlowProviderDelaysNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saved []time.Duration
		var mu sync.Mutex
		started := time.Now()
		c := intel.Config{Hooks: intel.Hooks{Saved: func(s intel.SavedInfo) {
			mu.Lock()
			defer mu.Unlock()
			if len(s.Answered) > 0 && s.Answered[0] == "fast" {
				saved = append(saved, time.Since(started))
			}
		}}}
		r := newRig(t, c, newSource("fast"), newSource("slow").will(takes(9*time.Second, provider.Benign)))
		ids := r.observe(ips(300)...)
		r.start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mu.Lock()
		seen := slices.Clone(saved)
		mu.Unlock()
		require.Len(t, seen, len(ids))
		for _, at := range seen {
			require.LessOrEqual(t, at, 1010*time.Millisecond, "a row waits at most the patience")
		}
		require.Nil(t, r.get(ids[0]).Entry("slow").Finding)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("slow").Finding, "the rest follows")
		}
	})
}

func TestTotalFailureChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b").will(says(provider.Benign))
		r := newRig(t, intel.Config{}, a, b)
		ids := r.observe(ip(1))
		r.start()
		before := r.get(ids[0])
		a.will(fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503}))
		b.will(hangs)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		after := r.get(ids[0])
		require.Equal(t, before.Decision, after.Decision)
		require.Equal(t, before.Revision, after.Revision)
		require.Equal(t, before.CachedAt, after.CachedAt)
		require.Equal(t, before.Entry("a").Finding, after.Entry("a").Finding)
		require.Equal(t, before.Entry("b").Finding, after.Entry("b").Finding)
		require.Positive(t, after.Entry("a").Failures)
		require.WithinDuration(t, time.Now(), after.Entry("a").Due, 75*time.Minute)
	})
}

func TestNothingLearntLeavesNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a").will(fails(errors.New("down")))
		r := newRig(t, intel.Config{}, a)
		ids := r.observe(ip(1))
		r.start()
		rec := r.get(ids[0])
		require.Zero(t, rec.Revision)
		require.Zero(t, rec.Decision)
		time.Sleep(10 * time.Minute)
		require.Greater(t, a.asked(), 2, "retried, with growing delay")
		require.Less(t, a.asked(), 6)
	})
}

func TestA429LeavesTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tf := newSource("threatfox")
		r := newRig(t, intel.Config{}, tf)
		ids := r.observe(ip(1))
		r.start()
		tf.will(fails(&provider.Error{Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: 3 * time.Hour}))
		time.Sleep(24*time.Hour + time.Minute)
		synctest.Wait()
		rec := r.get(ids[0])
		require.Equal(t, 2, tf.asked())
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.Equal(t, store.Waiting, rec.Entry("threatfox").State)
		require.Zero(t, rec.Entry("threatfox").Failures, "to be refused is no failure")
		require.Empty(t, rec.Entry("threatfox").Error)

		tf.will(says(provider.Malicious))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		require.Equal(t, 2, tf.asked(), "Retry-After is honoured")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, 3, tf.asked())
		require.Equal(t, store.Fresh, r.get(ids[0]).Entry("threatfox").State)
	})
}

func TestEvidenceOfAnotherAddressDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b").will(says(provider.Suspicious))
		r := newRig(t, intel.Config{}, a, b)
		id := r.observe(ip(1))[0]
		r.start()
		require.Equal(t, provider.Malicious, r.get(id).Decision.Verdict)

		a.will(fails(errors.New("down")))
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(2)}))
		r.worker.Wake()
		synctest.Wait()
		rec := r.get(id)
		require.Equal(t, provider.Suspicious, rec.Decision.Verdict)
		require.Nil(t, rec.Entry("a").Finding)
		require.Equal(t, ip(2), rec.Entry("b").Finding.Addr.String())

		b.will(fails(errors.New("down")))
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(3)}))
		r.worker.Wake()
		synctest.Wait()
		rec = r.get(id)
		require.Equal(t, provider.None, rec.Decision.Verdict)
		require.Empty(t, rec.Decision.Reasons)
		require.Nil(t, rec.Entry("b").Finding)
		require.EqualValues(t, 2, rec.Revision, "nothing was learnt")
	})
}

func TestAddressThatChangesDuringTheLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a").will(takes(100*time.Millisecond, provider.Malicious))
		r := newRig(t, intel.Config{}, a)
		id := r.observe(ip(1))[0]
		r.start()
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(2)}))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		rec := r.get(id)
		require.Equal(t, ip(2), rec.Entry("a").Finding.Addr.String())
		require.EqualValues(t, 1, rec.Revision)
	})
}

func TestOneCallForManyAttackersBehindOneAddress(t *testing.T) {
	for _, took := range []time.Duration{0, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newSource("a").will(takes(took, provider.Malicious)), newSource("b")
			r := newRig(t, intel.Config{Concurrency: 7}, a, b)
			same := make([]string, 50)
			for i := range same {
				same[i] = "45.9.9.9"
			}
			ids := r.observe(same...)
			r.start()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, 1, a.asked())
			require.Equal(t, 1, b.asked())
			first := r.get(ids[0])
			for _, id := range ids {
				rec := r.get(id)
				require.Equal(t, provider.Malicious, rec.Decision.Verdict)
				require.Equal(t, first.Entry("a").Expires, rec.Entry("a").Expires)
				require.Equal(t, first.Entry("a").Finding.ObservedAt, rec.Entry("a").Finding.ObservedAt)
			}
			// Another worker finds the answers in the store.
			r.stop()
			other := newRig(t, intel.Config{Store: r.store}, a, b)
			other.store = r.store
			id := uuid.New()
			require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.9.9"}))
			require.NoError(t, other.worker.Drain(t.Context()))
			require.Equal(t, provider.Malicious, r.get(id).Decision.Verdict)
			require.Equal(t, 1, a.asked())
		})
	}
}

// foreignTexts is a store in which others wrote the addresses of some attackers: as
// texts that Observe rejects.
type foreignTexts struct {
	*memstore.Store
	texts map[uuid.UUID]string
}

func (s *foreignTexts) show(recs ...*store.Record) {
	for _, rec := range recs {
		if text, ok := s.texts[rec.ID]; ok {
			rec.IP = text
		}
	}
}

func (s *foreignTexts) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, req)
	for i := range c.Records {
		s.show(&c.Records[i])
	}
	return c, err
}

func (s *foreignTexts) Save(ctx context.Context, ups ...store.Update) error {
	ups = slices.Clone(ups)
	for i := range ups {
		if text, ok := s.texts[ups[i].ID]; ok && ups[i].IP == text {
			ups[i].IP = foreignIP
		}
	}
	return s.Store.Save(ctx, ups...)
}

// foreignIP is the address that the store below has for such attackers.
const foreignIP = "45.66.6.6"

func TestPrivateAddressesReachNobody(t *testing.T) {
	private := []string{
		"192.168.1.1", "10.0.0.1", "172.16.3.4", "127.0.0.1", "169.254.1.1", "100.64.0.1", "224.0.0.1",
		"198.51.100.7", "0.0.0.0", "255.255.255.255", "fc00::1", "fe80::1%eth0", "::1", "::", "ff02::1",
		"2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:c0a8:101::1",
		"45.77.0.9",
	}
	texts := []string{"not-an-ip", "1.2.3.4/../../admin", "", "45.1.1.1:22", " 45.1.1.1", "45.77.0.0/16"}
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a")
		s := &foreignTexts{memstore.New(), make(map[uuid.UUID]string)}
		r := newRig(t, intel.Config{Store: s, Guard: provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("45.77.0.0/16")}}}, a)
		r.store = s.Store
		ids := r.observe(private...)
		foreign := r.observe(slices.Repeat([]string{foreignIP}, len(texts))...)
		for i, id := range foreign {
			s.texts[id] = texts[i]
		}
		ids = append(ids, foreign...)
		good := r.observe(ip(7))[0]
		r.start()
		time.Sleep(100 * time.Hour)
		synctest.Wait()
		require.NotZero(t, r.get(good).Revision)
		for _, addr := range a.calls {
			require.Equal(t, ip(7), addr.String())
		}
		for _, id := range ids {
			rec := r.get(id)
			require.Zero(t, rec.Revision, rec.IP)
			require.Equal(t, store.NotApplicable, rec.Entry("a").State)
		}
		stats, err := r.store.Stats(t.Context(), time.Now().Add(1000*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, stats.Due, "only the public address is ever due again")

		// A new address makes it an ordinary attacker.
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: foreign[0], IP: ip(8)}))
		delete(s.texts, foreign[0])
		r.worker.Wake()
		synctest.Wait()
		require.EqualValues(t, 1, r.get(foreign[0]).Revision)
		r.stop()

		// A provider of the operator's own may see them, and makes them due.
		local := &localSource{newSource("local")}
		next := newRig(t, intel.Config{Store: s}, a, local)
		require.NoError(t, next.worker.Drain(t.Context()))
		require.EqualValues(t, 1, r.get(ids[0]).Revision)
		require.Nil(t, r.get(ids[0]).Entry("a").Finding)
	})
}

// TestOwnNetworksChangeAtRunTime: attackers become due whose address is no longer in
// one of the operator's networks, and nobody is asked about those that now are.
func TestOwnNetworksChangeAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own atomic.Pointer[[]netip.Prefix]
		replace := func(networks ...netip.Prefix) { own.Store(&networks) }
		replace(netip.MustParsePrefix("45.77.0.0/16"), netip.MustParsePrefix("45.78.0.0/16"))
		a, b := newSource("a"), newSource("b").will(fails(&provider.Error{Kind: provider.ErrUnsupported}))
		s := &failingFinder{Store: memstore.New()}
		r := newRig(t, intel.Config{
			Store: s, Guard: provider.Guard{OwnFunc: func() []netip.Prefix { return *own.Load() }},
		}, a, b)
		r.store = s.Store
		ids := r.observe("45.77.0.9", "45.77.1.9", "45.78.0.9", ip(7))
		r.start()
		time.Sleep(time.Hour)
		require.Zero(t, r.get(ids[0]).Revision)
		require.Equal(t, provider.OwnNetwork, r.get(ids[0]).Entry("a").Reason)
		asked, rejected := a.asked(), b.asked()

		s.fail.Store(true)
		replace(netip.MustParsePrefix("45.77.1.0/24"), netip.MustParsePrefix("45.78.0.0/16"))
		time.Sleep(3 * time.Second)
		require.Zero(t, r.get(ids[0]).Revision)
		s.fail.Store(false)
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, r.get(ids[0]).Revision)
		require.Zero(t, r.get(ids[1]).Revision, "in another network of our own")
		require.Zero(t, r.get(ids[2]).Revision)
		require.Equal(t, asked+1, a.asked())
		require.Equal(t, rejected+1, b.asked())

		s.fail.Store(true)
		replace(netip.MustParsePrefix("45.0.0.0/8"), netip.MustParsePrefix("62.0.0.0/8"))
		time.Sleep(3 * time.Second)
		other := r.observe("62.1.0.9")[0]
		r.worker.Wake()
		time.Sleep(3 * time.Second)
		require.Equal(t, provider.OwnNetwork, r.get(other).Entry("a").Reason)
		replace(netip.MustParsePrefix("45.0.0.0/8"))
		time.Sleep(3 * time.Second)
		s.fail.Store(false)
		time.Sleep(time.Hour)
		require.EqualValues(t, 1, r.get(other).Revision)
		asked, rejected = asked+1, rejected+1
		require.Equal(t, asked+1, a.asked())
		replace()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, r.get(ids[1]).Revision)
		require.EqualValues(t, 1, r.get(ids[2]).Revision)
		require.Equal(t, rejected+3, b.asked(), "it rejected the others for good")
		r.stop()
	})
}

// TestOwnNetworksChangeBetweenRuns: a worker finds out which networks another one took
// for its own.
func TestOwnNetworksChangeBetweenRuns(t *testing.T) {
	for name, run := range map[string]func(*rig){
		"Drain": func(r *rig) { require.NoError(r.t, r.worker.Drain(r.t.Context())) },
		"Run": func(r *rig) {
			r.start()
			time.Sleep(time.Minute)
			r.stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &failingFinder{Store: memstore.New()}
				guard := func(networks ...string) (g provider.Guard) {
					for _, text := range networks {
						g.Own = append(g.Own, netip.MustParsePrefix(text))
					}
					return g
				}
				next := func(g provider.Guard) *rig {
					r := newRig(t, intel.Config{Store: s, Guard: g}, newSource("a"))
					r.store = s.Store
					return r
				}
				r := next(guard("45.77.0.0/16", "2001:4860::/32"))
				ids := r.observe("45.77.0.9", "45.77.1.9", "2001:4860::1")
				run(r)
				require.Equal(t, provider.OwnNetwork, r.get(ids[0]).Entry("a").Reason)

				r = next(guard("2001:4860::/32", "45.77.1.0/24"))
				run(r)
				require.EqualValues(t, 1, r.get(ids[0]).Revision)
				require.Zero(t, r.get(ids[1]).Revision)

				s.fail.Store(true) // what was not dealt with is not forgotten
				r = next(guard())
				run(r)
				require.Zero(t, r.get(ids[1]).Revision)
				s.fail.Store(false)
				run(next(guard()))
				for _, id := range ids {
					require.EqualValues(t, 1, r.get(id).Revision)
				}
			})
		})
	}
}

// TestOwnNetworksOfACrash: a worker that did not live to deal with a change has decided
// by its networks all the same.
func TestOwnNetworksOfACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &failingFinder{Store: memstore.New()}
		next := func(networks ...netip.Prefix) *rig {
			r := newRig(t, intel.Config{Store: s, Guard: provider.Guard{Own: networks}}, newSource("a"))
			r.store = s.Store
			return r
		}
		require.NoError(t, next(netip.MustParsePrefix("45.76.0.0/16")).worker.Drain(t.Context()))
		s.fail.Store(true)
		r := next(netip.MustParsePrefix("::ffff:45.77.0.0/112"))
		id := r.observe("45.77.0.9")[0]
		r.start()
		time.Sleep(time.Minute)
		r.stop()
		require.Equal(t, provider.OwnNetwork, r.get(id).Entry("a").Reason)
		s.fail.Store(false)
		require.NoError(t, next().worker.Drain(t.Context()))
		require.EqualValues(t, 1, r.get(id).Revision)
	})
}

// TestOwnNetworksOfAFleet: of the workers that share a store, one that was started
// before still decides by networks that the next one has no more.
func TestOwnNetworksOfAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		next := func(networks ...netip.Prefix) *rig {
			r := newRig(t, intel.Config{Store: s, Guard: provider.Guard{Own: networks}, Owner: uuid.NewString()}, newSource("a"))
			r.store = s
			return r
		}
		first := next(netip.MustParsePrefix("45.77.0.0/16"))
		first.start()
		synctest.Wait()
		require.NoError(t, next().worker.Drain(t.Context()))
		id := first.observe("45.77.0.9")[0]
		first.worker.Wake()
		time.Sleep(24 * time.Hour)
		require.Equal(t, provider.OwnNetwork, first.get(id).Entry("a").Reason)
		first.stop()
		require.NoError(t, next().worker.Drain(t.Context()))
		require.EqualValues(t, 1, first.get(id).Revision)

		// In the end they are forgotten.
		time.Sleep(31 * 24 * time.Hour)
		require.NoError(t, next().worker.Drain(t.Context()))
		doc, err := s.Position(t.Context(), "intel: own networks")
		require.NoError(t, err)
		require.Empty(t, doc)
	})
}

// failingFinder is a store that cannot always find attackers by address.
type failingFinder struct {
	*memstore.Store
	fail atomic.Bool
}

func (f *failingFinder) ByAddress(ctx context.Context, networks []netip.Prefix) ([]uuid.UUID, error) {
	if f.fail.Load() {
		return nil, errors.New("the store is down")
	}
	return f.Store.ByAddress(ctx, networks)
}

type localSource struct{ *source }

func (localSource) Limits() provider.Limits { return provider.Limits{Private: true} }

func TestABacklogDrainsWithoutTheTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a").will(takes(50*time.Millisecond, provider.Malicious))
		r := newRig(t, intel.Config{PollInterval: time.Hour}, a)
		ids := r.observe(ips(500)...)
		started := time.Now()
		r.start()
		time.Sleep(time.Second)
		synctest.Wait()
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision)
		}
		require.Less(t, time.Since(started), 2*time.Second)
		require.Equal(t, 500, a.asked())
	})
}

// picky is a store that cannot save the record of one attacker.
type picky struct {
	*memstore.Store
	poison uuid.UUID
	tries  atomic.Int32
}

func (s *picky) Save(ctx context.Context, ups ...store.Update) error {
	var good []store.Update
	var bad error
	for _, u := range ups {
		if u.ID == s.poison {
			s.tries.Add(1)
			bad = &store.SaveError{Failed: map[uuid.UUID]error{u.ID: errors.New("cannot be stored")}}
		} else {
			good = append(good, u)
		}
	}
	if err := s.Store.Save(ctx, good...); err != nil {
		return err
	}
	return bad
}

func TestARecordThatCannotBeSavedHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &picky{Store: memstore.New()}
		a := newSource("a")
		r := newRig(t, intel.Config{Store: s}, a)
		r.store = s.Store
		ids := r.observe(ips(200)...)
		s.poison = ids[0]
		r.start()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, id := range ids[1:] {
			require.NotZero(t, r.get(id).Revision)
		}
		time.Sleep(10 * time.Minute)
		require.Zero(t, r.get(s.poison).Revision)
		require.Greater(t, s.tries.Load(), int32(2))
		require.Less(t, s.tries.Load(), int32(14), "with growing delay")
		require.Equal(t, 200, a.asked(), "no call is made twice for it")
		late := r.observe("45.200.1.1")
		r.worker.Wake()
		time.Sleep(time.Second)
		require.NotZero(t, r.get(late[0]).Revision)
	})
}

// sluggish is a store whose next Save takes 30 seconds and then fails.
type sluggish struct {
	*memstore.Store
	mu    sync.Mutex
	hangs bool
	saved []time.Time // when a Save returned
}

func (s *sluggish) Save(ctx context.Context, ups ...store.Update) error {
	s.mu.Lock()
	hangs := s.hangs
	s.hangs = false
	s.mu.Unlock()
	var err error
	if hangs {
		time.Sleep(30 * time.Second)
		err = errors.New("timeout")
	} else {
		err = s.Store.Save(ctx, ups...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = append(s.saved, time.Now())
	return err
}

// TestAStoreThatHangsIsNotTriedAtOnce: a Save that fails after 30 s stops the
// writer for 30 s. Its updates are not saved one by one: that is up to the store.
func TestAStoreThatHangsIsNotTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sluggish{Store: memstore.New(), hangs: true}
		a := newSource("a").will(takes(10*time.Millisecond, provider.Malicious))
		r := newRig(t, intel.Config{Store: s, Lease: 3 * time.Minute}, a)
		r.store = s.Store
		ids := r.observe(ips(40)...)
		started := time.Now()
		r.start()
		time.Sleep(time.Second)
		later := r.observe("45.200.1.1", "45.200.1.2")
		r.worker.Wake()
		time.Sleep(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		saved := slices.Clone(s.saved)
		s.mu.Unlock()
		require.Equal(t, 30*time.Second+10*time.Millisecond, saved[0].Sub(started))
		for _, id := range later {
			require.NotZero(t, r.get(id).Revision)
			require.LessOrEqual(t, r.get(id).CachedAt.Sub(started), 2*time.Second, "looked up meanwhile")
		}
		require.LessOrEqual(t, saved[1].Sub(saved[0]), time.Second, "the next save follows at once")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision, "released, and due again before the lease has expired")
		}
		require.Equal(t, 42, a.asked(), "answers that could not be saved are still at hand")
	})
}

// down is a store that can be switched off.
type down struct {
	*memstore.Store
	off atomic.Bool
}

func (s *down) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	if s.off.Load() {
		return store.Claimed{}, errors.New("no connection")
	}
	return s.Store.Claim(ctx, req)
}

func (s *down) Save(ctx context.Context, ups ...store.Update) error {
	if s.off.Load() {
		return errors.New("no connection")
	}
	return s.Store.Save(ctx, ups...)
}

func (s *down) Release(ctx context.Context, due time.Time, ls ...store.Lease) error {
	if s.off.Load() {
		return errors.New("no connection")
	}
	return s.Store.Release(ctx, due, ls...)
}

func TestAStoreThatIsDownIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &down{Store: memstore.New()}
		s.off.Store(true)
		a := newSource("a").will(takes(time.Second, provider.Malicious))
		r := newRig(t, intel.Config{Store: s}, a)
		r.store = s.Store
		ids := r.observe(ips(100)...)
		r.start()
		time.Sleep(10 * time.Minute)
		require.Less(t, r.passes.Load(), int32(60), "with backoff")
		s.off.Store(false)
		time.Sleep(31*time.Second + 500*time.Millisecond) // lookups are under way
		s.off.Store(true)
		time.Sleep(5 * time.Minute)
		s.off.Store(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision)
		}
		require.Equal(t, 100, a.asked(), "answers that could not be saved are still at hand")
		require.ErrorContains(t, func() error {
			s.off.Store(true)
			r.stop()
			return r.worker.Drain(t.Context())
		}(), "no connection")
	})
}

func TestAnIdleWorkerStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("a"))
		r.observe(ips(5)...)
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		stopping := time.Now()
		r.stop()
		require.LessOrEqual(t, time.Since(stopping), 100*time.Millisecond)
	})
}

func TestShutdownLeavesNoTraceOfWhatWasCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick, slow := newSource("quick"), newSource("slow")
		r := newRig(t, intel.Config{ShutdownGrace: 5 * time.Second, Patience: time.Minute}, quick, slow)
		r.observe("45.99.99.99")
		r.start()
		quick.will(takes(2*time.Second, provider.Malicious))
		slow.will(hangs)
		ids := r.observe(ips(200)...)
		r.worker.Wake()
		time.Sleep(time.Second)
		stopping := time.Now()
		r.stop()
		require.Equal(t, 5*time.Second, time.Since(stopping))
		saved := 0
		for _, id := range ids {
			rec := r.get(id)
			if rec.Revision > 0 {
				saved++
				require.NotNil(t, rec.Entry("quick").Finding, "what finished in the grace period is saved")
			}
			if e := rec.Entry("slow"); e != nil {
				require.Zero(t, e.Failures)
				require.Empty(t, e.Error)
				require.Nil(t, e.Finding)
			}
		}
		require.Equal(t, 64, saved)
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Zero(t, stats.Leased)
		require.Equal(t, 200, stats.Due, "the next worker goes on with all of them")
	})
}

func TestShutdownWithoutGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{ShutdownGrace: -1}, newSource("slow").will(hangs))
		r.observe(ips(3)...)
		r.start()
		stopping := time.Now()
		r.stop()
		require.Zero(t, time.Since(stopping))
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("a")).start()
		require.ErrorContains(t, r.worker.Run(t.Context()), "running already")
	})
}

func TestEnrichOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b").will(fails(errors.New("down")))
		r := newRig(t, intel.Config{}, a, b)
		id := r.observe(ip(1))[0]
		rec, err := r.worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.EqualValues(t, 1, rec.Revision)

		b.will(says(provider.Benign))
		rec, err = r.worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, 1, a.asked(), "a is fresh")
		require.NotNil(t, rec.Entry("b").Finding, "b is asked before its retry is due")

		_, err = r.worker.Enrich(t.Context(), uuid.New())
		require.ErrorIs(t, err, store.ErrNotFound)

		// An attacker that another worker has is waited for.
		_, err = r.store.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "other", Lease: time.Minute, Limit: 1, Only: []uuid.UUID{id}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = r.worker.Enrich(ctx, id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		started := time.Now()
		_, err = r.worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		require.InDelta(t, time.Minute, time.Since(started), float64(3*time.Second))
	})
}

func TestEnrichCutOffLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("slow").will(hangs))
		id := r.observe(ip(1))[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.worker.Enrich(ctx, id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		rec := r.get(id)
		require.Empty(t, rec.Entries)
		c, err := r.store.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "o", Lease: time.Minute, Limit: 1})
		require.NoError(t, err)
		require.Len(t, c.Records, 1, "still due, and not leased")
	})
}

func TestMinIntervalSpacesCallsAndDelaysNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		var mu sync.Mutex
		paced := &pacedSource{newSource("paced").will(func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			return says(provider.Benign)(ctx, addr)
		})}
		r := newRig(t, intel.Config{}, newSource("fast"), paced)
		ids := r.observe(ips(100)...)
		r.start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("fast").Finding)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for i := 1; i < len(at); i++ {
			require.GreaterOrEqual(t, at[i].Sub(at[i-1]), time.Second)
		}
		require.Len(t, at, 100)
	})
}

type pacedSource struct{ *source }

func (pacedSource) Limits() provider.Limits { return provider.Limits{MinInterval: time.Second} }

func TestStaleEvidenceCountsUntilItIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b").will(says(provider.Benign))
		r := newRig(t, intel.Config{RefreshFor: -1}, a, b)
		id := r.observe(ip(1))[0]
		r.start()
		a.will(fails(errors.New("retired")))
		time.Sleep(29 * 24 * time.Hour)
		rec := r.get(id)
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.True(t, rec.Decision.Reasons[0].Stale)
		time.Sleep(3 * 24 * time.Hour)
		require.Equal(t, provider.Benign, r.get(id).Decision.Verdict)
	})
}

// TestTheOnlyEvidenceBecomesTooOld: a verdict does not outlive what it is built
// on although nothing new is learnt.
func TestTheOnlyEvidenceBecomesTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a")
		r := newRig(t, intel.Config{RefreshFor: -1}, a)
		id := r.observe(ip(1))[0]
		r.start()
		a.will(fails(errors.New("retired")))
		time.Sleep(29 * 24 * time.Hour)
		before := r.get(id)
		require.Equal(t, provider.Malicious, before.Decision.Verdict)
		time.Sleep(3 * 24 * time.Hour)
		rec := r.get(id)
		require.Equal(t, provider.None, rec.Decision.Verdict)
		require.Empty(t, rec.Decision.Reasons)
		require.Equal(t, before.Revision, rec.Revision, "nothing was learnt")
		require.Equal(t, before.CachedAt, rec.CachedAt)
		require.NotNil(t, rec.Entry("a").Finding, "the ledger keeps it")
	})
}

func TestAProviderThatIsGoneDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("a"), newSource("b").will(says(provider.Benign)))
		id := r.observe(ip(1))[0]
		require.NoError(t, r.worker.Drain(t.Context()))
		c := newSource("c").will(says(provider.Unknown))
		next := newRig(t, intel.Config{Store: r.store}, newSource("b").will(says(provider.Benign)), c)
		require.NoError(t, next.worker.Drain(t.Context()))
		require.Zero(t, c.asked(), "a new provider makes nobody due")
		time.Sleep(24 * time.Hour)
		require.NoError(t, next.worker.Drain(t.Context()))
		require.Equal(t, 1, c.asked())
		rec := r.get(id)
		require.Equal(t, provider.Benign, rec.Decision.Verdict)
		require.NotNil(t, rec.Entry("a").Finding, "the ledger keeps it")
		require.NoError(t, next.worker.Drain(t.Context()))
	})
}

func TestNewWorkerRefusesNonsense(t *testing.T) {
	_, err := intel.NewWorker(intel.Config{
		PollInterval: -1, TTL: -1, Jitter: 2, Batch: -1, Concurrency: -1, RetryMin: time.Hour, RetryMax: time.Minute, Lease: time.Second,
		Providers: []intel.Provider{
			nil, newSource("Bad Name"), newSource("twice"), newSource("twice"), newSource("source"), newSource("feodo_malware"),
			newSource("shodan"), newSource("shodan_cti"), newSource("greynoise"), newSource("identity"),
		},
	})
	for _, want := range []string{
		"Store is nil", "PollInterval", "TTL", "Jitter", "Batch", "Concurrency", "RetryMax", "Lease is 1s",
		"number 1 is nil", `"Bad Name"`, `two providers named "twice"`, `"source" is refused`, `"source_id"`,
		`"feodo_malware" is refused`, `"shodan" and "shodan_cti"`, `"identity" is refused`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), `"greynoise"`)
}
