package intel_test

import (
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// TestReaders: each event is kept for every reader, with and without a bus, and
// what the bus has taken is kept for the others.
func TestReaders(t *testing.T) {
	for name, b := range map[string]bus.Bus{"bus": membus.New(membus.Options{}), "no bus": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, intel.Config{Bus: b, Readers: []string{"one", "two"}}, newSource("a"))
				ids := r.observe(ips(3)...)
				require.NoError(t, r.worker.Drain(t.Context()))
				for _, reader := range []string{"one", "two"} {
					events, err := r.store.OutboxOf(reader).Unpublished(t.Context(), 0, 9)
					require.NoError(t, err)
					var about []uuid.UUID
					for _, ev := range events {
						e, err := intel.ParseEnriched(ev.Payload)
						require.NoError(t, err)
						require.Equal(t, ev.ID, e.EventID)
						about = append(about, e.AttackerUUID)
					}
					require.ElementsMatch(t, ids, about)
				}
				events, err := r.store.Unpublished(t.Context(), 0, 9)
				require.NoError(t, err)
				require.Empty(t, events)
			})
		})
	}
}

func TestReadersInvalid(t *testing.T) {
	_, err := intel.NewWorker(intel.Config{Store: memstore.New(), Readers: []string{"", "a b", "x", "x"}})
	require.ErrorContains(t, err, `Readers has ""`)
	require.ErrorContains(t, err, `Readers has "a b"`)
	require.ErrorContains(t, err, `Readers has "x" twice`)
	_, err = intel.NewWorker(intel.Config{Store: struct{ store.Store }{memstore.New()}, Readers: []string{"x"}})
	require.ErrorContains(t, err, "it is no store.Readers")
}
