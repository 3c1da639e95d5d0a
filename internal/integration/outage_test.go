package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/sqlstore"
)

// childGate is the file whose absence takes down the bus of a child.
const childGate = "ENRICH_TEST_GATE"

// clock is a provider that always has news, of which each is soon out of date.
type clock struct{ ttl time.Duration }

func (clock) Name() string { return "clock" }

func (c clock) Lookup(_ context.Context, addr netip.Addr) (provider.Finding, error) {
	now := time.Now().UTC()
	return provider.Finding{Provider: "clock", Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: now, TTL: c.ttl}, nil
}

// gated is a bus that prints when it took which event, and that fails while the
// file at its path is missing.
type gated struct {
	bus.Bus
	path string
}

func (g gated) Publish(_ context.Context, ev bus.Event) error {
	if ev.Topic != intel.TopicEnriched {
		return nil
	}
	if _, err := os.Stat(g.path); err != nil {
		return errors.New("the bus is down")
	}
	payload, err := intel.ParseEnriched(ev.Payload)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, time.Now().UnixNano(), ev.ID, payload.AttackerUUID, payload.Revision) // one write, whole or not at all
	return err
}

func (gated) Subscribe(context.Context, string) (bus.Subscription, error) {
	return nil, errors.New("this bus has no subscribers")
}

// announce runs a worker with a gated bus until it is interrupted, for which
// attackers are due again after some time; or, to settle, until nothing is left
// to do.
func announce(s *sqlstore.Store, settle bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ttl := 300 * time.Millisecond
	if settle {
		ttl = time.Hour
	}
	w, err := intel.NewWorker(intel.Config{
		Store: s, Bus: gated{path: os.Getenv(childGate)}, Providers: []intel.Provider{clock{ttl}}, PollInterval: 50 * time.Millisecond,
		Owner: fmt.Sprint(os.Getpid()), LookupTimeout: 5 * time.Second, MaxWait: time.Second, Lease: 12 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if settle {
		return w.Drain(ctx)
	}
	return w.Run(ctx)
}

// published is an event that a child handed to its bus.
type published struct {
	at       int64 // in nanoseconds
	id       string
	attacker string
	revision uint64
}

// TestOrderThroughOutages lets two workers announce changes of the same attackers
// on a bus that goes up and down, kills one of them in between, and expects every
// event, each attacker's in order. ENRICH_TEST_OUTAGES is the number of seconds.
func TestOrderThroughOutages(t *testing.T) {
	seconds := size(t, "ENRICH_TEST_OUTAGES", 6)
	dsn := onPostgres.create(t)
	db := onPostgres.open(t, dsn)
	s := onPostgres.newStore(t, db)
	attackers := crowd(60)
	require.NoError(t, s.Observe(t.Context(), attackers...))
	gate := filepath.Join(t.TempDir(), "gate")
	up := func() { require.NoError(t, os.WriteFile(gate, nil, 0o600)) }
	up()

	var (
		mu      sync.Mutex
		events  []published
		reading sync.WaitGroup
	)
	start := func(task string) *process {
		p := onPostgres.startChild(t, task, dsn, childGate+"="+gate)
		reading.Go(func() {
			for p.out.Scan() {
				var e published
				if n, err := fmt.Sscan(p.out.Text(), &e.at, &e.id, &e.attacker, &e.revision); n < 4 || err != nil {
					continue // the process was killed while it wrote
				}
				mu.Lock()
				events = append(events, e)
				mu.Unlock()
			}
		})
		return p
	}
	workers := []*process{start("announce"), start("announce")}
	for i := range 2 * seconds {
		<-time.After(500 * time.Millisecond)
		switch i % 4 {
		case 1:
			require.NoError(t, os.Remove(gate))
		case 3:
			up()
		}
		if i == seconds {
			require.NoError(t, workers[0].Process.Kill())
			_ = workers[0].Wait() // it was killed
			workers[0] = start("announce")
		}
	}
	up()
	for _, p := range workers {
		require.NoError(t, p.Process.Signal(os.Interrupt))
	}
	reading.Wait()
	for _, p := range workers {
		_ = p.Wait() // one that has just started does not listen to the signal yet
	}
	// Another worker does what they left. Nobody waits for the leases of the dead.
	_, err := db.Exec("UPDATE enrich_ledger SET wake_at = 1 WHERE state = 2")
	require.NoError(t, err)
	last := start("settle")
	reading.Wait()
	require.NoError(t, last.Wait())
	require.Empty(t, column[string](t, db, "SELECT event_id FROM enrich_outbox"))

	slices.SortStableFunc(events, func(a, b published) int { return int(a.at - b.at) })
	seen, revisions, again := make(map[string]bool), make(map[string]uint64), 0
	for _, e := range events {
		if seen[e.id] {
			again++
			continue
		}
		seen[e.id] = true
		require.Equal(t, revisions[e.attacker]+1, e.revision, "next event about %s", e.attacker)
		revisions[e.attacker] = e.revision
	}
	for _, a := range attackers {
		rec, err := s.Get(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, rec.Revision, revisions[a.ID.String()], "events about %s", a.ID)
	}
	t.Logf("%d s: %d events about %d attackers, in order; %d came twice", seconds, len(seen), len(attackers), again)
}
