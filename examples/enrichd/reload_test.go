package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestHangup: SIGHUP reads keys and own networks again, says what stays as it was,
// and never ends the program.
func TestHangup(t *testing.T) {
	s := newSite(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.GreyNoise: {secret + "new"}}})
	s.env["DECNET_BUS_ENABLED"] = "false"
	key, own := filepath.Join(filepath.Dir(s.file), "greynoise.key"), filepath.Join(filepath.Dir(s.file), "own")
	write := func(file, text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(key, secret+"old")
	write(own, "45.9.2.0/24\n")
	delete(s.env, "DECNET_GREYNOISE_API_KEY")
	s.env["DECNET_GREYNOISE_API_KEY_FILE"] = key
	p := s.start("-own", own, "-poll-interval", "200ms", "-providers", "greynoise,feodo")
	p.until("enriching")
	hangUp := func() map[string]any {
		before := len(p.all("SIGHUP: files were read again"))
		p.signal(syscall.SIGHUP)
		eventually(t, "the files are read again", func() bool { return len(p.all("SIGHUP: files were read again")) > before })
		return p.logged("SIGHUP: files were read again")
	}
	line := hangUp()
	require.Equal(t, "nothing", line["changed"])
	require.Contains(t, line["unchanged"], "database")

	write(key, secret+"new")
	write(own, "45.9.2.0/24\n45.9.0.0/24\n")
	require.Equal(t, "the key of greynoise, own networks", hangUp()["changed"])
	mine, other, released := uuid.New(), uuid.New(), uuid.New()
	s.profile(released, notorious(s.up, 513))
	s.profile(mine, notorious(s.up, 5))
	s.profile(other, notorious(s.up, 300))
	eventually(t, "the new key is used", func() bool {
		return len(s.column("SELECT 1 FROM attacker_intel WHERE attacker_uuid = ? AND greynoise_classification = 'malicious'", other.String())) == 1
	})
	require.Empty(t, s.column("SELECT 1 FROM attacker_intel WHERE attacker_uuid IN (?, ?)", mine.String(), released.String()))

	write(own, "45.9.0.0/24\n")
	require.Equal(t, "own networks", hangUp()["changed"])
	eventually(t, "the attacker in a network that is no longer ours is enriched", func() bool {
		return len(s.column("SELECT 1 FROM attacker_intel WHERE attacker_uuid = ?", released.String())) == 1
	})
	require.Empty(t, s.column("SELECT 1 FROM attacker_intel WHERE attacker_uuid = ?", mine.String()))

	write(own, "nonsense\n")
	p.signal(syscall.SIGHUP)
	p.until("SIGHUP: nothing has changed, because what is in the files is wrong")
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
}

// TestHangupChangesSecrets: after SIGHUP the secret that is in the file now signs.
func TestHangupChangesSecrets(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	signatures := make(chan int, 100) // how many there were
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		signatures <- len(strings.Fields(r.Header.Get("webhook-signature")))
	}))
	defer receiver.Close()
	file := secretFile(t)
	p := s.start("-poll-interval", "100ms", "-webhook", receiver.URL+"/s3cr3t", "-webhook-secret-file", file, "-webhook-allow-internal")
	p.until("enriching")
	s.profile(uuid.New(), notorious(s.up, 1))
	require.Equal(t, 1, <-signatures)

	old, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, append([]byte("whsec_bmV3LXNlY3JldC1vZi0yNC1ieXRlcy4u\n"), old...), 0o600))
	p.signal(syscall.SIGHUP)
	p.until("SIGHUP: files were read again")
	require.Equal(t, "the secret of the webhook "+receiver.URL, p.logged("SIGHUP: files were read again")["changed"])
	s.profile(uuid.New(), notorious(s.up, 2))
	require.Equal(t, 2, <-signatures)

	require.NoError(t, os.WriteFile(file, []byte("no secret\n"), 0o600))
	p.signal(syscall.SIGHUP)
	p.until("SIGHUP: nothing has changed, because what is in the files is wrong")
	s.profile(uuid.New(), notorious(s.up, 3))
	require.Equal(t, 2, <-signatures)
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.NotContains(t, p.output(), "s3cr3t")
}

// TestHangupEndsNothing: neither does SIGHUP end a program that has no use for it.
func TestHangupEndsNothing(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	for n := range 400 {
		s.profile(uuid.New(), notorious(s.up, n))
	}
	p := s.start("-once")
	eventually(t, "it works", func() bool { return len(s.column("SELECT 1 FROM sqlite_master WHERE name = 'enrich_ledger'")) == 1 })
	for range 10 {
		p.signal(syscall.SIGHUP)
	}
	require.Equal(t, exitOK, p.code(), p.output())
}
