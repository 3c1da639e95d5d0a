package intel_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
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

// roster is a list in memory whose rows a test changes.
type roster struct {
	name    string
	verdict provider.Verdict
	rank    int
	private bool

	mu      sync.Mutex
	rows    map[netip.Prefix]string // with a remark each
	changes []netip.Prefix
	version uint64
	stale   bool
	loaded  time.Time
	down    error
	delay   time.Duration
	lookups atomic.Int64
}

func (l *roster) Name() string            { return l.name }
func (l *roster) Limits() provider.Limits { return provider.Limits{Private: l.private} }
func (l *roster) Profile() provider.Profile {
	return provider.Profile{Confidence: 0.9, Rank: l.rank, Local: true}
}
func (l *roster) Refresh(context.Context) error { return nil }
func (l *roster) List() provider.ListStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return provider.ListStatus{Loaded: true, Rows: len(l.rows), Stale: l.stale, Watched: true, LoadedAt: l.loaded}
}

func (l *roster) Changed(since uint64) ([]netip.Prefix, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since == l.version {
		return nil, l.version
	}
	return slices.Clone(l.changes), l.version
}

func (l *roster) Settled(uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = nil
}

// set replaces the rows.
func (l *roster) set(rows map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	is := map[netip.Prefix]string{}
	for text, remark := range rows {
		is[netip.MustParsePrefix(text)] = remark
	}
	for p := range maps.Keys(l.rows) {
		l.changes = append(l.changes, p)
	}
	for p := range maps.Keys(is) {
		l.changes = append(l.changes, p)
	}
	l.rows = is
	l.version++
}

func (l *roster) Lookup(_ context.Context, addr netip.Addr) (provider.Finding, error) {
	l.lookups.Add(1)
	l.mu.Lock()
	delay := l.delay
	l.mu.Unlock()
	time.Sleep(delay) // not under the lock, so that the clock goes on
	l.mu.Lock()
	defer l.mu.Unlock()
	f := provider.Finding{Provider: l.name, Addr: addr}
	for p, remark := range l.rows {
		if p.Contains(addr) {
			f.Known, f.Verdict = true, l.verdict
			f.Attrs = map[string]any{"listed": true, "network": p.String(), "remark": remark}
		}
	}
	return f, l.down
}

// paid is a remote provider that counts its calls.
type paid struct {
	name    string
	verdict provider.Verdict
	rank    int
	limits  provider.Limits
	calls   atomic.Int64
}

func (p *paid) Name() string              { return p.name }
func (p *paid) Limits() provider.Limits   { return p.limits }
func (p *paid) Profile() provider.Profile { return provider.Profile{Rank: p.rank} }
func (p *paid) Lookup(_ context.Context, addr netip.Addr) (provider.Finding, error) {
	p.calls.Add(1)
	return provider.Finding{Provider: p.name, Addr: addr, Known: true, Verdict: p.verdict, ObservedAt: time.Now()}, nil
}

// local is a worker with lists, and what it has published.
type local struct {
	t      *testing.T
	store  *memstore.Store
	worker *intel.Worker
	events <-chan bus.Event
	stop   func()
}

func runLocal(t *testing.T, c intel.Config, providers ...intel.Provider) *local {
	t.Helper()
	b := membus.New(membus.Options{})
	l := &local{t: t, store: memstore.New()}
	c.Store, c.Bus, c.Providers, c.Jitter, c.HealthInterval = l.store, b, providers, -1, -1
	var err error
	l.worker, err = intel.NewWorker(c)
	require.NoError(t, err)
	sub, err := b.Subscribe(t.Context(), intel.TopicEnriched)
	require.NoError(t, err)
	l.events = sub.Events()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.worker.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	l.stop = func() {
		cancel()
		wg.Wait()
		_ = sub.Close()
		_ = b.Close()
	}
	return l
}

func (l *local) see(ips ...string) []uuid.UUID {
	l.t.Helper()
	var ids []uuid.UUID
	for _, ip := range ips {
		id := store.AttackerID(netip.MustParseAddr(ip))
		require.NoError(l.t, l.store.Observe(l.t.Context(), store.Attacker{ID: id, IP: ip}))
		ids = append(ids, id)
	}
	l.worker.Wake()
	time.Sleep(500 * time.Millisecond)
	return ids
}

func (l *local) get(id uuid.UUID) store.Record {
	l.t.Helper()
	r, err := l.store.Get(l.t.Context(), id)
	require.NoError(l.t, err)
	return r
}

