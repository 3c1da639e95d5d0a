package integration

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// arrival is an address that a sensor saw.
type arrival struct {
	at   time.Time
	addr netip.Addr
}

// arrivals reads a file of lines "time,address".
func arrivals(t *testing.T, path string) (all []arrival) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	for _, row := range rows {
		at, err := time.Parse(time.RFC3339, row[0])
		if err != nil { // the header
			continue
		}
		addr, err := provider.ParseAddr(row[1])
		require.NoError(t, err)
		all = append(all, arrival{at, addr})
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	return all
}

// replayLists returns the lists that DECNET_LIST_<NAME>_URL name, and those of the
// sample if there is no file of one's own.
func replayLists(t *testing.T, sample bool) (all []intel.Provider) {
	t.Helper()
	for _, name := range lists.Names(false) {
		place := os.Getenv("DECNET_LIST_" + strings.ToUpper(name) + "_URL")
		if files, _ := filepath.Glob("testdata/replay/" + name + ".*"); place == "" && sample && len(files) > 0 {
			place = files[0]
		}
		if place == "" {
			continue
		}
		p, err := lists.New(name, lists.Options{Places: strings.Split(place, ",")})
		require.NoError(t, err)
		listing, _ := provider.As[provider.Listing](p)
		require.NoError(t, listing.Refresh(t.Context()))
		all = append(all, frozen{p, p.(provider.Profiled).Profile()})
	}
	return all
}

// frozen is a list that does not change while virtual time passes.
type frozen struct {
	inner   provider.Provider
	profile provider.Profile
}

func (f frozen) Name() string              { return f.inner.Name() }
func (f frozen) Profile() provider.Profile { return f.profile }
func (f frozen) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	found, err := f.inner.Lookup(ctx, addr)
	found.ObservedAt = time.Time{} // the worker's clock is another
	return found, err
}

// service is an upstream service that answers by a rule: a hash of the address
// decides whether it knows it. It refuses calls beyond its quota.
type service struct {
	name    string
	quota   provider.Quota
	percent uint32 // of the addresses that it knows
	rank    int

	mu      sync.Mutex
	calls   []time.Time // within the window
	spent   int
	refused int
	asked   map[netip.Addr]int
}

// knows reports whether the service knows an address.
func (s *service) knows(addr netip.Addr) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.name + addr.String()))
	return h.Sum32()%100 < s.percent
}

// call makes a call and reports whether it was answered, and whether the address is
// known.
func (s *service) call(now time.Time, addr netip.Addr) (answered, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[addr]++
	for len(s.calls) > 0 && now.Sub(s.calls[0]) >= s.quota.Window {
		s.calls = s.calls[1:]
	}
	s.spent++
	if s.quota.Calls > 0 && len(s.calls) >= s.quota.Calls {
		s.refused++
		return false, false
	}
	s.calls = append(s.calls, now)
	return true, s.knows(addr)
}

func (s *service) Name() string { return s.name }

func (s *service) Profile() provider.Profile { return provider.Profile{Rank: s.rank} }

func (s *service) Limits() provider.Limits {
	if s.quota.Calls == 0 {
		return provider.Limits{}
	}
	return provider.Limits{Quotas: []provider.Quota{s.quota}}
}

func (s *service) Lookup(_ context.Context, addr netip.Addr) (provider.Finding, error) {
	answered, known := s.call(time.Now(), addr)
	if !answered {
		return provider.Finding{}, &provider.Error{Provider: s.name, Kind: provider.ErrQuotaExhausted, StatusCode: 429}
	}
	return s.finding(addr, known), nil
}

func (s *service) finding(addr netip.Addr, known bool) provider.Finding {
	f := provider.Finding{Provider: s.name, Addr: addr, Known: known, Verdict: provider.Unknown, ObservedAt: time.Now()}
	if known {
		f.Verdict = provider.Malicious
	} else if s.rank > 0 {
		f.Verdict = provider.None
	} else {
		f.TTL = 14 * 24 * time.Hour
	}
	return f
}

// together is a service that takes many addresses in one call.
type together struct{ *service }

func (s together) Batch() int { return 1000 }

func (s together) LookupBatch(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
	if _, err := s.Lookup(ctx, addrs[0]); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]provider.Finding, len(addrs))
	for i, addr := range addrs {
		s.asked[addr]++
		found[i] = s.finding(addr, s.knows(addr))
	}
	return found, nil
}

