package intel_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// explained is a record with an entry of each kind, and the worker's status.
func explained() (store.Record, intel.ExplainOptions) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	addr := netip.MustParseAddr("45.155.205.233")
	finding := func(name string, v provider.Verdict, age time.Duration, attrs map[string]any) *provider.Finding {
		return &provider.Finding{
			Provider: name, Addr: addr, Known: v != provider.None, Verdict: v, Attrs: attrs,
			Raw: json.RawMessage(`{"of":"` + name + `"}`), ObservedAt: now.Add(-age),
		}
	}
	rec := store.Record{
		Attacker: store.Attacker{ID: uuid.MustParse("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11"), IP: "45.155.205.233", LastSeen: now},
		Revision: 4, CachedAt: now.Add(-time.Minute),
		Entries: []store.Entry{
			{Provider: "abuseipdb", State: store.Fresh, Expires: now.Add(time.Hour), Finding: finding("abuseipdb", provider.Benign, 3*time.Hour, nil)},
			{Provider: "custom", State: store.Fresh, Expires: now.Add(time.Hour), Finding: finding("custom", provider.None, time.Minute, map[string]any{
				"note": "a\x1b[31mb\u202ec", "ports": []int64{22, 80}, "tags": []string{"x", "y"}, "score": 1.5, "none": nil,
			})},
			{Provider: "down", State: store.Due, Due: now.Add(time.Hour), Failures: 3, Error: "unavailable"},
			{Provider: "gone", State: store.Fresh, Expires: now.Add(time.Hour), Finding: finding("gone", provider.Malicious, time.Hour, nil)},
			{Provider: "greynoise", State: store.Waiting, Since: now.Add(-time.Hour), Finding: finding("greynoise", provider.Unknown, 50*time.Hour, nil), Expires: now.Add(-time.Hour)},
			{Provider: "six", State: store.NotApplicable},
			{Provider: "threatfox", State: store.Fresh, Expires: now.Add(time.Hour), Finding: finding("threatfox", provider.Malicious, 2*time.Hour, nil)},
		},
		Decision: aggregate.Decision{
			Verdict: provider.Malicious, Policy: "strongest/2@0a1b2c3d",
			Reasons: []aggregate.Reason{
				{Provider: "abuseipdb", Verdict: provider.Benign, Ignored: aggregate.Outranked, By: "threatfox"},
				{Provider: "greynoise", Verdict: provider.Unknown, Stale: true},
				{Provider: "threatfox", Verdict: provider.Malicious, Decisive: true, Weight: .5, Rank: 1},
			},
		},
	}
	status := &intel.Status{Providers: []intel.ProviderStatus{
		{Name: "abuseipdb", State: "working"}, {Name: "custom", State: "working"}, {Name: "down", State: "failing", Until: now.Add(time.Minute), LastError: "answer 503"},
		{Name: "greynoise", State: "quota exhausted", Until: now.Add(24 * time.Hour)}, {Name: "new", State: "unproven"},
		{Name: "six", State: "working"}, {Name: "threatfox", State: "working"},
	}}
	return rec, intel.ExplainOptions{Now: now, Status: status, Policy: "strongest/2@00000000"}
}

func source1(t *testing.T, x intel.Explanation, name string) intel.SourceExplanation {
	t.Helper()
	i := slices.IndexFunc(x.Sources, func(s intel.SourceExplanation) bool { return s.Provider == name })
	require.GreaterOrEqual(t, i, 0, name)
	return x.Sources[i]
}

func TestExplain(t *testing.T) {
	rec, o := explained()
	x := intel.Explain(&rec, o)
	require.Equal(t, "strongest/2", x.Policy)
	require.Equal(t, "strongest/2@0a1b2c3d", x.Fingerprint)
	require.True(t, x.Outdated)
	require.Equal(t, rec.Decision.String(), x.Sentence)
	require.Len(t, x.Sources, 8)

	s := source1(t, x, "threatfox")
	require.Equal(t, "fresh", s.State)
	require.True(t, s.Decisive)
	require.True(t, s.Counts)
	require.Equal(t, int64(7200), s.AgeSeconds)
	require.InDelta(t, .5, s.Weight, 0)
	require.Equal(t, "decides", s.Why)
	require.Nil(t, s.Raw)

	s = source1(t, x, "abuseipdb")
	require.False(t, s.Counts)
	require.Equal(t, "does not count: outranked by threatfox", s.Why)
	require.Equal(t, "threatfox", s.By)

	require.Equal(t, "has no opinion", source1(t, x, "custom").Why)
	require.Equal(t, "does not count: the source is no longer configured", source1(t, x, "gone").Why)

	s = source1(t, x, "down")
	require.Equal(t, "due", s.State)
	require.Equal(t, "unavailable", s.Error)
	require.Equal(t, 3, s.Failures)
	require.Equal(t, "answer 503", s.ErrorText)
	require.Equal(t, o.Now.Add(time.Hour), s.NextTry)

	s = source1(t, x, "greynoise")
	require.Equal(t, "waiting", s.State)
	require.Equal(t, "quota exhausted", s.Waiting)
	require.Equal(t, o.Now.Add(24*time.Hour), s.Until)
	require.True(t, s.Stale)

	require.Equal(t, "the source rejected the address", source1(t, x, "six").NotApplicable)
	require.Equal(t, "due", source1(t, x, "new").State)

	text := x.String()
	for _, want := range []string{
		"attacker 3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11, address 45.155.205.233\n", "fingerprint strongest/2@0a1b2c3d; the policy has changed since",
		"threatfox: malicious, 2 hours old, weight 0.50; decides\n", "abuseipdb: benign, 3 hours old; does not count: outranked by threatfox\n",
		"  waiting until 2026-03-02T12:00:00Z: quota exhausted\n", "  not applicable: the source rejected the address\n",
		"  error: unavailable (answer 503), 3 times in a row, next try 2026-03-01T13:00:00Z\n", "  ports: 22, 80\n", "  tags: x, y\n", "new: no answer yet\n",
		`  note: a\u{1b}[31mb\u{202e}c` + "\n",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\x1b")

	o.Raw = true
	require.JSONEq(t, `{"of":"custom"}`, string(source1(t, intel.Explain(&rec, o), "custom").Raw))
	data, err := json.Marshal(x)
	require.NoError(t, err)
	var back intel.Explanation
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, x.Sentence, back.Sentence)
}

