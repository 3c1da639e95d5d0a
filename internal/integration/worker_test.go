package integration

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// sources names the upstream service behind each provider.
var sources = map[string]upstream.Source{
	"greynoise": upstream.GreyNoise, "abuseipdb": upstream.AbuseIPDB,
	"feodo": upstream.Feodo, "threatfox": upstream.ThreatFox,
}

func startUpstream(t *testing.T) *upstream.Server {
	t.Helper()
	up, err := upstream.Start(upstream.Options{})
	require.NoError(t, err)
	t.Cleanup(up.Close)
	return up
}

// TestEachSourceFailsAlone breaks one upstream service after the other in every
// way it can fail, over real HTTP and on a real database, and expects what the
// three others said to be saved and nothing to be made of the failure.
func TestEachSourceFailsAlone(t *testing.T) {
	for name, source := range sources {
		for failure := upstream.Hang; failure <= upstream.Redirect; failure++ {
			t.Run(name+" "+failure.String(), func(t *testing.T) {
				t.Parallel() // a list that does not come delays Drain
				up := startUpstream(t)
				up.Fail(source, failure)
				s, _ := openStore(t)
				attacker := crowd(1)[0]
				require.NoError(t, s.Observe(t.Context(), attacker))
				w, err := intel.NewWorker(intel.Config{
					Store: s, Providers: theFour(t, up), Logger: slog.New(slog.DiscardHandler),
					LookupTimeout: time.Second, Patience: 5 * time.Second, MaxWait: time.Second,
				})
				require.NoError(t, err)
				require.NoError(t, w.Drain(t.Context()))

				rec, err := s.Get(t.Context(), attacker.ID)
				require.NoError(t, err)
				require.Positive(t, rec.Revision)
				for other := range sources {
					e := rec.Entry(other)
					require.NotNil(t, e)
					if other != name {
						require.NotNil(t, e.Finding, other)
						continue
					}
					require.Nil(t, e.Finding)
					require.NotContains(t, e.Error, upstream.Canary)
					switch failure {
					case upstream.Unauthorized, upstream.Payment, upstream.Forbidden, upstream.RateLimited:
						require.Equal(t, store.Waiting, e.State)
						require.Zero(t, e.Failures)
					default:
						require.Equal(t, store.Due, e.State)
						require.Equal(t, 1, e.Failures)
					}
				}
				require.Zero(t, up.Redirected())
			})
		}
	}
}

// TestSecondPassWithFailuresKeepsTheFirst lets every service fail after a good
// first pass.
func TestSecondPassWithFailuresKeepsTheFirst(t *testing.T) {
	up := startUpstream(t)
	s, db := openStore(t)
	attackers := crowd(20)
	require.NoError(t, s.Observe(t.Context(), attackers...))
	config := intel.Config{Store: s, Providers: theFour(t, up), Logger: slog.New(slog.DiscardHandler), TTL: time.Second, LookupTimeout: time.Second}
	w, err := intel.NewWorker(config)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	_, before := dump(t, db, "SELECT * FROM attacker_intel", "attacker_uuid")
	require.Equal(t, len(attackers), len(before))

	for name, failure := range map[string]upstream.Failure{
		"greynoise": upstream.RateLimited, "abuseipdb": upstream.HTML, "threatfox": upstream.RateLimited, "feodo": upstream.Unavailable,
	} {
		up.Fail(sources[name], failure)
	}
	up.ResetCalls()
	config.Providers = theFour(t, up) // nothing at hand
	w, err = intel.NewWorker(config)
	require.NoError(t, err)
	for _, a := range attackers {
		require.Eventually(t, func() bool { // the second has to pass
			rec, err := s.Get(t.Context(), a.ID)
			return err == nil && time.Now().After(decnet.ExpiresAt(&rec))
		}, 5*time.Second, 10*time.Millisecond)
		_, err := w.Enrich(t.Context(), a.ID)
		require.NoError(t, err)
	}
	require.NotZero(t, up.Calls(upstream.ThreatFox))
	_, after := dump(t, db, "SELECT * FROM attacker_intel", "attacker_uuid")
	require.Equal(t, before, after)
}

// TestNothingLeaks looks at every request, every log line and every row for
// what must not be in them.
func TestNothingLeaks(t *testing.T) {
	up := startUpstream(t)
	var logged strings.Builder
	s, db := openStore(t)
	attackers := crowd(12)
	for i, ip := range []string{"192.168.0.7", "fc00::7", "::ffff:10.0.0.1", "127.0.0.1", "64:ff9b::7f00:1"} {
		attackers[i].IP = ip
	}
	require.NoError(t, s.Observe(t.Context(), attackers...))
	for i, text := range []string{"not-an-ip", "1.2.3.4/../../admin"} { // as others may write them
		_, err := db.Exec("UPDATE attackers SET ip = ? WHERE uuid = ?", text, attackers[5+i].ID.String())
		require.NoError(t, err)
	}
	w, err := intel.NewWorker(intel.Config{
		Store: s, Providers: theFour(t, up), Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	for _, source := range sources {
		up.Fail(source, upstream.Unauthorized)
	}
	for _, a := range attackers {
		_, err := w.Enrich(t.Context(), a.ID)
		require.NoError(t, err)
	}
	_, rows := dump(t, db, "SELECT * FROM attacker_intel", "attacker_uuid")
	require.Equal(t, 5, len(rows))
	for _, source := range sources {
		requests := up.Requests(source)
		require.NotEmpty(t, requests)
		for _, r := range requests {
			text := strings.ToLower(r.Method + r.URI + r.Body + strings.Join(r.Header.Values("User-Agent"), " "))
			for _, secret := range []string{"enrich", "decnet", "honeypot", "go-http", "192.168", "fc00", "10.0.0.1", "127.0.0.1", "admin", benchKey} {
				require.NotContains(t, text, secret)
			}
		}
	}
	require.NotContains(t, logged.String(), benchKey)
	_, ledger := dump(t, db, "SELECT attacker_uuid, ledger, decision FROM enrich_ledger", "attacker_uuid")
	for _, row := range ledger {
		require.NotContains(t, row[1].(string)+row[2].(string), benchKey)
	}
}

// TestShutdownLeavesNoGoroutine stops a worker in the middle of real requests.
func TestShutdownLeavesNoGoroutine(t *testing.T) {
	up, err := upstream.Start(upstream.Options{})
	require.NoError(t, err)
	up.Fail(upstream.ThreatFox, upstream.Hang)
	s, _ := openStore(t)
	attackers := crowd(100)
	require.NoError(t, s.Observe(t.Context(), attackers...))
	b := membus.New(membus.Options{})
	w, err := intel.NewWorker(intel.Config{
		Store: s, Bus: b, Providers: theFour(t, up), Logger: slog.New(slog.DiscardHandler), ShutdownGrace: -1,
	})
	require.NoError(t, err)
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	require.Eventually(t, func() bool { return up.Calls(upstream.ThreatFox) > 0 && up.Calls(upstream.GreyNoise) > 10 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, b.Close())
	up.Close()
	goleak.VerifyNone(t, before)
}