// drained returns the number of events since the last call.
func (l *local) drained() (n int) {
	synctest.Wait()
	for {
		select {
		case <-l.events:
			n++
		default:
			return n
		}
	}
}

// Lists decide within the pass, a whole network that is harmless costs no call to
// those that it silences, and a miss leaves no trace.
func TestLocalSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scanners := &roster{name: "scanners", verdict: provider.Benign, rank: provider.RankVerified}
		scanners.set(map[string]string{"162.142.125.0/24": "a", "71.6.135.131/32": "b"})
		deny := &roster{name: "deny", verdict: provider.Malicious, rank: provider.RankOperator, private: true}
		deny.set(map[string]string{"162.142.125.9/32": "d", "10.0.0.0/8": "e"})
		reputation := &paid{name: "reputation", verdict: provider.Malicious}
		c2 := &paid{name: "controllers", verdict: provider.None, rank: provider.RankVerified}
		l := runLocal(t, intel.Config{}, scanners, deny, reputation, c2)
		defer l.stop()
		for i, tt := range []struct {
			ip                string
			want              provider.Verdict
			reputation, c2    int64
			entries, revision int
		}{
			{"162.142.125.7", provider.Benign, 0, 1, 3, 1},    // a network: reputation is not called
			{"71.6.135.131", provider.Malicious, 1, 1, 3, 1},  // a single address: it is; and see the rank below
			{"162.142.125.9", provider.Malicious, 1, 1, 4, 1}, // the operator's list outranks the scanners'
			{"8.8.8.8", provider.Malicious, 1, 1, 2, 1},       // on no list: no entries of lists
			{"10.1.1.1", provider.Malicious, 0, 0, 3, 1},      // private: only the operator's list is asked
		} {
			reputation.calls.Store(0)
			c2.calls.Store(0)
			id := l.see(tt.ip)[0]
			r := l.get(id)
			if tt.ip == "71.6.135.131" {
				tt.want = provider.Benign // it is silenced all the same
			}
			require.Equal(t, tt.want, r.Decision.Verdict, "%d: %s", i, r.Decision)
			require.Equal(t, tt.reputation, reputation.calls.Load(), tt.ip)
			require.Equal(t, tt.c2, c2.calls.Load(), tt.ip)
			require.Len(t, r.Entries, tt.entries, tt.ip)
			require.EqualValues(t, tt.revision, r.Revision, tt.ip)
			require.Equal(t, 1, l.drained(), tt.ip)
		}
		// A day later the remote findings are replaced. What lists say is no news, and a
		// network that is exempt stays so.
		reputation.calls.Store(0)
		time.Sleep(25 * time.Hour)
		require.EqualValues(t, 3, reputation.calls.Load())
		r := l.get(store.AttackerID(netip.MustParseAddr("10.1.1.1")))
		require.EqualValues(t, 1, r.Revision)
		require.Zero(t, r.Entry("deny").Expires)
	})
}

// slowRoster is a list whose first load takes some seconds.
type slowRoster struct {
	*roster
	once sync.Once
}

func (l *slowRoster) Refresh(context.Context) error {
	l.once.Do(func() {
		time.Sleep(3 * time.Second)
		l.set(map[string]string{"45.9.0.0/16": "scanner"})
	})
	return nil
}

// Nobody is decided on, and no call made, before all lists are loaded.
func TestRunLoadsListsFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &slowRoster{roster: &roster{name: "scanners", verdict: provider.Benign, rank: provider.RankVerified}}
		quick := &roster{name: "ipsum", verdict: provider.Suspicious}
		quick.set(map[string]string{"45.9.0.1/32": "x"})
		reputation := &paid{name: "reputation", verdict: provider.Malicious}
		l := runLocal(t, intel.Config{}, quick, slow, reputation)
		defer l.stop()
		id := l.see("45.9.0.1")[0]
		time.Sleep(5 * time.Second)
		require.Equal(t, provider.Benign, l.get(id).Decision.Verdict)
		require.Zero(t, reputation.calls.Load())
		require.Equal(t, 1, l.drained())
	})
}