// services returns fresh upstream services: GreyNoise and AbuseIPDB with the quotas
// of free accounts, and two that know nobody who attacks a honeypot.
func services(greynoise, abuseipdb uint32) []*service {
	all := []*service{
		{name: "greynoise", quota: provider.Quota{Calls: 25, Window: provider.Week}, percent: greynoise},
		{name: "abuseipdb", quota: provider.Quota{Calls: 1000, Window: provider.Day}, percent: abuseipdb},
		{name: "threatfox", rank: provider.RankVerified},
	}
	for _, s := range all {
		s.asked = map[netip.Addr]int{}
	}
	return all
}

// outcome is what a contender has achieved.
type outcome struct {
	name     string
	seen     map[netip.Addr]time.Time     // first
	decided  map[netip.Addr]time.Duration // from first seen to a verdict
	by       map[string]int               // attackers, by what decided first
	services []*service
}

func newOutcome(name string, services []*service) *outcome {
	return &outcome{name: name, services: services, seen: map[netip.Addr]time.Time{}, decided: map[netip.Addr]time.Duration{}, by: map[string]int{}}
}

func (o *outcome) see(addr netip.Addr, at time.Time) {
	if _, ok := o.seen[addr]; !ok {
		o.seen[addr] = at
	}
}

func (o *outcome) decide(addr netip.Addr, at time.Time, by string) {
	if _, ok := o.decided[addr]; !ok {
		o.decided[addr] = at.Sub(o.seen[addr])
		o.by[by]++
	}
}

// row returns the outcome as a row of a table.
func (o *outcome) row(rule string) string {
	spent, refused := 0, 0
	for _, s := range o.services {
		if s.quota.Calls > 0 {
			spent, refused = spent+s.spent, refused+s.refused
		}
	}
	var times []time.Duration
	for _, d := range o.decided {
		times = append(times, d)
	}
	slices.Sort(times)
	at := func(q float64) time.Duration {
		if len(times) == 0 {
			return 0
		}
		return times[int(q*float64(len(times)-1))].Round(time.Second)
	}
	listed := 0
	for name, n := range o.by {
		if name != "greynoise" && name != "abuseipdb" && name != "threatfox" {
			listed += n
		}
	}
	return fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %d | %d | %.3f | %v | %v |", rule, o.name, len(o.seen), listed,
		o.by["greynoise"], o.by["abuseipdb"], len(o.seen)-len(o.decided), spent, refused,
		float64(len(o.decided))/float64(max(spent, 1)), at(0.5), at(0.9))
}

const replayHeader = "| rule | contender | attackers | by list | by GreyNoise | by AbuseIPDB | never | calls | refused | verdicts per call | p50 | p90 |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|"

// simulate lets a contender without a worker call every service about an address: at
// each arrival, or, if every is not zero, at the first one and then every so often,
// whether or not the address is seen again. It ends a week after the last arrival.
func simulate(name string, all []arrival, services []*service, every time.Duration) *outcome {
	o := newOutcome(name, services)
	ask := func(addr netip.Addr, at time.Time) {
		for _, s := range services {
			if _, known := s.call(at, addr); known {
				o.decide(addr, at, s.name)
			}
		}
	}
	var due []arrival // in order, as all come again after the same time
	askDue := func(until time.Time) {
		for len(due) > 0 && due[0].at.Before(until) {
			next := due[0]
			ask(next.addr, next.at)
			due = append(due[1:], arrival{next.at.Add(every), next.addr})
		}
	}
	for _, a := range all {
		askDue(a.at)
		_, again := o.seen[a.addr]
		o.see(a.addr, a.at)
		switch {
		case every == 0:
			ask(a.addr, a.at)
		case !again:
			ask(a.addr, a.at)
			due = append(due, arrival{a.at.Add(every), a.addr})
		}
	}
	askDue(all[len(all)-1].at.Add(provider.Week))
	return o
}

