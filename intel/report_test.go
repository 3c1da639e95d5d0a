package intel_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// ipv4 is a source that covers no IPv6.
type ipv4 struct{ *source }

func (ipv4) Limits() provider.Limits { return provider.Limits{IPv4Only: true} }

// TestAnEntrySaysWhyItIsNotApplicable, whatever the reason.
func TestAnEntrySaysWhyItIsNotApplicable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := newSource("b").will(fails(&provider.Error{Provider: "b", Kind: provider.ErrUnsupported, StatusCode: 400}))
		r := newRig(t, intel.Config{Guard: provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("::ffff:45.10.0.0/112")}}},
			ipv4{newSource("a")}, refusing)
		want := map[string][2]string{
			"10.0.0.1":               {provider.Private, provider.Private},
			"64:ff9b::10.0.0.1":      {provider.Private, provider.Private},
			"45.10.3.4":              {provider.OwnNetwork, provider.OwnNetwork},
			"64:ff9b::45.10.3.4":     {provider.OwnNetwork, provider.OwnNetwork},
			"2a0e:97c0::1":           {provider.OtherFamily, provider.RejectedBySource},
			"2a0e:97c0::5efe:a00:1":  {provider.Private, provider.Private},
			"45.155.205.233":         {"", provider.RejectedBySource},
			"64:ff9b::45.155.205.23": {"", provider.RejectedBySource},
		}
		var all []store.Attacker
		for ip := range want {
			all = append(all, store.Attacker{ID: uuid.New(), IP: ip})
		}
		require.NoError(t, r.store.Observe(t.Context(), all...))
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, a := range all {
			rec := r.get(a.ID)
			for i, name := range []string{"a", "b"} {
				require.Equal(t, want[a.IP][i], rec.Entry(name).Reason, "%s %s", a.IP, name)
			}
		}
	})
}

// TestAnAddressThatIsNone is counted, and logged once.
func TestAnAddressThatIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, intel.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, newSource("a"))
		// As DECNET may write them: Observe accepts addresses only.
		odd := &oddStore{Store: r.store, ip: "not an address"}
		w, err := intel.NewWorker(intel.Config{
			Store: odd, Providers: []intel.Provider{newSource("a")}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		require.NoError(t, err)
		ids := r.observe(ips(3)...)
		for range 2 {
			for _, id := range ids {
				_, err := w.Enrich(t.Context(), id)
				require.NoError(t, err)
			}
		}
		s, err := w.Status(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, s.Invalid)
		require.Equal(t, 1, strings.Count(log.String(), "is not an IP address"), log.String())
		require.Contains(t, log.String(), "not an address")
	})
}

// TestStatusHasTheLastError in words, also once the provider works again.
func TestStatusHasTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := newSource("a").will(fails(&provider.Error{Provider: "a", Kind: provider.ErrUnavailable, StatusCode: 502, Err: errors.New("on fire")}))
		r := newRig(t, intel.Config{}, failing)
		ids := r.observe(ip(1))
		_, err := r.worker.Enrich(t.Context(), ids[0])
		require.NoError(t, err)
		at := time.Now()
		time.Sleep(time.Hour)
		failing.will(says(provider.Malicious))
		_, err = r.worker.Enrich(t.Context(), ids[0])
		require.NoError(t, err)
		s, err := r.worker.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a: unavailable (HTTP 502): on fire", s.Providers[0].LastError)
		require.Equal(t, at.UTC(), s.Providers[0].LastErrorAt)
	})
}

// TestEachEnrichmentIsALine at Debug.
func TestEachEnrichmentIsALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRig(t, intel.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
			newSource("good"), ipv4{newSource("four")},
			newSource("bad").will(fails(errors.New("on fire"))),
			newSource("spent").will(fails(&provider.Error{Provider: "spent", Kind: provider.ErrQuotaExhausted, RetryAfter: time.Hour})))
		id := uuid.New()
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: "2a0e:97c0::1"}))
		_, err := r.worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		var lines []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "msg=enriched") {
				lines = append(lines, line)
			}
		}
		require.Len(t, lines, 1, log.String())
		for _, part := range []string{
			"level=DEBUG", "attacker=" + id.String(), "verdict=malicious", "answered=[good]", "bad: unavailable, again at ", "spent: ",
			"four: family",
		} {
			require.Contains(t, lines[0], part)
		}
	})
}

// TestAnErrorNamesTheAttackerOnce.
func TestAnErrorNamesTheAttackerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{}, newSource("a"))
		id := uuid.New()
		_, err := r.worker.Enrich(t.Context(), id)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Equal(t, 1, strings.Count(err.Error(), id.String()), err)
		require.Equal(t, 1, strings.Count(err.Error(), "attacker"), err)
	})
}

// oddStore is a store whose attackers have an address that is none.
type oddStore struct {
	store.Store
	ip string
}

func (s *oddStore) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, req)
	for i := range c.Records {
		c.Records[i].IP = s.ip
	}
	return c, err
}

// roll is a list whose state a test sets.
type roll struct {
	*source
	mu     sync.Mutex
	status provider.ListStatus
}

func (r *roll) set(change func(*provider.ListStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

func (r *roll) Refresh(context.Context) error { return nil }

func (r *roll) List() provider.ListStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

func (r *roll) Changed(uint64) ([]netip.Prefix, uint64) { return nil, 0 }
func (r *roll) Settled(uint64)                          {}

// TestListsThatNeedALookAreLogged, once when it begins and once when it ends.
func TestListsThatNeedALookAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Log
		l := &roll{source: newSource("a")}
		l.set(func(s *provider.ListStatus) {
			*s = provider.ListStatus{Loaded: true, Rows: 5, LoadedAt: time.Now(), ChangedAt: time.Now()}
		})
		r := newRig(t, intel.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, l)
		r.start()
		said := func(text string) int {
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			return strings.Count(log.String(), text)
		}
		require.Zero(t, said("a list"))
		l.set(func(s *provider.ListStatus) { s.Rows, s.Stale = 0, true })
		require.Equal(t, 1, said(`level=WARN msg="a list is empty`))
		require.Equal(t, 1, said(`level=WARN msg="a list is old`))
		l.set(func(s *provider.ListStatus) { s.Rows = 5 })
		require.Equal(t, 1, said(`level=INFO msg="no longer: a list is empty`))
		l.set(func(s *provider.ListStatus) { s.Unkept = "no space left" })
		require.Equal(t, 1, said(`level=WARN msg="a list cannot be kept across restarts: each one downloads it again"`))
		require.Equal(t, 1, said(`error="no space left"`))
		time.Sleep(31 * 24 * time.Hour)
		require.Equal(t, 1, said(`level=WARN msg="a list has not changed for a month`))
	})
}