// A new version of a list reaches the attackers that it affects, and them alone,
// without a call.
func TestChangedList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		allow := &roster{name: "allow", verdict: provider.Benign, rank: provider.RankOperator}
		reputation := &paid{name: "reputation", verdict: provider.Malicious}
		l := runLocal(t, intel.Config{}, allow, reputation)
		defer l.stop()
		ids := l.see("45.9.0.1", "45.9.0.2", "8.8.8.8")
		require.Equal(t, 3, l.drained())
		calls := reputation.calls.Load()

		allow.set(map[string]string{"45.9.0.0/24": "office"})
		time.Sleep(5 * time.Second)
		require.Equal(t, provider.Benign, l.get(ids[0]).Decision.Verdict)
		require.Equal(t, provider.Benign, l.get(ids[1]).Decision.Verdict)
		require.Equal(t, provider.Malicious, l.get(ids[2]).Decision.Verdict)
		require.Equal(t, 2, l.drained())
		require.Equal(t, calls, reputation.calls.Load())
		require.EqualValues(t, 2, l.get(ids[0]).Revision)

		allow.set(map[string]string{"45.9.0.0/24": "office"}) // nothing has changed
		time.Sleep(5 * time.Second)
		require.Zero(t, l.drained())
		require.EqualValues(t, 2, l.get(ids[0]).Revision)

		allow.set(nil)
		time.Sleep(5 * time.Second)
		require.Equal(t, provider.Malicious, l.get(ids[0]).Decision.Verdict)
		gone := l.get(ids[0])
		require.Nil(t, gone.Entry("allow"))
		require.Equal(t, 2, l.drained())
		require.Equal(t, calls, reputation.calls.Load())

		// An attacker that was exempt is looked up when it no longer is.
		allow.set(map[string]string{"77.1.0.0/16": "x"})
		time.Sleep(5 * time.Second)
		id := l.see("77.1.2.3")[0]
		require.Equal(t, calls, reputation.calls.Load())
		x, err := l.worker.Explain(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "the call is spared: allow knows the address to be harmless, and outranks the source", x.Sources[1].NotApplicable)
		allow.set(nil)
		time.Sleep(5 * time.Second)
		require.Equal(t, calls+1, reputation.calls.Load())
		require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
	})
}

// The newest thousand are done within five seconds, and no more than 500 a second.
func TestChangedListOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deny := &roster{name: "deny", verdict: provider.Malicious, rank: provider.RankOperator}
		l := runLocal(t, intel.Config{}, deny)
		defer l.stop()
		var all []store.Attacker
		now := time.Now()
		for i := range 4000 {
			addr := netip.AddrFrom4([4]byte{45, 9, byte(i >> 8), byte(i)})
			all = append(all, store.Attacker{ID: store.AttackerID(addr), IP: addr.String(), LastSeen: now.Add(-time.Duration(i) * time.Second)})
		}
		require.NoError(t, l.store.Observe(t.Context(), all...))
		l.worker.Wake()
		time.Sleep(time.Minute)
		deny.set(map[string]string{"45.9.0.0/16": "x"})
		time.Sleep(5 * time.Second)
		status, err := l.worker.Status(t.Context())
		require.NoError(t, err)
		require.Greater(t, status.Relisting, 1000)
		for i, a := range all[:1000] {
			require.Equal(t, provider.Malicious, l.get(a.ID).Decision.Verdict, "number %d", i)
		}
		done := 0
		for _, a := range all {
			if l.get(a.ID).Revision > 0 {
				done++
			}
		}
		require.LessOrEqual(t, done, 2625)
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 1, l.get(all[3999].ID).Revision)
		status, err = l.worker.Status(t.Context())
		require.NoError(t, err)
		require.Zero(t, status.Relisting)
		require.Equal(t, 4000, status.Providers[0].List.Rows*4000)
	})
}

// A stale list silences nothing.
func TestStaleList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scanners := &roster{name: "scanners", verdict: provider.Benign, rank: provider.RankVerified, stale: true}
		scanners.set(map[string]string{"162.142.125.0/24": "a"})
		reputation := &paid{name: "reputation", verdict: provider.Malicious}
		l := runLocal(t, intel.Config{}, scanners, reputation)
		defer l.stop()
		r := l.get(l.see("162.142.125.7")[0])
		require.Equal(t, provider.Malicious, r.Decision.Verdict)
		require.EqualValues(t, 1, reputation.calls.Load())
	})
}