// replay runs the real worker over the arrivals in virtual time, with GreyNoise asked
// about many addresses at a time if batch is set.
func replay(t *testing.T, name string, all []arrival, listed []intel.Provider, services []*service, batch bool) *outcome {
	o := newOutcome(name, services)
	synctest.Test(t, func(t *testing.T) {
		providers := slices.Clone(listed)
		for _, s := range services {
			if batch && s.name == "greynoise" {
				providers = append(providers, together{s})
				continue
			}
			providers = append(providers, s)
		}
		var mu sync.Mutex
		s := memstore.New()
		w, err := intel.NewWorker(intel.Config{
			Store: s, Providers: providers, PollInterval: time.Hour, HealthInterval: -1, Logger: slog.New(slog.DiscardHandler),
			TTL: 7 * 24 * time.Hour, Spending: intel.Spending{DeferDecided: true},
			Hooks: intel.Hooks{Saved: func(i intel.SavedInfo) {
				d := &i.Record.Decision
				if d.Verdict <= provider.Unknown {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				o.decide(i.Record.Addr(), time.Now(), decidedBy(d))
			}},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = w.Run(ctx) })
		start, began := all[0].at, time.Now()
		for i, a := range all {
			time.Sleep(time.Until(began.Add(a.at.Sub(start))))
			mu.Lock()
			o.see(a.addr, time.Now())
			mu.Unlock()
			if err := s.Observe(ctx, store.Attacker{ID: store.AttackerID(a.addr), IP: a.addr.String(), LastSeen: time.Now()}); err != nil {
				t.Error(err)
			}
			if i+1 == len(all) || all[i+1].at.After(a.at) {
				w.Wake()
			}
		}
		time.Sleep(provider.Week)
		cancel()
		wg.Wait()
	})
	return o
}

// decidedBy returns who decided: a list if one has an opinion, as it needs no call,
// and otherwise the provider that the verdict rests on.
func decidedBy(d *aggregate.Decision) (by string) {
	for _, r := range d.Reasons {
		remote := r.Provider == "greynoise" || r.Provider == "abuseipdb" || r.Provider == "threatfox"
		switch {
		case !remote && r.Verdict > provider.Unknown:
			return r.Provider
		case r.Decisive && by == "":
			by = r.Provider
		}
	}
	return by
}

// replayRules say what percentage of the addresses GreyNoise and AbuseIPDB know.
var replayRules = []struct {
	name                 string
	greynoise, abuseipdb uint32
}{{"generous", 40, 70}, {"meagre", 10, 30}}

// TestReplay compares what lists and the worker's way of spending make of real
// arrivals with two other ways. ENRICH_REPLAY_FILE names a CSV file of
// "time,address"; without it a small made-up sample is used. DECNET_LIST_<NAME>_URL
// name the lists.
func TestReplay(t *testing.T) {
	path := os.Getenv("ENRICH_REPLAY_FILE")
	sample := path == ""
	all := arrivals(t, cmp.Or(path, "testdata/replay/arrivals.csv"))
	require.NotEmpty(t, all)
	listed := replayLists(t, sample)

	decided, exempt := 0, map[netip.Addr]bool{}
	for _, a := range all {
		verdict := provider.None
		for _, p := range listed {
			f, err := p.Lookup(t.Context(), a.addr)
			require.NoError(t, err)
			verdict = max(verdict, f.Verdict)
			network, _ := netip.ParsePrefix(fmt.Sprint(f.Attrs["network"]))
			if f.Verdict == provider.Benign && network.IsValid() && !network.IsSingleIP() {
				exempt[a.addr] = true
			}
		}
		if verdict > provider.Unknown {
			decided++
		}
		for _, p := range listed { // what outranks the exemption ends it
			if f, _ := p.Lookup(t.Context(), a.addr); f.Verdict > provider.Benign && p.(frozen).profile.Rank > provider.RankVerified {
				delete(exempt, a.addr)
			}
		}
	}
	t.Logf("arrivals: %d; decided by lists: %d (%.1f %%)", len(all), decided, 100*float64(decided)/float64(len(all)))
	single, batched := make([]*outcome, len(replayRules)), make([]*outcome, len(replayRules))
	t.Run("rules", func(t *testing.T) {
		for i, rule := range replayRules {
			t.Run(rule.name, func(t *testing.T) {
				t.Parallel()
				single[i] = replay(t, "enrich", all, listed, services(rule.greynoise, rule.abuseipdb), false)
				batched[i] = replay(t, "enrich, batches", all, listed, services(rule.greynoise, rule.abuseipdb), true)
			})
		}
	})
	var table strings.Builder
	for i, rule := range replayRules {
		for _, s := range slices.Concat(single[i].services, batched[i].services) {
			require.Zero(t, s.refused, "calls over the quota of %s", s.name)
			for addr := range exempt {
				if s.rank == 0 {
					require.Zero(t, s.asked[addr], "%s was called about %v, which a list exempts", s.name, addr)
				}
			}
		}
		for _, o := range []*outcome{
			single[i], batched[i],
			simulate("DECNET's rules", all, services(rule.greynoise, rule.abuseipdb), provider.Day),
			simulate("ask at each event", all, services(rule.greynoise, rule.abuseipdb), 0),
		} {
			fmt.Fprintln(&table, o.row(rule.name))
		}
	}
	t.Logf("\n%s\n%s", replayHeader, table.String())
}
