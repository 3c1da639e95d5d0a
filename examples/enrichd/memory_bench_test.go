package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// BenchmarkIdleMemory measures how much memory enrichd keeps while it has
// nothing to do, on a SQLite database in which DECNET has enriched
// ENRICH_BENCH_ATTACKERS attackers, by default 2,000. Enrichd imports them first.
// Then it looks at the database for ENRICH_BENCH_IDLE, by default 1s, ten times a
// second where it would do so once a minute; what the import used is given back
// to the system within about a minute.
//
// MiB-idle is what is resident in the end, MiB-peak the most that ever was, the
// import included, and import/s how many attackers a second that took over.
func BenchmarkIdleMemory(b *testing.B) {
	attackers, idle := 2000, time.Second
	var err error
	if text := os.Getenv("ENRICH_BENCH_ATTACKERS"); text != "" {
		attackers, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	if text := os.Getenv("ENRICH_BENCH_IDLE"); text != "" {
		idle, err = time.ParseDuration(text)
		require.NoError(b, err)
	}
	program := filepath.Join(b.TempDir(), "enrichd") // with nothing of the tests in it
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := build.CombinedOutput()
	require.NoError(b, err, string(text))
	for b.Loop() {
		s := newSite(b, upstream.Options{Keep: -1})
		s.fillFresh(attackers)
		stop := s.startBus()
		started := time.Now()
		p := s.startFile(program, "-poll-interval", "100ms")
		p.until("enriching")
		within(b, wait+time.Duration(attackers)*10*time.Millisecond, "everything is imported", func() bool {
			return s.column("SELECT at FROM enrich_cursor WHERE name = 'past'")[0] == "end"
		})
		took := time.Since(started)
		select {
		case <-time.After(idle):
		case <-p.exited:
			require.FailNow(b, "it has ended", p.output())
		}
		b.ReportMetric(resident(b, p, "VmRSS"), "MiB-idle")
		b.ReportMetric(resident(b, p, "VmHWM"), "MiB-peak")
		b.ReportMetric(float64(attackers)/took.Seconds(), "import/s")
		b.ReportMetric(0, "ns/op")
		require.Equal(b, strconv.Itoa(attackers), s.column("SELECT count(*) FROM enrich_ledger WHERE state = 0")[0], "all are asleep")
		require.Zero(b, s.calls()-s.up.Calls(upstream.Feodo), "nobody was asked") // but for a list in bulk
		p.signal(syscall.SIGTERM)
		require.Equal(b, exitOK, p.code(), p.output())
		stop()
	}
}

// fillFresh makes up attackers that DECNET saw and enriched, a millisecond after
// each other, none of whom is due for a day.
func (s *site) fillFresh(n int) {
	s.Helper()
	now := time.Now().UTC()
	numbers := fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)", n)
	// In no order, for new rows not to be neighbours.
	const (
		id = "printf('%08x-0000-4000-8000-%012x', (i * 2654435761) % 4294967296, i)"
		ip = "'45.' || (i / 65536 % 256) || '.' || (i / 256 % 256) || '.' || (i % 256)"
	)
	at := fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f000', %d - i / 1000.0, 'unixepoch')", now.Unix())
	s.exec(fmt.Sprintf(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at)
		%s SELECT %s, %s, %s, %[4]s, 7, '["ssh"]', %[4]s FROM n`, numbers, id, ip, at))
	s.exec(fmt.Sprintf(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version,
		greynoise_classification, greynoise_tags, greynoise_raw, greynoise_queried_at,
		abuseipdb_score, abuseipdb_categories, abuseipdb_raw, abuseipdb_queried_at,
		feodo_listed, feodo_raw, feodo_queried_at, threatfox_listed, threatfox_threat_types, threatfox_ioc_types,
		threatfox_malware_families, threatfox_raw, threatfox_queried_at, aggregate_verdict, cached_at, expires_at)
		SELECT replace(uuid, '-', ''), uuid, ip, 1, 'malicious', '["Mirai"]', '{"noise": true, "riot": false}', updated_at,
		80, '[18, 22]', '{"totalReports": 5}', updated_at, 0, '{}', updated_at, 0, '[]', '[]', '[]', '{}', updated_at,
		'malicious', updated_at, '%s' FROM attackers`, sqlalchemy(now.Add(24*time.Hour))))
}

// resident returns a line of what the kernel says about the memory of a
// process, in MiB.
func resident(b *testing.B, p *process, name string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Skipf("only where there is /proc: %v", err)
	}
	for line := range bytes.Lines(text) {
		var kB float64
		if _, err := fmt.Sscanf(string(line), name+": %f kB", &kB); err == nil {
			return kB / 1024
		}
	}
	require.FailNow(b, "the kernel does not say", name)
	return 0
}
