package export_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the time of all exports in these tests.
var now = time.Date(2026, 11, 29, 8, 20, 0, 0, time.UTC)

// profiles are those of the sources in these tests.
var profiles = map[string]provider.Profile{
	"threatfox": {Group: "abuse_ch", Rank: 1}, "feodo": {Group: "abuse_ch", Rank: 1},
	"abuseipdb": {NoRepublish: true}, "greynoise": {},
	"ipsum": {DerivedFrom: []string{"blocklist"}}, "blocklist": {},
	"scanners": {Rank: 1, Local: true}, "deny": {Rank: 2, Local: true},
}

// says is what one source says.
type says struct {
	source  string
	verdict provider.Verdict
	riot    bool
}

func bad(source string) says        { return says{source: source, verdict: provider.Malicious} }
func suspicious(source string) says { return says{source: source, verdict: provider.Suspicious} }
func good(source string) says       { return says{source: source, verdict: provider.Benign} }

// known is a store and what is known about attackers.
type known struct {
	*testing.T
	store *memstore.Store
}

func newStore(t *testing.T) known { return known{t, memstore.New()} }

// add adds an attacker, last seen some time ago, and what sources say.
func (k known) add(ip string, ago time.Duration, all ...says) uuid.UUID {
	k.Helper()
	a := store.Attacker{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(ip)), IP: ip, FirstSeen: now.Add(-ago - time.Hour), LastSeen: now.Add(-ago)}
	k.decided(a, aggregate.Strongest{}, all...)
	return a.ID
}

// decided is add with a policy.
func (k known) decided(a store.Attacker, policy aggregate.Policy, all ...says) {
	k.Helper()
	ctx := k.Context()
	require.NoError(k, k.store.Observe(ctx, a))
	c, err := k.store.Claim(ctx, store.ClaimRequest{Now: now, Owner: "test", Lease: time.Hour, Limit: 1, Only: []uuid.UUID{a.ID}})
	require.NoError(k, err)
	u := store.Update{Lease: store.Lease{ID: a.ID, Fence: c.Records[0].Fence}, IP: a.IP, Revision: 1, SavedAt: now}
	var evidence []aggregate.Evidence
	slices.SortFunc(all, func(a, b says) int { return strings.Compare(a.source, b.source) })
	for _, s := range all {
		f := &provider.Finding{Provider: s.source, Addr: a.Addr(), Known: true, Verdict: s.verdict, ObservedAt: now}
		if s.riot {
			f.Attrs = map[string]any{"riot": true}
		}
		u.Entries = append(u.Entries, store.Entry{Provider: s.source, State: store.Fresh, Finding: f, Expires: now.Add(time.Hour)})
		u.Changed = append(u.Changed, s.source)
		evidence = append(evidence, aggregate.Evidence{Finding: f, Profile: profiles[s.source]})
	}
	d := policy.Decide(evidence, now)
	u.Decision = &d
	require.NoError(k, k.store.Save(ctx, u))
}

// collect returns the addresses of an export and its list.
func (k known) collect(o export.Options) ([]string, *export.List) {
	k.Helper()
	o.Now = now
	if o.Profiles == nil {
		o.Profiles = profiles
	}
	l, err := export.Collect(k.Context(), k.store, o)
	require.NoError(k, err)
	addrs := []string{}
	for e := range l.All() {
		addrs = append(addrs, e.Addr.String())
	}
	require.Equal(k, len(addrs), l.Len())
	require.Equal(k, len(addrs), l.Report.Exported)
	return addrs, l
}

func write(t *testing.T, l *export.List, f export.Format) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, l.Write(&b, f))
	return b.String()
}

func TestDefaults(t *testing.T) {
	k := newStore(t)
	k.add("45.9.0.3", time.Hour, bad("threatfox"))
	k.add("45.9.0.1", 1000*24*time.Hour, bad("abuseipdb"))
	k.add("45.9.0.4", time.Hour, suspicious("ipsum"))
	k.add("45.9.0.5", time.Hour, good("scanners"))
	k.add("45.9.0.6", time.Hour, says{source: "abuseipdb", verdict: provider.Unknown})
	k.add("2a00:1450::7", time.Hour, bad("deny"))
	require.NoError(t, k.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: "45.9.0.9"}))
	addrs, l := k.collect(export.Options{})
	require.Equal(t, []string{"45.9.0.1", "45.9.0.3", "2a00:1450::7"}, addrs)
	require.Equal(t, "exported 3 addresses of 3 attackers", l.Report.String())
	for e := range l.All() {
		require.Equal(t, now.Truncate(time.Hour).Add(25*time.Hour), e.Expires)
	}
	addrs, _ = k.collect(export.Options{Verdicts: []provider.Verdict{provider.Suspicious, provider.Malicious}})
	require.Equal(t, []string{"45.9.0.1", "45.9.0.3", "45.9.0.4", "2a00:1450::7"}, addrs)
}