// TestExplainNotConfigured: a source without an answer says why it is not asked any
// more.
func TestExplainNotConfigured(t *testing.T) {
	rec, o := explained()
	o.Status.Providers = slices.DeleteFunc(o.Status.Providers, func(p intel.ProviderStatus) bool { return p.Name == "down" })
	require.Contains(t, intel.Explain(&rec, o).String(), "down: no answer yet; not configured\n")
}

// TestExplainRefused: a process that did not make the lookup itself, as a command,
// knows from the entry that the provider refused the key.
func TestExplainRefused(t *testing.T) {
	rec, o := explained()
	e := rec.Entry("greynoise")
	e.Error = provider.ErrUnauthorized.Error()
	for i := range o.Status.Providers {
		if p := &o.Status.Providers[i]; p.Name == "greynoise" {
			p.State, p.Until = "working", time.Time{}
		}
	}
	x := source1(t, intel.Explain(&rec, o), "greynoise")
	require.Equal(t, "another try, as the provider refused the key or the configuration", x.Waiting)
	require.Equal(t, "unauthorized", x.Error)
	e.Error = ""
	require.Equal(t, "its turn: others go first", source1(t, intel.Explain(&rec, o), "greynoise").Waiting)
}

func TestExplainNotApplicable(t *testing.T) {
	guard := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("45.155.0.0/16")}}
	for _, c := range []struct{ ip, reason, want string }{
		{"10.0.0.1", "", "the address is private or has a special purpose, and never leaves"},
		{"45.155.205.233", "", "the address is in one of your own networks"},
		{"2a01:4f8::1", "", "the source does not cover IPv6, or rejected the address"},
		{"nobody", "", "the attacker's address is not an IP address"},
		{"8.8.8.8", provider.RejectedBySource, "the source rejected the address"},
		{"2a01:4f8::1", provider.OtherFamily, "the source does not cover IPv6"},
		{"8.8.8.8", "a reason of tomorrow", "a reason of tomorrow"},
	} {
		rec := store.Record{Attacker: store.Attacker{IP: c.ip}, Entries: []store.Entry{{Provider: "a", State: store.NotApplicable, Reason: c.reason}}}
		x := intel.Explain(&rec, intel.ExplainOptions{Guard: guard})
		require.Equal(t, c.want, x.Sources[0].NotApplicable, c.ip)
		require.Contains(t, x.String(), "nothing was learnt")
	}
}

// What a source says is shown, cut, and does nothing to a terminal.
func FuzzExplanationText(f *testing.F) {
	f.Add("plain", "x", 3)
	f.Add("\x1b]0;title\a\u202e", "\xed\xa0\x80", -1)
	f.Add(strings.Repeat("long ", 1<<10), "\r\n", 1<<30)
	f.Fuzz(func(t *testing.T, text, other string, n int) {
		rec, o := explained()
		rec.IP = text
		rec.Entries[1].Finding.Attrs = map[string]any{"a": text, "b": []string{text, other}, "c": int64(n)}
		rec.Entries[2].Error = other
		rec.Decision.Reasons[0].Ignored = aggregate.Ignored(other)
		out := intel.Explain(&rec, o).String()
		require.Less(t, len(out), 16<<10)
		require.NotContains(t, strings.ReplaceAll(out, "\n", ""), "\r")
		for _, r := range out {
			require.False(t, r != '\n' && (r < ' ' || r == 0x7f || r == 0x202e || r == '\ufffd' && !strings.ContainsRune(text+other, r)), "%q", out)
		}
	})
}

func TestWorkerExplains(t *testing.T) {
	s := memstore.New()
	id := uuid.New()
	require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.155.205.233"}))
	good := newSource("good")
	w, err := intel.NewWorker(intel.Config{Store: s, Providers: []intel.Provider{good, scarce("spent", 1, provider.Week)}})
	require.NoError(t, err)
	x, err := w.Explain(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, x.Sources, 2)
	require.Equal(t, "due", x.Sources[0].State)
	_, err = w.Enrich(t.Context(), id)
	require.NoError(t, err)
	x, err = w.Explain(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "fresh", x.Sources[0].State)
	require.False(t, x.Outdated)
	require.NotEmpty(t, x.Fingerprint)
	_, err = w.Explain(t.Context(), uuid.New())
	require.True(t, errors.Is(err, store.ErrNotFound))
}
