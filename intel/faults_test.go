package intel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// faults are the ways in which a lookup can fail.
var faults = []func(context.Context, netip.Addr) (provider.Finding, error){
	hangs,
	fails(errors.New("connection reset")),
	fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503}),
	fails(&provider.Error{Kind: provider.ErrRateLimited, StatusCode: 429}),
	fails(&provider.Error{Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: 1000 * time.Hour}),
	fails(&provider.Error{Kind: provider.ErrQuotaExhausted, StatusCode: 429, Usage: &provider.Usage{Limit: 9, Window: provider.Day}}),
	fails(&provider.Error{Kind: provider.ErrUnauthorized, StatusCode: 403}),
	fails(&provider.Error{Kind: provider.ErrUnavailable, Unsent: true}),
	fails(&net.DNSError{Err: "server misbehaving", IsTemporary: true}),
	fails(&provider.Error{Kind: provider.ErrBadResponse, StatusCode: 400}),
	fails(&provider.Error{Kind: provider.ErrQuotaExhausted, StatusCode: 429}),
	fails(&provider.Error{
		Kind: provider.ErrQuotaExhausted, StatusCode: 429, RetryAfter: 2 * time.Hour, Usage: &provider.Usage{Limit: 25, Window: provider.Day},
	}),
	func(context.Context, netip.Addr) (provider.Finding, error) { panic("nil map") },
	func(context.Context, netip.Addr) (provider.Finding, error) {
		return provider.Finding{Provider: "another", Verdict: provider.Benign}, nil
	},
	func(context.Context, netip.Addr) (provider.Finding, error) {
		return provider.Finding{Addr: netip.MustParseAddr("8.8.8.8"), Verdict: provider.Benign}, nil
	},
	func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		return provider.Finding{Addr: addr, Verdict: provider.Benign, Raw: []byte("<html>")}, nil
	},
	func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		return provider.Finding{Addr: addr, Verdict: 77, Attrs: map[string]any{"Ä": func() {}}}, nil
	},
}

// sequence is a life of one attacker with random faults, address changes and
// restarts.
type sequence struct {
	*rand.Rand
	t       *testing.T
	seed    uint64
	store   *memstore.Store
	sources []*source
	key     string // of the sources, which changes now and then
	id      uuid.UUID
	wake    func()
	stop    func()
	log     []string
}

// metering is a source with a key, the last of which has a scarce quota.
type metering struct {
	*source
	key string
	n   int
}

func (m metering) Account() string { return m.key }

func (m metering) Limits() (l provider.Limits) {
	if m.n == 2 {
		l.Quotas = []provider.Quota{{Calls: 40, Window: provider.Day}}
	}
	return l
}

func (s *sequence) note(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *sequence) start() {
	var ps []intel.Provider
	for i, src := range s.sources {
		ps = append(ps, metering{src, s.key, i})
	}
	w, err := intel.NewWorker(intel.Config{
		Store: s.store, Providers: ps, Logger: slog.New(slog.DiscardHandler), ShutdownGrace: -1,
		TTL: 2 * time.Hour, RetryMin: 10 * time.Minute, PollInterval: 2 * time.Hour,
	})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	s.stop = func() {
		cancel()
		require.NoError(s.t, <-done)
	}
	s.wake = w.Wake
}

// opinion is what must not change by failures: verdict, explanation, findings.
func (s *sequence) opinion() string {
	r, err := s.store.Get(context.Background(), s.id)
	require.NoError(s.t, err)
	text, err := json.Marshal(r.Decision)
	require.NoError(s.t, err)
	for _, e := range r.Entries {
		if f := e.Finding; f != nil {
			text = fmt.Appendf(text, " %s: %v %v %v %s", e.Provider, f.Addr, f.Verdict, f.ObservedAt, f.Raw)
		}
	}
	return fmt.Sprintf("%s %d", text, r.Revision)
}

func (s *sequence) run() {
	s.start()
	defer func() { s.stop() }()
	for range 2 + s.IntN(4) {
		synctest.Wait()
		answers := false
		for _, src := range s.sources {
			if n := s.IntN(len(faults) + 4); n < len(faults) {
				src.will(faults[n])
				s.note("%s: fault %d", src.Name(), n)
			} else {
				src.will(says(provider.Verdict(1 + s.IntN(4))))
				s.note("%s answers", src.Name())
				answers = true
			}
		}
		moved := s.IntN(6) == 0
		before := s.opinion()
		if moved {
			s.note("moves")
			require.NoError(s.t, s.store.Observe(context.Background(), store.Attacker{ID: s.id, IP: ip(s.IntN(1000))}))
		}
		if s.IntN(3) == 0 {
			s.note("restart")
			if s.IntN(3) == 0 {
				s.note("with a new key")
				s.key += "x"
			}
			s.stop()
			s.start()
		}
		s.wake()
		time.Sleep(time.Duration(1+s.IntN(300)) * time.Minute)
		synctest.Wait()
		if !answers && !moved {
			require.Equal(s.t, before, s.opinion(), "seed %d: failures have changed something: %s", s.seed, strings.Join(s.log, ", "))
		}
	}
	for _, src := range s.sources {
		src.will(says(provider.Malicious))
	}
	time.Sleep(50 * time.Hour) // beyond every pause: a day for a limit or an address, six hours for a key
	synctest.Wait()
	r, err := s.store.Get(context.Background(), s.id)
	require.NoError(s.t, err)
	require.Equal(s.t, provider.Malicious, r.Decision.Verdict, "seed %d: %s", s.seed, strings.Join(s.log, ", "))
	for _, src := range s.sources {
		e := r.Entry(src.Name())
		require.NotNil(s.t, e.Finding, "seed %d: %s was not asked again after %s", s.seed, src.Name(), strings.Join(s.log, ", "))
		require.Equal(s.t, r.IP, e.Finding.Addr.String())
		require.Equal(s.t, provider.Malicious, e.Finding.Verdict)
	}
}

// TestFailuresNeverSpeak runs attackers through random sequences of faults: no
// pass that consists only of failures changes a verdict, a finding or an
// explanation, and everybody is enriched in the end.
func TestFailuresNeverSpeak(t *testing.T) {
	t.Parallel()
	sequences := uint64(10_000)
	if raceDetector {
		sequences = 1000
	}
	base := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		for n := range sequences {
			seed := base + n
			s := &sequence{
				Rand: rand.New(rand.NewPCG(seed, 0)), t: t, seed: seed, store: memstore.New(), id: uuid.New(),
				sources: []*source{newSource("a"), newSource("b"), newSource("c")},
			}
			require.NoError(t, s.store.Observe(t.Context(), store.Attacker{ID: s.id, IP: ip(1)}))
			s.run()
		}
	})
}