// TestGuard: what must not be blocked is not, whatever the verdict.
func TestGuard(t *testing.T) {
	k := newStore(t)
	k.add("45.9.0.1", 0, bad("threatfox"))
	for _, ip := range []string{"10.1.2.3", "192.168.0.1", "127.0.0.1", "100.64.1.1", "fe80::1", "2001:db8::1", "::1", "224.0.0.1", "2002:a00:1::"} {
		k.add(ip, 0, bad("deny"))
	}
	k.add("45.9.8.7", 0, bad("deny"))                         // own
	k.add("45.9.0.10", 0, bad("threatfox"), good("scanners")) // a scanner that was in a C2 list
	k.add("45.9.0.11", 0, bad("abuseipdb"), good("greynoise"))
	k.add("45.9.0.12", 0, bad("abuseipdb"), says{source: "greynoise", verdict: provider.Unknown, riot: true})
	k.add("45.9.0.13", 0, bad("deny"), good("scanners")) // the operator wants it blocked
	addrs, l := k.collect(export.Options{Own: []netip.Prefix{netip.MustParsePrefix("45.9.8.0/24")}})
	require.Equal(t, []string{"45.9.0.1", "45.9.0.13"}, addrs)
	require.Equal(t, export.Report{Attackers: 15, Exported: 2, Special: 9, Own: 1, Harmless: 3}, l.Report)
	require.Equal(t, "exported 2 addresses of 15 attackers; left out 9 private or special-purpose, 1 in own networks, 3 known to be harmless",
		l.Report.String())
}

// TestShared: an address that several attackers have is exported once, unless one
// of them is known to be harmless.
func TestShared(t *testing.T) {
	k := newStore(t)
	first := k.add("45.9.0.1", 5*time.Hour, bad("abuseipdb"))
	twin := store.Attacker{ID: uuid.New(), IP: "::ffff:45.9.0.1", FirstSeen: now.Add(-9 * time.Hour), LastSeen: now.Add(-time.Hour)}
	k.decided(twin, aggregate.Strongest{}, bad("threatfox"))
	k.add("45.9.0.2", 0, bad("abuseipdb"))
	k.decided(store.Attacker{ID: uuid.New(), IP: "45.9.0.2"}, aggregate.Strongest{}, bad("threatfox"), good("scanners"))
	addrs, l := k.collect(export.Options{MaxAge: 6 * time.Hour})
	require.Equal(t, []string{"45.9.0.1"}, addrs)
	for e := range l.All() {
		require.NotEqual(t, first, e.ID)
		require.Equal(t, twin.ID, e.ID)
		require.Equal(t, twin.FirstSeen, e.FirstSeen)
		require.Equal(t, twin.LastSeen.Add(6*time.Hour), e.Expires)
	}
}

func TestPolicy(t *testing.T) {
	k := newStore(t)
	weighted := func(ip string, all ...says) {
		k.decided(store.Attacker{ID: uuid.New(), IP: ip, LastSeen: now}, aggregate.Weighted{}, all...)
	}
	weighted("45.9.0.1", bad("threatfox"), bad("abuseipdb"), bad("greynoise"))
	weighted("45.9.0.2", bad("threatfox"))
	k.add("45.9.0.3", 0, bad("threatfox"), bad("feodo"))
	k.add("45.9.0.4", 0, bad("ipsum"), bad("blocklist"), suspicious("greynoise"))
	k.add("45.9.0.5", 48*time.Hour, bad("ipsum"), bad("greynoise"))

	both := []provider.Verdict{provider.Malicious, provider.Suspicious}
	addrs, l := k.collect(export.Options{Verdicts: both, MinSources: 2})
	require.Equal(t, []string{"45.9.0.1", "45.9.0.4", "45.9.0.5"}, addrs, "one owner is one source, a copy is none")
	require.Equal(t, 2, l.Report.FewSources)
	addrs, l = k.collect(export.Options{Verdicts: both, MinScore: 0.7})
	require.Equal(t, []string{"45.9.0.1"}, addrs)
	require.Equal(t, 4, l.Report.LowScore)
	addrs, _ = k.collect(export.Options{MaxAge: 24 * time.Hour})
	require.NotContains(t, addrs, "45.9.0.5")
}

