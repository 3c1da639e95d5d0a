package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// relay passes connections on to a server, until it is told to hang.
type relay struct {
	net.Listener
	to    string
	mu    sync.Mutex
	hangs chan struct{} // closed when it does not hang
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{Listener: l, to: to, hangs: make(chan struct{})}
	close(r.hangs)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(ctx, conn)
		}
	}()
	return r
}

func (r *relay) wait(ctx context.Context) {
	r.mu.Lock()
	hangs := r.hangs
	r.mu.Unlock()
	select {
	case <-hangs:
	case <-ctx.Done():
	}
}

func (r *relay) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	r.wait(ctx)
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = server.Close()
	})
	defer stop()
	copy := func(to, from net.Conn) {
		defer to.Close() // however from ended: the server must not keep what a client that is gone has locked
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			r.wait(ctx)
			if n > 0 {
				_, _ = to.Write(b[:n])
			}
			if err != nil {
				return
			}
		}
	}
	go copy(server, conn)
	copy(conn, server)
}

func (r *relay) hang() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangs = make(chan struct{})
}

func (r *relay) goOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.hangs)
}

// onServers runs a test on each kind of database server, with a relay between.
func onServers(t *testing.T, test func(t *testing.T, s *site, r *relay)) {
	for _, title := range []string{"PostgreSQL", "MySQL"} {
		t.Run(title, func(t *testing.T) {
			var eng *engine
			for i := range engines {
				if engines[i].title == title {
					eng = &engines[i]
				}
			}
			s := newSite(t, upstream.Options{})
			url := newDatabase(t, eng)
			r := newRelay(t, serverOf(eng)) // which ends its connections before the database is dropped
			s.env["DECNET_DB_URL"] = strings.Replace(url, serverOf(eng), r.Addr().String(), 1)
			s.env["DECNET_DB_TYPE"] = eng.schemes[0]
			s.env["DECNET_BUS_ENABLED"] = "false"
			test(t, s, r)
		})
	}
}

func status(t *testing.T, address string) int {
	client := http.Client{Timeout: wait}
	resp, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestDatabaseHangs: a database that does not answer is noticed, said and survived.
func TestDatabaseHangs(t *testing.T) {
	onServers(t, func(t *testing.T, s *site, r *relay) {
		address := freePort(t)
		p := s.start("-create", "-poll-interval", "300ms", "-listen", address)
		eventually(t, "it is ready", func() bool { return status(t, address) == http.StatusOK })
		r.hang()
		within(t, 20*time.Second, "it is not ready", func() bool { return status(t, address) == http.StatusServiceUnavailable })
		line := p.until("the database cannot be used")
		require.Contains(t, line["error"], "does not answer")
		r.goOn()
		p.until("the database can be used again")
		eventually(t, "it is ready again", func() bool { return status(t, address) == http.StatusOK })
		p.signal(syscall.SIGTERM)
		require.Equal(t, exitOK, p.code(), p.output())
	})
}

// TestOnceDoesNotWaitForEver: under cron, processes must not pile up.
func TestOnceDoesNotWaitForEver(t *testing.T) {
	onServers(t, func(t *testing.T, s *site, r *relay) {
		p := s.start("-once", "-create")
		require.Equal(t, exitOK, p.code(), p.output())
		r.hang()
		started := time.Now()
		p = s.start("-once", "-db-timeout", "2s")
		require.Equal(t, exitFailed, p.code(), p.output())
		require.Less(t, time.Since(started), 10*time.Second)
		require.NotNil(t, p.logged("enrichd cannot go on"), p.output())
		require.Contains(t, p.logged("enrichd cannot go on")["error"], "-db-timeout")
		_ = r.Close()
		p = s.start("-once", "-db-timeout", "2s")
		require.Equal(t, exitFailed, p.code(), p.output())
		require.Less(t, time.Since(started), 20*time.Second)
	})
}

// TestClosedConnections: connections that the server has closed are no obstacle to
// a clean end.
func TestClosedConnections(t *testing.T) {
	s := newSite(t, upstream.Options{})
	var eng *engine
	for i := range engines {
		if engines[i].title == "MySQL" {
			eng = &engines[i]
		}
	}
	url := newDatabase(t, eng)
	s.env["DECNET_DB_URL"], s.env["DECNET_DB_TYPE"], s.env["DECNET_BUS_ENABLED"] = url, "mysql", "false"
	p := s.start("-create", "-poll-interval", "1h")
	p.until("enriching")
	d, err := parseDatabaseURL(url)
	require.NoError(t, err)
	db, err := eng.open(d)
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.Query("SELECT id FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()", d.name)
	require.NoError(t, err)
	var ids []int64
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Close())
	require.NotEmpty(t, ids)
	for _, id := range ids {
		_, _ = db.Exec("KILL ?", id)
	}
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
}

