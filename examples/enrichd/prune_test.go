package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// pruning notes what is to be removed, and when it was asked to.
type pruning struct {
	before, at []time.Time
	err        error
}

func (p *pruning) Prune(_ context.Context, before time.Time) (sqlstore.Pruned, error) {
	p.before, p.at = append(p.before, before), append(p.at, time.Now())
	return sqlstore.Pruned{Raws: 7}, p.err
}

func TestPruneDaily(t *testing.T) {
	for _, err := range []error{nil, errors.New("the database is away")} {
		synctest.Test(t, func(t *testing.T) {
			const keep = 720 * time.Hour
			started := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Hour)
			defer cancel()
			p := &pruning{err: err}
			var text bytes.Buffer
			pruneDaily(ctx, p, keep, slog.New(slog.NewTextHandler(&text, nil)))
			require.Equal(t, 50*time.Hour, time.Since(started), "it ends with its context")
			require.Len(t, p.at, 3)
			for i, at := range p.at {
				require.Equal(t, time.Duration(i)*24*time.Hour, at.Sub(started))
				require.Equal(t, keep, at.Sub(p.before[i]))
			}
			require.Equal(t, 3, strings.Count(text.String(), "raws=7"))
			if err != nil {
				require.Equal(t, 3, strings.Count(text.String(), err.Error()))
			}
		})
	}
}

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