// TestPublish: what rests only on a source that forbids republishing is left out
// and reported, and no such source is named or shows in a number.
func TestPublish(t *testing.T) {
	k := newStore(t)
	k.add("45.9.0.1", 0, bad("abuseipdb"))
	k.add("45.9.0.2", 0, bad("abuseipdb"), bad("threatfox"))
	k.add("45.9.0.3", 0, bad("abuseipdb"), suspicious("ipsum")) // malicious only by AbuseIPDB
	k.add("45.9.0.4", 0, bad("stranger"))                       // nobody knows its terms
	k.decided(store.Attacker{ID: uuid.New(), IP: "45.9.0.5", LastSeen: now}, aggregate.Weighted{}, bad("abuseipdb"), bad("threatfox"))
	addrs, l := k.collect(export.Options{Publish: true})
	require.Equal(t, []string{"45.9.0.2", "45.9.0.5"}, addrs)
	require.Equal(t, 3, l.Report.Unpublishable)
	require.Contains(t, l.Report.String(), "3 that rest only on sources that forbid republishing")
	for e := range l.All() {
		require.Equal(t, []string{"threatfox"}, e.Sources)
		require.Zero(t, e.Score)
	}
	for _, f := range export.Formats() {
		require.NotContains(t, write(t, l, f), "abuseipdb")
	}
	addrs, _ = k.collect(export.Options{})
	require.Len(t, addrs, 5)
}

func TestTooMany(t *testing.T) {
	k := newStore(t)
	for i := range 10 {
		k.add(fmt.Sprintf("45.9.0.%d", i), 0, bad("deny"))
	}
	share := 9.0 / (1 << 32)
	_, err := export.Collect(t.Context(), k.store, export.Options{MaxShare: share})
	require.ErrorIs(t, err, export.ErrTooMany)
	require.ErrorContains(t, err, "10 IPv4 addresses are too great a share of the internet: at most 9")
	_, err = export.Collect(t.Context(), k.store, export.Options{MaxShare: 10.0 / (1 << 32)})
	require.NoError(t, err)
}

func TestInvalid(t *testing.T) {
	_, err := export.Collect(t.Context(), memstore.New(), export.Options{
		Verdicts: []provider.Verdict{provider.Benign}, MinScore: 2, MinSources: -1, MaxAge: -1, Lifetime: -1, MaxShare: 1.5,
	})
	for _, want := range []string{"Verdicts", "MinScore", "MinSources", "MaxAge", "Lifetime", "MaxShare"} {
		require.ErrorContains(t, err, "export: Options."+want)
	}
	_, err = export.ParseFormat("xml")
	require.ErrorContains(t, err, "plain, nft, crowdsec, csv and jsonl")
	require.Error(t, (&export.List{}).Write(io.Discard, "xml"))
}

// failing is a store that fails.
type failing struct{}

func (failing) List(context.Context, store.ListRequest) (store.Page, error) {
	return store.Page{}, io.ErrUnexpectedEOF
}