// TestFileReplaced: an SQLite file that is removed or replaced while it is open is
// noticed and said.
func TestFileReplaced(t *testing.T) {
	for name, replace := range map[string]func(s *site) error{
		"removed":  func(s *site) error { return os.Remove(s.file) },
		"replaced": func(s *site) error { return os.Rename(s.file, s.file+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			s.env["DECNET_BUS_ENABLED"] = "false"
			address := freePort(t)
			p := s.start("-poll-interval", "200ms", "-listen", address)
			eventually(t, "it is ready", func() bool { return status(t, address) == http.StatusOK })
			require.NoError(t, replace(s))
			if name == "replaced" {
				require.NoError(t, os.WriteFile(s.file, nil, 0o600))
			}
			line := p.until("the database cannot be used")
			require.Contains(t, line["error"], "the file was "+name)
			require.Equal(t, http.StatusServiceUnavailable, status(t, address))
			p.signal(syscall.SIGTERM)
			require.Equal(t, exitOK, p.code(), p.output())
		})
	}
}

// TestReadyDuringTheFirstPass: a first pass over many attackers takes long, and the
// daemon is ready as soon as it has claimed some.
func TestReadyDuringTheFirstPass(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.up.Delay(upstream.GreyNoise, 200*time.Millisecond)
	s.env["DECNET_BUS_ENABLED"] = "false"
	for n := range 500 {
		s.profile(uuid.New(), notorious(s.up, n))
	}
	address := freePort(t)
	p := s.start("-listen", address, "-batch", "5", "-concurrency", "1")
	within(t, 10*time.Second, "it is ready", func() bool { return status(t, address) == http.StatusOK })
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.NotEqual(t, s.column("SELECT count(*) FROM attackers"), s.column("SELECT count(*) FROM attacker_intel"))
}

// TestLockedAttacker: while another client keeps one attacker locked, the others are
// enriched, the log names the locked one, and the program stays ready.
func TestLockedAttacker(t *testing.T) {
	onServers(t, func(t *testing.T, s *site, _ *relay) {
		require.Equal(t, exitOK, s.start("-once", "-create").code())
		u, err := parseDatabaseURL(s.env["DECNET_DB_URL"])
		require.NoError(t, err)
		db, err := engineFor(s.env["DECNET_DB_TYPE"]).open(u)
		require.NoError(t, err)
		defer db.Close()
		const n = 1000
		locked := uuid.New()
		for i := range n {
			id := uuid.New()
			if i == n/2 {
				id = locked
			}
			_, err = db.Exec(fmt.Sprintf("INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at) VALUES ('%s', '%s', '%[3]s', '%[3]s', '%[3]s')",
				id, distinct(i), sqlalchemy(time.Now())))
			require.NoError(t, err)
		}
		theirs, err := db.Begin()
		require.NoError(t, err)
		defer theirs.Rollback()
		require.NoError(t, theirs.QueryRow("SELECT ip FROM attackers WHERE uuid = '"+locked.String()+"' FOR UPDATE").Scan(new(string)))

		address := freePort(t)
		started := time.Now()
		p := s.start("-poll-interval", "300ms", "-listen", address)
		eventually(t, "it is ready", func() bool { return status(t, address) == http.StatusOK })
		stored := func() (count int) {
			require.Equal(t, http.StatusOK, status(t, address), p.output())
			require.NoError(t, db.QueryRow("SELECT count(*) FROM attacker_intel").Scan(&count))
			return count
		}
		eventually(t, "the others are stored", func() bool { return stored() == n-1 })
		t.Logf("the others were stored within %v of the start", time.Since(started).Round(time.Millisecond))
		line := p.until("another client of the database keeps an attacker locked; the record waits and the others are saved")
		require.Equal(t, locked.String(), line["attacker"])
		require.Equal(t, "WARN", line["level"])
		require.Equal(t, n-1, stored())
		p.signal(syscall.SIGTERM)
		require.Equal(t, exitOK, p.code(), p.output())
	})
}
