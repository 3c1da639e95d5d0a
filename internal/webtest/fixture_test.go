// Package webtest tests what people and programs see over HTTP: the answers of
// intel/httpapi against its OpenAPI document, and the pages of intel/dashboard in a
// browser.
package webtest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/dashboard"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// site is a server over a store in memory.
type site struct {
	*httptest.Server
	store  *memstore.Store
	feed   *httpapi.Feed
	status intel.Status
	wrap   func(http.Handler) http.Handler // around the API; nil for nothing

	streaming chan struct{} // gets one for each stream of events that has begun
}

// begun is a ResponseWriter that tells of its first write.
type begun struct {
	http.ResponseWriter
	once sync.Once
	tell chan struct{}
}

func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }

func (b *begun) Write(p []byte) (int, error) {
	b.once.Do(func() { b.tell <- struct{}{} })
	return b.ResponseWriter.Write(p)
}

// newSite serves a number of attackers. Edit may change the options.
func newSite(t testing.TB, attackers int, edit func(*site, *httpapi.Options)) *site {
	t.Helper()
	s := &site{store: memstore.New(), feed: httpapi.NewFeed(), status: status(attackers), streaming: make(chan struct{}, 100)}
	for n := range attackers {
		s.add(t, n)
	}
	explain := func(_ context.Context, rec *store.Record, raw bool) intel.Explanation {
		all := *rec
		for _, p := range s.status.Providers {
			if p.List != nil && p.List.Loaded && rec.Entry(p.Name) == nil { // as a worker says of a list in memory
				f := &provider.Finding{Provider: p.Name, Addr: rec.Addr(), ObservedAt: p.List.LoadedAt}
				all.Entries = append(all.Entries[:len(all.Entries):len(all.Entries)], store.Entry{Provider: p.Name, State: store.Fresh, Finding: f})
			}
		}
		return intel.Explain(&all, intel.ExplainOptions{Status: &s.status, Raw: raw})
	}
	log := slog.New(slog.DiscardHandler)
	o := httpapi.Options{
		Status:  func(context.Context) (any, error) { return s.status, nil },
		Explain: explain, Feed: s.feed, Logger: log,
		Pages: dashboard.New(s.store, dashboard.Options{
			Status:  func(context.Context) (intel.Status, error) { return s.status, nil },
			Explain: explain, Feed: s.feed, Logger: log,
		}),
		Public: dashboard.Public(),
	}
	if edit != nil {
		edit(s, &o)
	}
	h := httpapi.New(s.store, o)
	if s.wrap != nil {
		h = s.wrap(h)
	}
	s.Server = httptest.NewUnstartedServer(nil)
	s.Config = httpapi.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/intel/events" {
			w = &begun{ResponseWriter: w, tell: s.streaming}
		}
		h.ServeHTTP(w, r)
	}), log)
	s.Start()
	t.Cleanup(func() {
		s.feed.Close()
		s.Close()
	})
	return s
}

// status is that of a worker with four services and a provider of the operator's.
func status(attackers int) intel.Status {
	now := time.Now().UTC()
	if attackers == 0 {
		return intel.Status{Running: true, Providers: []intel.ProviderStatus{}, Backlog: &intel.Backlog{}}
	}
	quota := func(limit, left int, window, reset time.Duration) []intel.QuotaStatus {
		return []intel.QuotaStatus{{Limit: limit, Seconds: int64(window / time.Second), Remaining: left, Reset: now.Add(reset)}}
	}
	loaded := func(rows int, age time.Duration) *provider.ListStatus {
		return &provider.ListStatus{Loaded: true, Rows: rows, LoadedAt: now.Add(-age), ChangedAt: now.Add(-20 * time.Hour), NextLoad: now.Add(time.Hour)}
	}
	return intel.Status{
		Owner: "sensor-1", Running: true, Passes: 4021, Enriched: 18244, Published: 18244,
		Providers: []intel.ProviderStatus{
			{Name: "abuseipdb", State: "working", Calls: 871, Answered: 868, Errors: map[string]uint64{"unavailable": 3}, Quotas: quota(1000, 129, provider.Day, 5*time.Hour)},
			{Name: "blocklist_custom", State: "working", Calls: 9120, Answered: 9120},
			{Name: "drop_v4", State: "unproven", List: loaded(1671, 40*time.Minute)},
			{Name: "feodo", State: "working", Calls: 12, Answered: 12, List: loaded(0, 10*time.Minute)},
			{Name: "greynoise", State: "quota exhausted", Until: now.Add(70 * time.Hour), Calls: 25, Answered: 25, Quotas: quota(25, 0, provider.Week, 70*time.Hour)},
			{Name: "threatfox", State: "unauthorized", Mend: "the provider refuses the key or the configuration: correct the API key of threatfox and restart", Calls: 1, Errors: map[string]uint64{"unauthorized": 1}},
			{Name: "tor", State: "unproven", List: &provider.ListStatus{
				Loaded: true, Rows: 1204, LoadedAt: now.Add(-80 * time.Hour), FromSnapshot: true, Stale: true, Error: "tor: unavailable: connection refused",
			}},
		},
		Backlog: &intel.Backlog{Due: 12, Leased: 3, Waiting: map[string]int{"greynoise": 1204, "threatfox": 88}, DrainSeconds: 820_000},
	}
}

// idOf and ipOf name the attacker with a number.
func idOf(n int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, "attacker ", n)) }

func ipOf(n int) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x2d090000+uint32(n)*7)
	return netip.AddrFrom4(b).String()
}

