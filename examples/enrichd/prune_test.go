package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestKeepRaw: raw answers that are old enough are removed, from DECNET's rows,
// too; what they say stays.
func TestKeepRaw(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		left string
	}{
		"daemon":   {[]string{"-keep-raw", "720h"}, "{}"},
		"once":     {[]string{"-keep-raw", "720h", "-once"}, "{}"},
		"too new":  {[]string{"-keep-raw", "960h", "-once"}, `{"noise":true}`},
		"for ever": {[]string{"-once"}, `{"noise":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			s.env["DECNET_BUS_ENABLED"] = "false"
			id, at := uuid.New(), time.Now().Add(-800*time.Hour)
			s.profile(id, notorious(s.up, 1))
			s.exec(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version,
				greynoise_classification, greynoise_tags, greynoise_raw, greynoise_queried_at,
				abuseipdb_categories, abuseipdb_raw, feodo_raw, threatfox_threat_types, threatfox_ioc_types,
				threatfox_malware_families, threatfox_raw, aggregate_verdict, cached_at, expires_at)
				VALUES (?, ?, ?, 1, 'benign', '[]', '{"noise":true}', ?, '[]', '{}', '{}', '[]', '[]', '[]', '{}', 'benign', ?, ?)`,
				uuid.NewString(), id.String(), notorious(s.up, 1), sqlalchemy(at), sqlalchemy(at), sqlalchemy(time.Now().Add(time.Hour)))
			p := s.start(c.args...)
			if name == "daemon" {
				p.until("removed old raw answers")
				p.signal(syscall.SIGTERM)
			}
			require.Equal(t, exitOK, p.code(), p.output())
			line := p.logged("removed old raw answers")
			require.Equal(t, name == "for ever", line == nil, p.output())
			if c.left == "{}" {
				require.EqualValues(t, 1, line["raws"])
			}
			require.Equal(t, []string{c.left}, s.column("SELECT greynoise_raw FROM attacker_intel"))
			require.Equal(t, []string{"benign"}, s.column("SELECT greynoise_classification FROM attacker_intel"))
		})
	}
}
