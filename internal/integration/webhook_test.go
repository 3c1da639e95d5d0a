package integration

import (
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/store"
)

// TestWebhookByReference: the reference library of Standard Webhooks verifies what
// a webhook posts, with the secret and with the one before it, on each database.
func TestWebhookByReference(t *testing.T) { onEach(t, testWebhookByReference) }

func testWebhookByReference(t *testing.T, on *database) {
	current := "whsec_" + base64.StdEncoding.EncodeToString([]byte("the secret that is used at present"))
	before := "whsec_" + base64.StdEncoding.EncodeToString([]byte("the secret that was used before it"))
	var mu sync.Mutex
	verified := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, secret := range []string{current, before} {
			wh, err := standardwebhooks.NewWebhook(secret)
			if err == nil && wh.Verify(body, r.Header) == nil {
				verified[r.Header.Get("webhook-id")]++
			}
		}
		other, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of somebody else, not ours")))
		if err != nil || other.Verify(body, r.Header) == nil {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()

	s, _ := on.openStore(t)
	reader := export.WebhookReader(server.URL)
	w, err := intel.NewWorker(intel.Config{
		Store: s, Readers: []string{reader}, Logger: slog.New(slog.DiscardHandler),
		Providers: []intel.Provider{providertest.NewFake("a")},
	})
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: netip.AddrFrom4([4]byte{45, 9, 7, byte(i)}).String()}))
	}
	require.NoError(t, w.Drain(t.Context()))
	hook, err := export.NewWebhook(export.WebhookOptions{
		URL: server.URL, Secrets: []string{current, before}, Outbox: s.OutboxOf(reader), AllowInternal: true, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, hook.Drain(t.Context()))
	require.Len(t, verified, 20)
	for id, n := range verified {
		require.Equal(t, 2, n, id)
	}
}