// An explanation says of a list that does not have the attacker that it does not, and
// not that it is still to answer.
func TestExplainMisses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		drop, tor := &roster{name: "drop", verdict: provider.Malicious}, &roster{name: "tor"}
		own, broken := &roster{name: "own", verdict: provider.Malicious, private: true}, &roster{name: "broken", down: errors.New("down")}
		drop.set(map[string]string{"45.9.0.0/16": "a"})
		loaded := time.Now().Add(-time.Hour).UTC()
		tor.loaded = loaded
		l := runLocal(t, intel.Config{}, drop, tor, own, broken)
		defer l.stop()
		seen, private := l.see("45.9.0.1")[0], l.see("10.0.0.1")[0]
		states := func(id uuid.UUID) map[string]string {
			x, err := l.worker.Explain(t.Context(), id)
			require.NoError(t, err)
			got := map[string]string{}
			for _, s := range x.Sources {
				got[s.Provider] = s.State + "/" + s.Answer() + "/" + s.Why + s.Error
				if s.Provider == "tor" && s.Answered {
					require.False(t, s.Known)
					require.Equal(t, loaded, s.ObservedAt)
					require.Equal(t, tor.stale, s.Stale)
				}
			}
			return got
		}
		require.Equal(t, map[string]string{
			"drop": "fresh/malicious/decides", "tor": "fresh/not listed/has no opinion", "own": "fresh/not listed/has no opinion", "broken": "due/no answer yet/unavailable",
		}, states(seen))
		require.Equal(t, map[string]string{
			"drop": "not applicable/no answer yet/", "tor": "not applicable/no answer yet/", "own": "fresh/not listed/has no opinion", "broken": "not applicable/no answer yet/",
		}, states(private))
		tor.stale = true
		require.Equal(t, "stale/not listed/has no opinion", states(seen)["tor"])
		r := l.get(seen)
		require.Nil(t, r.Entry("tor"), "nothing is stored")
	})
}

// A list that fails changes nothing, and one that is slow is not waited for.
func TestBrokenList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deny := &roster{name: "deny", verdict: provider.Malicious, rank: provider.RankOperator}
		deny.set(map[string]string{"45.9.0.0/16": "x"})
		reputation := &paid{name: "reputation", verdict: provider.Unknown}
		l := runLocal(t, intel.Config{TTL: time.Hour}, deny, reputation)
		defer l.stop()
		id := l.see("45.9.0.1")[0]
		require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
		deny.mu.Lock()
		deny.down = errors.New("broken")
		deny.mu.Unlock()
		time.Sleep(2 * time.Hour)
		require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
		require.Greater(t, l.get(id).Revision, uint64(1))
		deny.mu.Lock()
		deny.down, deny.delay = nil, 20*time.Millisecond
		deny.mu.Unlock()
		for _, ip := range []string{"45.9.0.2", "45.9.0.3", "45.9.0.4", "45.9.0.5"} {
			id = l.see(ip)[0]
			require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
		}
	})
}

// Attackers that lists have decided leave the calls of a scarce provider to others.
func TestDecidedAttackersDoNotCompete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		drop := &roster{name: "drop", verdict: provider.Malicious, rank: provider.RankVerified}
		drop.set(map[string]string{"45.9.0.0/16": "x"})
		scarce := &paid{name: "scarce", verdict: provider.Unknown, limits: provider.Limits{Quotas: []provider.Quota{{Calls: 10, Window: provider.Week}}}}
		var claimed atomic.Int64
		hooks := intel.Hooks{Claim: func(i intel.ClaimInfo) { claimed.Add(int64(i.Claimed)) }}
		l := runLocal(t, intel.Config{TTL: provider.Month, Spending: intel.Spending{DeferDecided: true}, Hooks: hooks}, drop, scarce)
		defer l.stop()
		for i := range 20 {
			l.see(netip.AddrFrom4([4]byte{45, 9, 0, byte(i)}).String())
		}
		require.LessOrEqual(t, scarce.calls.Load(), int64(5), "half of the quota stays")
		before := scarce.calls.Load()
		var others []uuid.UUID
		for i := range 5 {
			others = append(others, l.see(netip.AddrFrom4([4]byte{77, 9, 0, byte(i)}).String())...)
		}
		require.Equal(t, before+5, scarce.calls.Load())
		for _, id := range others {
			require.Equal(t, provider.Unknown, l.get(id).Decision.Verdict)
		}
		time.Sleep(provider.Day)
		claimed.Store(0)
		time.Sleep(5 * provider.Day)
		require.Zero(t, claimed.Load(), "nobody is claimed before there are calls to spare")
		time.Sleep(provider.Week)
		require.Greater(t, scarce.calls.Load(), before+5)
	})
}
