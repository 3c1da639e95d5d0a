package intelmock_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/mock/gomock"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/intelmock"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

var (
	_ intel.Provider   = (*intelmock.MockProvider)(nil)
	_ intel.Store      = (*intelmock.MockStore)(nil)
	_ intel.Bus        = (*intelmock.MockBus)(nil)
	_ bus.Subscription = (*intelmock.MockSubscription)(nil)
)

// rig is a worker all of whose surroundings are mocks, and one attacker.
type rig struct {
	worker   *intel.Worker
	provider *intelmock.MockProvider
	store    *intelmock.MockStore
	bus      *intelmock.MockBus
	attacker store.Record
}

func newRig(t *testing.T) *rig {
	ctrl := gomock.NewController(t)
	r := &rig{
		provider: intelmock.NewMockProvider(ctrl),
		store:    intelmock.NewMockStore(ctrl),
		bus:      intelmock.NewMockBus(ctrl),
		attacker: store.Record{Attacker: store.Attacker{ID: uuid.New(), IP: "45.9.148.3"}, Fence: 7},
	}
	r.provider.EXPECT().Name().Return("mocked").AnyTimes()
	var err error
	r.worker, err = intel.NewWorker(intel.Config{
		Store: r.store, Bus: r.bus, Providers: []intel.Provider{r.provider}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return r
}

// enrich expects the attacker to be claimed and the provider to be asked once,
// which says that it is malicious.
func (r *rig) enrich() []any {
	addr := netip.MustParseAddr(r.attacker.IP)
	return []any{
		r.store.EXPECT().Claim(gomock.Any(), gomock.Any()).
			Return(store.Claimed{Records: []store.Record{r.attacker}}, nil),
		r.provider.EXPECT().Lookup(gomock.Any(), addr).
			Return(provider.Finding{Provider: "mocked", Addr: addr, Known: true, Verdict: provider.Malicious}, nil),
	}
}

func TestAnnouncesAfterSaving(t *testing.T) {
	r := newRig(t)
	var saved store.Update
	var published bus.Event
	gomock.InOrder(append(r.enrich(),
		r.store.EXPECT().Save(gomock.Any(), gomock.Any()).
			DoAndReturn(func(_ context.Context, updates ...store.Update) error {
				saved = updates[0]
				return nil
			}),
		r.bus.EXPECT().Publish(gomock.Any(), gomock.Any()).
			DoAndReturn(func(_ context.Context, ev bus.Event) error {
				published = ev
				return nil
			}),
		r.store.EXPECT().Get(gomock.Any(), r.attacker.ID).Return(r.attacker, nil),
	)...)
	_, err := r.worker.Enrich(t.Context(), r.attacker.ID)
	require.NoError(t, err)
	require.Equal(t, r.attacker.Fence, saved.Fence)
	require.Equal(t, provider.Malicious, saved.Decision.Verdict)
	require.Equal(t, intel.TopicEnriched, published.Topic)
	require.Equal(t, store.EventID(r.attacker.ID, saved.Revision, saved.SavedAt), published.ID)
}

func TestAnnouncesNothingThatWasNotSaved(t *testing.T) {
	r := newRig(t)
	down := errors.New("database is down")
	gomock.InOrder(append(r.enrich(),
		r.store.EXPECT().Save(gomock.Any(), gomock.Any()).Return(down),
		r.store.EXPECT().Release(gomock.Any(), gomock.Any(), store.Lease{ID: r.attacker.ID, Fence: r.attacker.Fence}).Return(nil),
	)...)
	_, err := r.worker.Enrich(t.Context(), r.attacker.ID)
	require.ErrorIs(t, err, down)
}
