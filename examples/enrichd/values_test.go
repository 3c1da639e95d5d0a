package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestValuesAsDECNETHasThem: what consumers of DECNET's table and of its events
// read is what DECNET itself would have written.
func TestValuesAsDECNETHasThem(t *testing.T) {
	s := newSite(t, upstream.Options{})
	defer s.startBus()()
	ear := listenTo(t, s.connect(), intel.TopicEnriched)
	id, unseen := uuid.New(), uuid.New()
	s.profile(id, notorious(s.up, 1))
	s.profile(unseen, "45.9.9.9")
	p := s.start("-once", "-providers", "threatfox,greynoise,feodo")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, []any{"threatfox", "greynoise", "feodo"}, ear.next()["providers"], "in configured order")
	families := s.column("SELECT threatfox_malware_families FROM attacker_intel WHERE attacker_uuid = ?", id.String())
	require.Regexp(t, `^\["[a-z]+\.[a-z0-9_]+"\]$`, families[0])
	require.Equal(t, []string{`{"message":"not seen"}`},
		s.column("SELECT greynoise_raw FROM attacker_intel WHERE attacker_uuid = ?", unseen.String()))
}

// TestExpiresAtOfConfiguredProviders: rows with findings of providers that are no
// longer configured are not stale for ever.
func TestExpiresAtOfConfiguredProviders(t *testing.T) {
	s := newSite(t, upstream.Options{})
	then := time.Now().Add(-48 * time.Hour)
	const rows = 300
	for n := range rows {
		id, ip := uuid.New(), notorious(s.up, n)
		s.profile(id, ip)
		s.exec(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version, greynoise_tags, greynoise_raw,
			greynoise_queried_at, abuseipdb_score, abuseipdb_categories, abuseipdb_raw, abuseipdb_queried_at, feodo_raw,
			threatfox_threat_types, threatfox_ioc_types, threatfox_malware_families, threatfox_raw, aggregate_verdict, cached_at, expires_at)
			VALUES (?, ?, ?, 1, '[]', '{}', ?, 100, '[]', '{}', ?, '{}', '[]', '[]', '[]', '{}', 'malicious', ?, ?)`,
			strings.ReplaceAll(uuid.NewString(), "-", ""), id.String(), ip,
			sqlalchemy(then), sqlalchemy(then), sqlalchemy(then), sqlalchemy(then.Add(24*time.Hour)))
	}
	p := s.start("-once", "-providers", "greynoise,feodo")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, []string{"0"}, s.column("SELECT count(*) FROM attacker_intel WHERE expires_at <= ?", sqlalchemy(time.Now())))
	require.Equal(t, []string{"300"}, s.column("SELECT count(*) FROM attacker_intel WHERE feodo_queried_at IS NOT NULL AND abuseipdb_score = 100"))
}