func TestStoreFails(t *testing.T) {
	_, err := export.Collect(t.Context(), failing{}, export.Options{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// moving is a store in which an attacker is seen again after the first page.
type moving struct {
	*memstore.Store
	again func()
}

func (m *moving) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	if req.Cursor != "" && m.again != nil {
		m.again()
		m.again = nil
	}
	return m.Store.List(ctx, req)
}

// TestSeenAgain: an attacker that is seen again while the pages are read is not
// missed, and counts once.
func TestSeenAgain(t *testing.T) {
	k := newStore(t)
	for i := range 700 {
		k.add(fmt.Sprintf("45.9.%d.%d", i/250, i%250), time.Duration(i+1)*time.Minute, bad("deny"))
	}
	m := &moving{k.store, func() {
		for _, ip := range []string{"45.9.2.199", "45.9.0.0"} {
			require.NoError(t, k.store.Observe(t.Context(), store.Attacker{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(ip)), IP: ip}))
		}
	}}
	l, err := export.Collect(t.Context(), m, export.Options{Now: now})
	require.NoError(t, err)
	require.Equal(t, export.Report{Attackers: 700, Exported: 700}, l.Report)
}

// example is a list with one entry of each kind.
func example(t *testing.T) *export.List {
	k := newStore(t)
	k.add("45.9.0.1", 3*time.Hour, bad("threatfox"), suspicious("ipsum"))
	k.add("203.1.2.3", 90*time.Minute, suspicious("greynoise"))
	k.add("2a00:1450::7", time.Minute, bad("deny"))
	_, l := k.collect(export.Options{Verdicts: []provider.Verdict{provider.Malicious, provider.Suspicious}, MaxAge: 24 * time.Hour})
	return l
}

func TestFormats(t *testing.T) {
	l := example(t)
	require.Equal(t, "45.9.0.1\n203.1.2.3\n2a00:1450::7\n", write(t, l, export.Plain))
	require.Equal(t, `# Attackers that may be blocked. Load with: nft -f FILE
table inet enrich {
	set attackers4 { type ipv4_addr; flags timeout; }
	set attackers6 { type ipv6_addr; flags timeout; }
}
flush set inet enrich attackers4
flush set inet enrich attackers6
add element inet enrich attackers4 {
	45.9.0.1 timeout 21h,
	203.1.2.3 timeout 22h,
}
add element inet enrich attackers6 {
	2a00:1450::7 timeout 24h,
}
`, write(t, l, export.NFT))
	require.Equal(t, `[
{"duration":"21h","reason":"enrich/malicious","scope":"ip","type":"ban","value":"45.9.0.1"},
{"duration":"22h","reason":"enrich/suspicious","scope":"ip","type":"ban","value":"203.1.2.3"},
{"duration":"24h","reason":"enrich/malicious","scope":"ip","type":"ban","value":"2a00:1450::7"}
]
`, write(t, l, export.CrowdSec))

	rows, err := csv.NewReader(strings.NewReader(write(t, l, export.CSV))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"address", "verdict", "score", "sources", "first_seen", "last_seen", "expires_at", "attacker_uuid"}, rows[0])
	require.Equal(t, []string{"45.9.0.1", "malicious", "0", "ipsum threatfox", "2026-11-29T04:20:00Z", "2026-11-29T05:20:00Z", "2026-11-30T05:20:00Z",
		uuid.NewSHA1(uuid.NameSpaceOID, []byte("45.9.0.1")).String()}, rows[1])
	require.Len(t, rows, 4)

	lines := strings.Split(strings.TrimSpace(write(t, l, export.JSONLines)), "\n")
	require.Len(t, lines, 3)
	var one map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &one))
	require.Equal(t, "203.1.2.3", one["address"])
	require.Equal(t, []any{"greynoise"}, one["sources"])
	require.Len(t, one, len(rows[0]))
	for _, f := range export.Formats() {
		require.Equal(t, write(t, l, f), write(t, example(t), f), "the same list makes the same file")
		parsed, err := export.ParseFormat(string(f))
		require.NoError(t, err)
		require.Equal(t, f, parsed)
	}
}

func TestEmpty(t *testing.T) {
	_, l := newStore(t).collect(export.Options{})
	require.Empty(t, write(t, l, export.Plain))
	require.Equal(t, "[]\n", write(t, l, export.CrowdSec))
	require.NotContains(t, write(t, l, export.NFT), "add element")
	require.Len(t, strings.Split(write(t, l, export.CSV), "\n"), 2)
	require.Empty(t, write(t, l, export.JSONLines))
}

// inNamespace returns nft commands as they run in a network of their own, and
// skips the test where that is not possible.
func inNamespace(t *testing.T, script string) string {
	t.Helper()
	for _, program := range []string{"nft", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if out, err := exec.Command("unshare", "-rn", "nft", "list", "ruleset").CombinedOutput(); err != nil {
		t.Skipf("nft does not work here: %s", out)
	}
	out, err := exec.Command("unshare", "-rn", "sh", "-ec", script).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// TestNFT: nft itself loads the files, and a later one replaces the elements of the
// one before without touching rules.
func TestNFT(t *testing.T) {
	dir := t.TempDir()
	_, empty := newStore(t).collect(export.Options{})
	require.NoError(t, example(t).WriteFile(filepath.Join(dir, "full"), export.NFT))
	require.NoError(t, empty.WriteFile(filepath.Join(dir, "empty"), export.NFT))
	out := inNamespace(t, `cd `+dir+`
		nft -f full
		nft add chain inet enrich input '{ type filter hook input priority -10; }'
		nft add rule inet enrich input ip saddr @attackers4 drop
		nft -f empty
		nft list set inet enrich attackers4
		nft -f full
		nft list table inet enrich`)
	before, after, _ := strings.Cut(out, "table inet enrich {\n\tset attackers4 {\n\t\ttype ipv4_addr\n\t\tflags timeout\n\t}\n}\n")
	require.Empty(t, before, "the sets were emptied: %s", out)
	require.Contains(t, after, "45.9.0.1 timeout 21h")
	require.Contains(t, after, "2a00:1450::7 timeout 1d")
	require.Contains(t, after, "ip saddr @attackers4 drop")
}

func TestWriteFile(t *testing.T) {
	l := example(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	require.NoError(t, l.WriteFile(path, export.Plain))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, info.Mode().Perm())
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.Symlink("list", filepath.Join(dir, "link")))
	require.NoError(t, l.WriteFile(filepath.Join(dir, "link"), export.CSV))
	info, err = os.Lstat(filepath.Join(dir, "link"))
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
	info, err = os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm(), "the mode is kept")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, write(t, l, export.CSV), string(text))
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	require.Empty(t, names, "nothing else is left")

	require.ErrorContains(t, l.WriteFile(dir, export.Plain), "is not a regular file")
	require.Error(t, l.WriteFile(filepath.Join(dir, "nowhere", "list"), export.Plain))
	require.Error(t, l.WriteFile(path, "xml"))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(text), string(after), "a failure leaves the old file")
	names, err = filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	require.Empty(t, names)
}

