package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// BenchmarkExport exports from an SQLite file in which a tenth of the attackers may
// be blocked: 20,000, or as many as ENRICH_BENCH_ATTACKERS says. ENRICH_BENCH_FILE
// names a file to use, or to make and keep. A process of its own exports, whose
// greatest memory is reported.
func BenchmarkExport(b *testing.B) {
	n := 20_000
	if text := os.Getenv("ENRICH_BENCH_ATTACKERS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	file := filepath.Join(b.TempDir(), "enrich.db")
	if kept := os.Getenv("ENRICH_BENCH_FILE"); kept != "" {
		file = kept
	}
	if _, err := os.Stat(file); err != nil {
		fillForExport(b, file, n)
	}
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "export", "-db", file, "-o", filepath.Join(b.TempDir(), "list"), "-format", "nft")
		cmd.Env = []string{asProgram + "=1"}
		began := time.Now()
		report, err := cmd.CombinedOutput()
		took := time.Since(began)
		require.NoError(b, err, string(report))
		require.Contains(b, string(report), fmt.Sprintf("exported %d addresses", n/10))
		b.ReportMetric(took.Seconds(), "s/export")
		b.ReportMetric(float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024, "MiB")
	}
}

// fillForExport makes an SQLite file with n attackers about whom four providers
// have answered.
func fillForExport(b *testing.B, file string, n int) {
	ctx := b.Context()
	db, s, err := database{engine: engineFor("sqlite"), path: file}.open(nil)
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	require.NoError(b, s.Migrate(ctx))
	const batch = 2000
	for from := 0; from < n; from += batch {
		var attackers []store.Attacker
		for i := from; i < min(from+batch, n); i++ {
			var v4 [4]byte
			binary.BigEndian.PutUint32(v4[:], 0x2d000000+uint32(i)*7)
			addr := netip.AddrFrom4(v4)
			attackers = append(attackers, store.Attacker{ID: store.AttackerID(addr), IP: addr.String(), LastSeen: time.Now().Add(-time.Duration(i) * time.Second)})
		}
		require.NoError(b, s.Observe(ctx, attackers...))
		for saved := 0; saved < len(attackers); {
			saved += decideForExport(ctx, b, s, from+saved, min(500, len(attackers)-saved))
		}
	}
}

// decideForExport saves what is known about the next attackers that are due.
func decideForExport(ctx context.Context, b *testing.B, s *sqlstore.Store, from, limit int) int {
	now := time.Now()
	c, err := s.Claim(ctx, store.ClaimRequest{Now: now, Owner: "bench", Lease: time.Hour, Limit: limit})
	require.NoError(b, err)
	updates := make([]store.Update, len(c.Records))
	for i := range c.Records {
		r := &c.Records[i]
		verdict := provider.Unknown
		if (from+i)%10 == 0 {
			verdict = provider.Malicious
		}
		u := store.Update{
			Lease: store.Lease{ID: r.ID, Fence: r.Fence}, IP: r.IP, Revision: 1, SavedAt: now, Due: now.Add(24 * time.Hour),
		}
		var evidence []aggregate.Evidence
		for _, name := range []string{"abuseipdb", "feodo", "greynoise", "threatfox"} {
			f := &provider.Finding{Provider: name, Addr: r.Addr(), Known: verdict == provider.Malicious, ObservedAt: now}
			switch name {
			case "abuseipdb":
				f.Verdict, f.Attrs = verdict, map[string]any{"score": int64(80), "categories": []int64{18, 22}}
			case "greynoise":
				f.Verdict = provider.Unknown
			default:
				f.Attrs = map[string]any{"listed": false}
			}
			u.Entries = append(u.Entries, store.Entry{Provider: name, State: store.Fresh, Finding: f, Expires: now.Add(24 * time.Hour)})
			u.Changed = append(u.Changed, name)
			evidence = append(evidence, aggregate.Evidence{Finding: f})
		}
		d := aggregate.Strongest{}.Decide(evidence, now)
		u.Decision = &d
		updates[i] = u
	}
	require.NoError(b, s.Save(ctx, updates...))
	require.NotEmpty(b, updates)
	return len(updates)
}
