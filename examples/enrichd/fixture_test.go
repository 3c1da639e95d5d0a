package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// wait is how long a test waits for what has to happen before it gives up.
const wait = 30 * time.Second

// asProgram in the environment makes the test binary run the program.
const asProgram = "ENRICHD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	defaultInstallDir, defaultINI = "/nowhere/decnet", "/nowhere/decnet.ini" // whatever is on this machine
	if finished := os.Getenv("ENRICHD_TEST_BARE"); finished != "" {
		if err := bare(finished, os.Getenv("DECNET_DB_URL")); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// decnetSchema is how DECNET creates the tables, with some of the columns that
// are not our business.
const decnetSchema = `
CREATE TABLE attackers (
	uuid VARCHAR NOT NULL, ip VARCHAR NOT NULL, first_seen DATETIME NOT NULL, last_seen DATETIME NOT NULL,
	event_count INTEGER NOT NULL, services TEXT NOT NULL, country_code VARCHAR(2), updated_at DATETIME NOT NULL,
	PRIMARY KEY (uuid)
);
CREATE INDEX ix_attackers_updated_at ON attackers (updated_at);
CREATE TABLE attacker_intel (
	uuid VARCHAR NOT NULL, attacker_uuid VARCHAR NOT NULL, attacker_ip VARCHAR NOT NULL, schema_version INTEGER NOT NULL,
	greynoise_classification VARCHAR(32), greynoise_name VARCHAR(128), greynoise_tags JSON NOT NULL,
	greynoise_raw JSON NOT NULL, greynoise_queried_at DATETIME,
	abuseipdb_score INTEGER, abuseipdb_categories JSON NOT NULL, abuseipdb_raw JSON NOT NULL, abuseipdb_queried_at DATETIME,
	feodo_listed BOOLEAN, feodo_malware_family VARCHAR(64), feodo_raw JSON NOT NULL, feodo_queried_at DATETIME,
	threatfox_listed BOOLEAN, threatfox_threat_types JSON NOT NULL, threatfox_ioc_types JSON NOT NULL,
	threatfox_malware_families JSON NOT NULL, threatfox_raw JSON NOT NULL, threatfox_queried_at DATETIME,
	aggregate_verdict VARCHAR(32), cached_at DATETIME NOT NULL, expires_at DATETIME NOT NULL,
	PRIMARY KEY (uuid), FOREIGN KEY(attacker_uuid) REFERENCES attackers (uuid)
);
CREATE UNIQUE INDEX ix_attacker_intel_attacker_uuid ON attacker_intel (attacker_uuid);
CREATE INDEX ix_attacker_intel_attacker_ip ON attacker_intel (attacker_ip);
CREATE INDEX ix_attacker_intel_expires_at ON attacker_intel (expires_at);
`

// site is a place where enrichd runs: imitations of the services, a directory
// with a bus and a database that DECNET made.
type site struct {
	testing.TB
	up     *upstream.Server
	env    map[string]string
	socket string
	file   string
	db     *sql.DB
}

// newSite returns a site whose bus does not run yet.
func newSite(tb testing.TB, o upstream.Options) *site {
	tb.Helper()
	dir, err := os.MkdirTemp("", "enrichd") // short, for the socket
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	s := &site{TB: tb, socket: filepath.Join(dir, "bus.sock"), file: filepath.Join(dir, "decnet.db")}
	s.up, err = upstream.Start(o)
	require.NoError(tb, err)
	tb.Cleanup(s.up.Close)
	s.db, err = sql.Open("sqlite", sqlstore.SQLiteDSN(s.file))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.db.Close()) })
	s.exec(decnetSchema)
	s.env = map[string]string{"DECNET_DB_URL": "sqlite://" + s.file, "DECNET_BUS_SOCKET": s.socket}
	s.useServices()
	return s
}

// useServices has the imitations asked, with a key for each and without quotas.
func (s *site) useServices() {
	for _, name := range known() {
		prefix := "DECNET_" + strings.ToUpper(name)
		s.env[prefix+"_URL"], s.env[prefix+"_API_KEY"], s.env[prefix+"_QUOTA"] = s.up.URL(), secret+name, "none"
	}
}

// secret is in everything that nobody may be told.
const secret = "s3cr3t-of-"

func (s *site) exec(text string, args ...any) {
	s.Helper()
	_, err := s.db.Exec(text, args...)
	require.NoError(s, err)
}

// column returns the result of a query for one column.
func (s *site) column(query string, args ...any) (list []string) {
	s.Helper()
	rows, err := s.db.Query(query, args...)
	require.NoError(s, err)
	defer rows.Close()
	for rows.Next() {
		var text string
		require.NoError(s, rows.Scan(&text))
		list = append(list, text)
	}
	require.NoError(s, rows.Err())
	return list
}