// An empty list unblocks nobody unless that is allowed.
func TestWriteEmptyFile(t *testing.T) {
	full := example(t)
	_, empty := newStore(t).collect(export.Options{})
	_, allowed := newStore(t).collect(export.Options{AllowEmpty: true})
	for _, f := range export.Formats() {
		path := filepath.Join(t.TempDir(), "list")
		require.NoError(t, empty.WriteFile(path, f), "there is no file yet")
		require.NoError(t, empty.WriteFile(path, f), "the file is as empty")
		require.NoError(t, full.WriteFile(path, f))
		require.ErrorIs(t, empty.WriteFile(path, f), export.ErrEmpty, f)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, write(t, full, f), string(text))
		require.NoError(t, allowed.WriteFile(path, f))
		require.NoError(t, empty.WriteFile(path, f))
		text, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, write(t, empty, f), string(text))
		require.NoError(t, os.Truncate(path, 0))
		require.NoError(t, empty.WriteFile(path, f), "a file without anything has no entries")
	}
}

// A list that becomes empty is served, and not silently.
func TestHandlerLogsEmptyList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, empty := newStore(t).collect(export.Options{})
		list := empty
		var text bytes.Buffer
		h := export.NewHandler(func(context.Context) (*export.List, error) { return list, nil }, slog.New(slog.NewTextHandler(&text, nil)))
		get := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/plain", nil))
			require.Equal(t, http.StatusOK, w.Code)
			time.Sleep(2 * time.Minute)
			return w
		}
		get()
		list = example(t)
		get()
		require.Empty(t, text.String())
		list = empty
		require.Empty(t, get().Body.String())
		get()
		require.Equal(t, 1, strings.Count(text.String(), "is empty now"), text.String())
	})
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lists, calls := []*export.List{example(t)}, 0
		var failure error
		h := export.NewHandler(func(context.Context) (*export.List, error) {
			calls++
			return lists[len(lists)-1], failure
		}, slog.New(slog.DiscardHandler))
		get := func(path, etag string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			if etag != "" {
				r.Header.Set("If-None-Match", etag)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		etags := map[string]bool{}
		for _, f := range export.Formats() {
			w := get("/"+string(f), "")
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, write(t, lists[0], f), w.Body.String())
			require.Equal(t, f.ContentType(), w.Header().Get("Content-Type"))
			etags[w.Header().Get("ETag")] = true
		}
		require.Len(t, etags, 5)
		require.Equal(t, 1, calls, "one collection serves all for a minute")
		etag := get("/plain", "").Header().Get("ETag")
		require.Equal(t, http.StatusNotModified, get("/plain", etag).Code)

		time.Sleep(time.Minute)
		require.Equal(t, http.StatusNotModified, get("/plain", etag).Code, "the list is the same")
		require.Equal(t, 2, calls)
		_, other := newStore(t).collect(export.Options{})
		lists = append(lists, other)
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusOK, get("/plain", etag).Code)

		time.Sleep(time.Minute)
		failure = io.ErrUnexpectedEOF
		require.Equal(t, http.StatusServiceUnavailable, get("/plain", "").Code)
		require.NotContains(t, get("/plain", "").Body.String(), "EOF")
		failure = nil
		require.Equal(t, http.StatusOK, get("/plain", "").Code, "a failure is not kept")

		require.Equal(t, http.StatusNotFound, get("/", "").Code)
		require.Equal(t, http.StatusNotFound, get("/xml", "").Code)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/plain", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	})
}
