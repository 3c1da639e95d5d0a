package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// startPgBouncer starts PgBouncer in transaction mode before the PostgreSQL server
// and returns its address.
func startPgBouncer(t *testing.T) string {
	t.Helper()
	onPostgres.need(t)
	file, err := exec.LookPath("pgbouncer")
	if err != nil {
		file = "/usr/sbin/pgbouncer"
		if _, err := os.Stat(file); err != nil {
			const missing = "pgbouncer is not installed"
			if os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" {
				require.FailNow(t, missing)
			}
			t.Skip(missing)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	host, port, err := net.SplitHostPort(postgresAddr)
	require.NoError(t, err)
	_, own, err := net.SplitHostPort(address)
	require.NoError(t, err)

	dir, err := os.MkdirTemp("", "pgbouncer")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	config := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
`, host, port, own), 0o644))
	cmd := exec.Command(file, config)
	if os.Getuid() == 0 { // which it refuses to run as
		nobody, err := user.Lookup("nobody")
		require.NoError(t, err)
		uid, err := strconv.Atoi(nobody.Uid)
		require.NoError(t, err)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	var log logtest.Log
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return address
		}
		require.True(t, time.Now().Before(deadline), "pgbouncer does not start: %s", &log)
		<-time.After(20 * time.Millisecond)
	}
}

// TestPgBouncer: through PgBouncer in transaction mode the store works with the
// driver's setting that is documented, and without it an error names the setting.
func TestPgBouncer(t *testing.T) {
	dsn := strings.Replace(onPostgres.create(t), postgresAddr, startPgBouncer(t), 1)
	work := func(dsn string) error {
		db, err := sql.Open("pgx", dsn)
		require.NoError(t, err)
		defer db.Close()
		db.SetMaxOpenConns(8)
		s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.PostgreSQL})
		require.NoError(t, err)
		if err := s.Migrate(t.Context()); err != nil {
			return err
		}
		var (
			workers sync.WaitGroup
			mu      sync.Mutex
			failed  error
		)
		for w := range 8 {
			workers.Go(func() {
				err := func() error {
					for n := range 10 {
						if err := s.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: fmt.Sprintf("45.9.%d.%d", w, n)}); err != nil {
							return err
						}
						now := time.Now().UTC()
						c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Minute, Limit: 3})
						if err != nil {
							return err
						}
						var updates []store.Update
						for _, r := range c.Records {
							updates = append(updates, enriched(r, now))
						}
						if err := s.Save(t.Context(), updates...); err != nil {
							return err
						}
					}
					return nil
				}()
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			})
		}
		workers.Wait()
		return failed
	}
	require.NoError(t, work(dsn+"&default_query_exec_mode=exec"))
	if err := work(dsn); err != nil {
		require.ErrorContains(t, err, "add default_query_exec_mode=exec to the URL")
	}
}