// add adds an attacker of which something is known, as its number says.
func (s *site) add(t testing.TB, n int) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	addr := netip.MustParseAddr(ipOf(n))
	finding := func(name string, v provider.Verdict, age time.Duration, attrs map[string]any) store.Entry {
		raw, _ := json.Marshal(map[string]any{"source": name, "address": addr, "details": attrs})
		return store.Entry{Provider: name, State: store.Fresh, Expires: now.Add(24*time.Hour - age), Finding: &provider.Finding{
			Provider: name, Addr: addr, Known: v > provider.Unknown, Verdict: v, Attrs: attrs, Raw: raw, ObservedAt: now.Add(-age), TTL: 24 * time.Hour,
		}}
	}
	seen := now.Add(-time.Duration(n) * 13 * time.Minute)
	age := time.Since(seen)
	var entries []store.Entry
	switch n % 7 {
	case 0, 3:
		entries = []store.Entry{
			finding("abuseipdb", provider.Malicious, age, map[string]any{"score": int64(100), "categories": []int64{18, 22}, "country_code": "BR", "total_reports": int64(410), "isp": "Broadband One"}),
			finding("blocklist_custom", provider.None, age, map[string]any{"note": "seen by partner sensors", "confidence": 0.75}),
			finding("feodo", provider.Malicious, age, map[string]any{"listed": true, "malware_family": "AsyncRAT"}),
			{Provider: "greynoise", State: store.Waiting, Since: now.Add(-time.Hour)},
			{Provider: "threatfox", State: store.Waiting, Since: now.Add(-time.Hour), Failures: 1, Error: "unauthorized"},
		}
	case 1:
		entries = []store.Entry{
			finding("abuseipdb", provider.Suspicious, age+30*time.Hour, map[string]any{"score": int64(41), "total_reports": int64(9)}),
			finding("feodo", provider.None, age, map[string]any{"listed": false}),
			{Provider: "greynoise", State: store.Due, Due: now.Add(20 * time.Minute), Failures: 3, Error: "unavailable"},
		}
	case 2:
		entries = []store.Entry{
			finding("abuseipdb", provider.Unknown, age, map[string]any{"score": int64(0), "total_reports": int64(0)}),
			finding("greynoise", provider.Benign, age, map[string]any{"classification": "benign", "name": "Shodan.io", "tags": []string{"scanner"}}),
		}
	case 4, 5:
		entries = []store.Entry{finding("abuseipdb", provider.Unknown, age, map[string]any{"score": int64(3)}), finding("feodo", provider.None, age, map[string]any{"listed": false})}
	default: // nothing is known
	}
	s.save(t, store.Attacker{ID: idOf(n), IP: addr.String(), FirstSeen: seen.Add(-48 * time.Hour), LastSeen: seen}, entries)
}

// save stores what is known about an attacker, decided by the default policy.
func (s *site) save(t testing.TB, a store.Attacker, entries []store.Entry) {
	t.Helper()
	require.NoError(t, s.store.Observe(t.Context(), a))
	if entries == nil {
		return
	}
	c, err := s.store.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Hour, Limit: 1, Only: []uuid.UUID{a.ID}})
	require.NoError(t, err)
	require.Len(t, c.Records, 1)
	var evidence []aggregate.Evidence
	var changed []string
	for _, e := range entries {
		if e.Finding != nil {
			profile := provider.Profile{}
			if e.Provider == "feodo" {
				profile.Rank = provider.RankVerified
			}
			evidence = append(evidence, aggregate.Evidence{Finding: e.Finding, Profile: profile, Stale: e.Expires.Before(time.Now())})
			changed = append(changed, e.Provider)
		}
	}
	d := aggregate.Strongest{}.Decide(evidence, time.Now())
	d.Policy += "@5d1f20aa"
	saved := a.LastSeen
	require.NoError(t, s.store.Save(t.Context(), store.Update{
		Lease: store.Lease{ID: a.ID, Fence: c.Records[0].Fence}, IP: c.Records[0].IP, Entries: entries, Changed: changed,
		Decision: &d, Revision: c.Records[0].Revision + 1, SavedAt: saved, Due: time.Now().Add(24 * time.Hour),
	}))
}

// changed tells the feed that something about an attacker was stored.
func (s *site) changed(t testing.TB, n int) {
	t.Helper()
	rec, err := s.store.Get(t.Context(), idOf(n))
	require.NoError(t, err)
	s.feed.Saved(intel.SavedInfo{Record: rec, Answered: []string{"abuseipdb"}, Changed: true})
}

// turn stores another opinion of AbuseIPDB about an attacker, and tells the feed.
func (s *site) turn(t testing.TB, n int, v provider.Verdict) {
	t.Helper()
	rec, err := s.store.Get(t.Context(), idOf(n))
	require.NoError(t, err)
	found := *rec.Entry("abuseipdb").Finding
	found.Verdict = v
	rec.Entry("abuseipdb").Finding = &found
	s.save(t, rec.Attacker, rec.Entries)
	s.changed(t, n)
}

// required reports whether what a test needs has to be there.
func required() bool { return os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" }

// missing skips a test, or fails it if what it needs is required.
func missing(t testing.TB, what string) {
	t.Helper()
	if required() {
		t.Fatal(what)
	}
	t.Skip(what)
}

// hostile are texts that must appear as text, and do nothing.
var hostile = []string{
	`<script>document.title="owned"</script>`, `"><img src=x onerror="document.title='owned'">`, `javascript:document.title='owned'`,
	"a\u202eb\u2066c\u200fd", "\x1b[31mred\x00", strings.Repeat("A", 1<<20), "\xed\xa0\x80\xff", `{{.}}${alert(1)}`, "</intel-panel></style><style>*{display:none}",
	"__proto__", "' onmouseover='document.title=1", "Z" + strings.Repeat("\u0301\u0316\u0489", 60), strings.Repeat("\ufdfd", 100),
}