func sqlalchemy(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// profile writes an attacker as DECNET's profiler does.
func (s *site) profile(id uuid.UUID, ip string) {
	s.Helper()
	require.NoError(s, s.tryProfile(id, ip))
}

func (s *site) tryProfile(id uuid.UUID, ip string) error {
	now := sqlalchemy(time.Now())
	_, err := s.db.Exec(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at) VALUES (?, ?, ?, ?, 7, '["ssh"]', ?)
		ON CONFLICT (uuid) DO UPDATE SET ip = excluded.ip, last_seen = excluded.last_seen, updated_at = excluded.updated_at`,
		id.String(), ip, now, now, now)
	return err
}

// calls returns how often the services were called.
func (s *site) calls() (n int) {
	for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.Feodo, upstream.ThreatFox} {
		n += s.up.Calls(source)
	}
	return n
}

// startBus starts the bus; stop ends it.
func (s *site) startBus() (stop func()) {
	s.Helper()
	server := unixbus.NewServer(unixbus.ServerOptions{Path: s.socket, Log: slog.New(slog.DiscardHandler)})
	require.NoError(s, server.Listen())
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background()) }()
	return sync.OnceFunc(func() {
		require.NoError(s, server.Close())
		require.NoError(s, <-served)
	})
}

// connect returns a client of the bus.
func (s *site) connect() *unixbus.Bus {
	s.Helper()
	b, err := unixbus.New(unixbus.Options{Path: s.socket, Name: "test"})
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, b.Close()) })
	return b
}

// process is a run of the program.
type process struct {
	tb  testing.TB
	cmd *exec.Cmd

	mu     sync.Mutex
	text   bytes.Buffer // everything it printed
	lines  []map[string]any
	more   chan struct{}
	exited chan struct{}
}

// start starts the program, with a log in JSON.
func (s *site) start(args ...string) *process {
	s.Helper()
	return s.startFile(os.Args[0], args...)
}

// startFile is start for a program that was built already.
func (s *site) startFile(file string, args ...string) *process {
	s.Helper()
	p := &process{tb: s.TB, more: make(chan struct{}, 1), exited: make(chan struct{})}
	p.cmd = exec.Command(file, append([]string{"-log-format", "json", "-listen", ""}, args...)...)
	p.cmd.Dir = filepath.Dir(s.file)
	p.cmd.Env = []string{asProgram + "=1", "HOME=" + filepath.Dir(s.file)}
	for name, value := range s.env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	out, err := p.cmd.StderrPipe()
	require.NoError(s, err)
	p.cmd.Stdout = p.cmd.Stderr
	require.NoError(s, p.cmd.Start())
	go p.read(bufio.NewScanner(out))
	s.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		require.NotContains(s, p.output(), secret)
	})
	return p
}

func (p *process) read(out *bufio.Scanner) {
	defer close(p.exited)
	for out.Scan() {
		var line map[string]any
		_ = json.Unmarshal(out.Bytes(), &line) // what is not JSON is only kept as text
		p.mu.Lock()
		p.text.WriteString(out.Text() + "\n")
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
	}
	_ = p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// logged returns the last line of the log with a message.
func (p *process) logged(message string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.lines) - 1; i >= 0; i-- {
		if p.lines[i]["msg"] == message {
			return p.lines[i]
		}
	}
	return nil
}

// all returns the lines of the log with a message.
func (p *process) all(message string) (lines []map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if line["msg"] == message {
			lines = append(lines, line)
		}
	}
	return lines
}

// until waits for a message in the log and returns its line.
func (p *process) until(message string) map[string]any {
	p.tb.Helper()
	for timeout := time.After(wait); ; {
		if line := p.logged(message); line != nil {
			return line
		}
		select {
		case <-p.more:
		case <-p.exited:
			line := p.logged(message)
			require.NotNil(p.tb, line, "it has ended without logging %q:\n%s", message, p.output())
			return line
		case <-timeout:
			require.FailNow(p.tb, "never logged", "%q:\n%s", message, p.output())
		}
	}
}

// signal sends a signal.
func (p *process) signal(s os.Signal) {
	p.tb.Helper()
	require.NoError(p.tb, p.cmd.Process.Signal(s))
}

// code waits for the end of the program and returns its exit code.
func (p *process) code() int {
	p.tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(wait):
		require.FailNow(p.tb, "it does not end", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// ear listens to a topic.
type ear struct {
	tb  testing.TB
	sub bus.Subscription
}

func listenTo(tb testing.TB, b bus.Bus, topic string) *ear {
	tb.Helper()
	sub, err := b.Subscribe(tb.Context(), topic)
	require.NoError(tb, err)
	return &ear{tb, sub}
}

// next returns the payload of the next event.
func (e *ear) next() (payload map[string]any) {
	e.tb.Helper()
	select {
	case ev, open := <-e.sub.Events():
		require.True(e.tb, open, e.sub.Err())
		require.NoError(e.tb, json.Unmarshal(ev.Payload, &payload))
		return payload
	case <-time.After(wait):
		require.FailNow(e.tb, "no event")
		return nil
	}
}

// enriched returns the first event in which every provider has answered about
// an attacker.
func (e *ear) enriched(id uuid.UUID) map[string]any {
	e.tb.Helper()
	for {
		payload := e.next()
		if pending := payload["pending"].([]any); payload["attacker_uuid"] == id.String() && len(pending) == 0 {
			return payload
		}
	}
}

// observed announces an attacker as DECNET does.
func observed(tb testing.TB, b bus.Bus, ip string) {
	tb.Helper()
	payload := json.RawMessage(fmt.Sprintf(`{"attacker_ip":%q}`, ip))
	require.NoError(tb, b.Publish(tb.Context(), bus.Event{Topic: intel.TopicObserved, Payload: payload}))
}

// eventually waits until something is so.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	within(tb, wait, what, is)
}

// within is eventually with a limit of its own.
func within(tb testing.TB, limit time.Duration, what string, is func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(limit); !is(); {
		select {
		case <-tick.C:
		case <-timeout:
			require.FailNow(tb, "never happened", what)
		}
	}
}

// notorious is an address all services know something bad about.
func notorious(up *upstream.Server, n int) string {
	addr := netip.AddrFrom4([4]byte{45, 9, byte(n >> 8), byte(n)})
	up.SetProfile(addr, upstream.C2)
	return addr.String()
}
