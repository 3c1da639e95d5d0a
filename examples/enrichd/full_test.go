package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestFullDisk: once there is room again, what could not be saved is saved at the
// next attempt. The test needs the right to mount a file system.
func TestFullDisk(t *testing.T) {
	s := newSite(t, upstream.Options{})
	small := filepath.Join(filepath.Dir(s.file), "small")
	require.NoError(t, os.Mkdir(small, 0o755))
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small).Run(); err != nil {
		t.Skip("a file system cannot be mounted")
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", "-l", small).Run()) })
	s.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	text, err := os.ReadFile(s.file)
	require.NoError(t, err)
	file := filepath.Join(small, "decnet.db")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	s.env["DECNET_BUS_ENABLED"] = "false"
	p := s.start("-db", file, "-poll-interval", "1s")
	p.until("enriching")
	d, err := parseDatabase(file)
	require.NoError(t, err)
	db, err := openSQLite(d)
	require.NoError(t, err)
	defer db.Close()
	for n := range 200 {
		now := sqlalchemy(time.Now())
		_, err := db.Exec(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at) VALUES (?, ?, ?, ?, 7, '[]', ?)`,
			uuid.NewString(), notorious(s.up, n), now, now, now)
		require.NoError(t, err)
		if n == 20 {
			filler, err := os.Create(filepath.Join(small, "filler"))
			require.NoError(t, err)
			block := make([]byte, 4096)
			for err == nil {
				_, err = filler.Write(block)
			}
			require.NoError(t, filler.Close())
			eventually(t, "it fails several times, which makes it wait longer", func() bool { return len(p.all("the store fails; trying again")) >= 6 })
			require.NoError(t, os.Remove(filler.Name()))
			freed := time.Now()
			within(t, wait, "all are saved", func() bool {
				var left int
				require.NoError(t, db.QueryRow("SELECT count(*) FROM attackers WHERE uuid NOT IN (SELECT attacker_uuid FROM attacker_intel)").Scan(&left))
				return left == 0
			})
			t.Logf("recovered after %v", time.Since(freed))
			require.Less(t, time.Since(freed), 15*time.Second)
			break
		}
	}
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
}
