package integration

import (
	"bufio"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// This file is a second implementation of what DECNET's own code does around the
// enrich worker, written from the description of DECNET alone: a client and a server
// of its bus, a profiler that writes attackers, a reader of rows and one of the API.
// It shares no code with the packages that it tests, which run as programs.

// other is one end of a connection of DECNET's bus.
type other struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func newOther(t *testing.T, conn net.Conn) *other {
	t.Cleanup(func() { _ = conn.Close() })
	return &other{t, conn, bufio.NewReader(conn)}
}

func (o *other) say(line string, body any) {
	o.t.Helper()
	var b []byte
	if body != nil {
		var err error
		b, err = json.Marshal(body)
		require.NoError(o.t, err)
	}
	frame := binary.BigEndian.AppendUint32([]byte(line+"\n"), uint32(len(b)))
	_, err := o.conn.Write(append(frame, b...))
	require.NoError(o.t, err)
}

// envelope is what DECNET's code finds in the body of an event.
type otherEnvelope struct {
	V       int             `json:"v"`
	ID      string          `json:"id"`
	Topic   string          `json:"topic"`
	Type    any             `json:"type"`
	TS      float64         `json:"ts"`
	Payload json.RawMessage `json:"payload"`
}

// hear returns the next frame.
func (o *other) hear() (verb, arg string, e otherEnvelope) {
	o.t.Helper()
	require.NoError(o.t, o.conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	line, err := o.in.ReadString('\n')
	require.NoError(o.t, err)
	length := make([]byte, 4)
	_, err = io.ReadFull(o.in, length)
	require.NoError(o.t, err)
	body := make([]byte, binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(o.in, body)
	require.NoError(o.t, err)
	verb, arg, _ = strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	if len(body) > 0 {
		require.NoError(o.t, json.Unmarshal(body, &e))
	}
	return verb, arg, e
}

// until returns the next event on a topic.
func (o *other) until(topic string) otherEnvelope {
	o.t.Helper()
	for {
		verb, arg, e := o.hear()
		require.Equal(o.t, "EVT", verb)
		if arg == topic {
			require.Equal(o.t, 1, e.V)
			require.Regexp(o.t, "^[0-9a-f]+$", e.ID)
			require.InDelta(o.t, time.Now().Unix(), e.TS, 60)
			return e
		}
	}
}

// conversation is a DECNET installation.
type conversation struct {
	*testing.T
	dir     string // of the installation
	bin     string
	db      *sql.DB
	up      *upstream.Server
	address string
}

func newConversation(t *testing.T) *conversation {
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-o", bin+"/", "../../examples/enrichd", "../../examples/busd").CombinedOutput()
	require.NoError(t, err, string(out))
	dir, err := os.MkdirTemp("", "d")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c := &conversation{T: t, dir: dir, bin: bin}
	c.db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "decnet.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.db.Close()) })
	for _, text := range []string{
		`CREATE TABLE attackers (uuid VARCHAR NOT NULL PRIMARY KEY, ip VARCHAR NOT NULL, identity_id VARCHAR, first_seen DATETIME NOT NULL,
			last_seen DATETIME NOT NULL, event_count INTEGER NOT NULL, rotation_count INTEGER NOT NULL, ipv6_leak_count INTEGER NOT NULL,
			updated_at DATETIME NOT NULL)`,
		"CREATE INDEX ix_attackers_updated_at ON attackers (updated_at)",
		`CREATE TABLE attacker_intel (uuid VARCHAR NOT NULL PRIMARY KEY, attacker_uuid VARCHAR NOT NULL, attacker_ip VARCHAR NOT NULL,
			schema_version INTEGER NOT NULL, greynoise_classification VARCHAR(32), greynoise_name VARCHAR(128), greynoise_tags JSON NOT NULL,
			greynoise_raw JSON NOT NULL, greynoise_queried_at DATETIME, abuseipdb_score INTEGER, abuseipdb_categories JSON NOT NULL,
			abuseipdb_raw JSON NOT NULL, abuseipdb_queried_at DATETIME, feodo_listed BOOLEAN, feodo_malware_family VARCHAR(64),
			feodo_raw JSON NOT NULL, feodo_queried_at DATETIME, threatfox_listed BOOLEAN, threatfox_threat_types JSON NOT NULL,
			threatfox_ioc_types JSON NOT NULL, threatfox_malware_families JSON NOT NULL, threatfox_raw JSON NOT NULL,
			threatfox_queried_at DATETIME, aggregate_verdict VARCHAR(32), cached_at DATETIME NOT NULL, expires_at DATETIME NOT NULL,
			FOREIGN KEY (attacker_uuid) REFERENCES attackers (uuid))`,
		"CREATE UNIQUE INDEX ix_attacker_intel_attacker_uuid ON attacker_intel (attacker_uuid)",
	} {
		_, err := c.db.Exec(text)
		require.NoError(t, err)
	}
	c.up, err = upstream.Start(upstream.Options{})
	require.NoError(t, err)
	t.Cleanup(c.up.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.address = l.Addr().String()
	require.NoError(t, l.Close())
	return c
}

func (c *conversation) socket() string { return filepath.Join(c.dir, "bus.sock") }

// run starts a program with DECNET's environment.
func (c *conversation) run(program string, args ...string) *exec.Cmd {
	c.Helper()
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.Env = []string{
		"HOME=" + c.dir, "DECNET_DB_TYPE=sqlite", "DECNET_DB_NAME=decnet", "DECNET_BUS_SOCKET=" + c.socket(), "DECNET_INTEL_PROVIDERS=",
		"DECNET_GREYNOISE_API_KEY=a", "DECNET_ABUSEIPDB_API_KEY=b", "DECNET_THREATFOX_API_KEY=c",
		"DECNET_GREYNOISE_QUOTA=none", "DECNET_ABUSEIPDB_QUOTA=none",
		"DECNET_GREYNOISE_URL=" + c.up.URL(), "DECNET_ABUSEIPDB_URL=" + c.up.URL(), "DECNET_FEODO_URL=" + c.up.URL(), "DECNET_THREATFOX_URL=" + c.up.URL(),
	}
	var log logtest.Log
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(c, cmd.Start())
	c.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if c.Failed() {
			c.Logf("%s\n%.6000s", program, log.String())
		}
	})
	return cmd
}

func (c *conversation) enrichd() *exec.Cmd {
	return c.run("enrichd", "-decnet", c.dir, "-providers", "greynoise,abuseipdb,feodo,threatfox", "-i", "60", "--ttl-hours", "24", "-listen", c.address)
}

// profile writes an attacker as the profiler does.
func (c *conversation) profile(id uuid.UUID, ip string) {
	c.Helper()
	now := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	_, err := c.db.Exec(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, rotation_count, ipv6_leak_count, updated_at)
		VALUES (?, ?, ?, ?, 1, 0, 0, ?)`, id.String(), ip, now, now, now)
	require.NoError(c, err)
}

// row reads a row as SQLAlchemy's models do: JSON columns are parsed, times are text
// in one form.
func (c *conversation) row(id uuid.UUID) map[string]any {
	c.Helper()
	rows, err := c.db.Query("SELECT * FROM attacker_intel WHERE attacker_uuid = ?", id.String())
	require.NoError(c, err)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(c, err)
	require.Len(c, names, 26)
	require.True(c, rows.Next())
	values, dest := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		dest[i] = &values[i]
	}
	require.NoError(c, rows.Scan(dest...))
	row := make(map[string]any)
	for i, name := range names {
		switch v := values[i].(type) {
		case string:
			row[name] = v
			if strings.HasSuffix(name, "_raw") || slices.Contains([]string{"greynoise_tags", "abuseipdb_categories", "threatfox_threat_types",
				"threatfox_ioc_types", "threatfox_malware_families"}, name) {
				var parsed any
				require.NoError(c, json.Unmarshal([]byte(v), &parsed), name)
				row[name] = parsed
			}
		case int64:
			row[name] = float64(v)
		case time.Time:
			row[name] = v.UTC().Format("2006-01-02T15:04:05.000000")
		default:
			row[name] = v
		}
	}
	return row
}

// api reads the row as the dashboard does.
func (c *conversation) api(value string) (int, map[string]any) {
	c.Helper()
	resp, err := http.Get("http://" + c.address + "/api/v1/attackers/" + value + "/intel")
	require.NoError(c, err)
	defer resp.Body.Close()
	var body map[string]any
	require.NoError(c, json.NewDecoder(resp.Body).Decode(&body))
	return resp.StatusCode, body
}

// payloadKeys are those that DECNET's consumers of the event know.
var payloadKeys = strings.Fields(`attacker_uuid attacker_ip aggregate_verdict providers abuseipdb_score abuseipdb_categories
	greynoise_classification greynoise_name greynoise_tags feodo_listed feodo_malware_family threatfox_listed threatfox_threat_types
	threatfox_ioc_types threatfox_malware_families`)

// compare requires the event, the row and the API to say the same.
func (c *conversation) compare(id uuid.UUID, ip string, e otherEnvelope) {
	c.Helper()
	require.Equal(c, "intel.enriched", e.Type)
	var payload map[string]any
	require.NoError(c, json.Unmarshal(e.Payload, &payload))
	require.Subset(c, slices.Collect(maps.Keys(payload)), payloadKeys)
	require.Equal(c, []any{"greynoise", "abuseipdb", "feodo", "threatfox"}, payload["providers"])
	row := c.row(id)
	require.Equal(c, id.String(), row["attacker_uuid"])
	require.Equal(c, ip, row["attacker_ip"])
	require.EqualValues(c, 1, row["schema_version"])
	status, answer := c.api(id.String())
	require.Equal(c, http.StatusOK, status)
	require.Len(c, answer, 26)
	for name, want := range row {
		switch got := answer[name].(type) {
		case bool:
			require.Equal(c, want, map[bool]float64{true: 1}[got], name)
		case string:
			if strings.HasSuffix(name, "_at") {
				at, err := time.Parse(time.RFC3339, got)
				require.NoError(c, err, name)
				got = at.UTC().Format("2006-01-02T15:04:05.000000")
				want = strings.Replace(want.(string), " ", "T", 1)
			}
			require.Equal(c, want, got, name)
		default:
			require.Equal(c, want, got, name)
		}
		if slices.Contains(payloadKeys, name) && name != "attacker_uuid" {
			require.Equal(c, answer[name], payload[name], name)
		}
	}
	require.Contains(c, []any{"malicious", "suspicious", "benign", "unknown", nil}, row["aggregate_verdict"])
	require.Greater(c, row["expires_at"].(string), time.Now().UTC().Format("2006-01-02"))
}

// TestConversationOnOurBus: DECNET's workers, an admin's malformed webhook pattern
// and the dashboard, on busd, beside enrichd.
func TestConversationOnOurBus(t *testing.T) {
	c := newConversation(t)
	busd := c.run("busd", "-s", c.socket(), "-g", "nobody-has-this-group", "--heartbeat", "0.1", "-d")
	dial := func(name string) *other {
		var conn net.Conn
		require.Eventually(t, func() (ok bool) {
			var err error
			conn, err = net.Dial("unix", c.socket())
			return err == nil
		}, 30*time.Second, 20*time.Millisecond)
		o := newOther(t, conn)
		o.say("HELLO "+name, nil)
		return o
	}
	webhooks := dial("webhook")
	for _, pattern := range []string{"attacker.>.enriched", "attacker.obs*", "a..x", "a b", "system.*.health", "odd.>"} {
		webhooks.say("SUB "+pattern, nil)
	}
	require.Equal(t, "bus.health", webhooks.until("system.bus.health").Type)
	enrichd := c.enrichd()
	require.Equal(t, "health", webhooks.until("system.enrich.health").Type)

	profiler := dial("profiler")
	for n, known := range []upstream.Profile{upstream.C2, upstream.Scanner, upstream.Unseen, upstream.Suspect} {
		id, ip := uuid.New(), fmt.Sprintf("45.9.1.%d", n)
		c.up.SetProfile(netip.MustParseAddr(ip), known)
		c.profile(id, ip)
		profiler.say("PUB attacker.observed", map[string]any{"type": "observed", "payload": map[string]any{"attacker_ip": ip}})
		c.compare(id, ip, webhooks.until("attacker.intel.enriched"))
	}

	// What DECNET's server lets through.
	for _, topic := range []string{"odd..a", "odd.*", "odd.a.", "odd.a b"} {
		profiler.say("PUB "+topic, map[string]any{"payload": []int{}})
		require.JSONEq(t, `{}`, string(webhooks.until(topic).Payload))
		profiler.say("PUB "+topic, map[string]any{"payload": []int{1, 2}, "type": 7})
		e := webhooks.until(topic)
		require.JSONEq(t, `[1,2]`, string(e.Payload))
		require.EqualValues(t, 7, e.Type)
	}
	status, answer := c.api("not-a-uuid")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, map[string]any{"detail": "No intel cached for this attacker"}, answer)

	// The number that ends its sender's connection reaches nobody.
	bad := dial("bad")
	_, err := io.WriteString(bad.conn, "PUB odd.big\n\x00\x00\x00\x18"+`{"payload":{"n":1E400}} `)
	require.NoError(t, err)
	_, err = bad.in.ReadByte()
	require.Error(t, err)
	profiler.say("PUB odd.last", nil)
	for {
		verb, topic, _ := webhooks.hear()
		require.Equal(t, "EVT", verb)
		require.NotEqual(t, "odd.big", topic)
		if topic == "odd.last" {
			break
		}
	}

	profiler.say("PUB system.enrich.control", map[string]any{"type": "control", "payload": map[string]any{"action": "stop"}})
	require.NoError(t, enrichd.Wait(), "it ends with 0")
	require.NoError(t, busd.Process.Signal(syscall.SIGTERM))
	for verb := ""; verb != "BYE"; {
		verb, _, _ = webhooks.hear()
	}
	require.NoError(t, busd.Wait())
}

// TestConversationOnTheirBus: enrichd is a client of a server like DECNET's.
func TestConversationOnTheirBus(t *testing.T) {
	c := newConversation(t)
	l, err := net.Listen("unix", c.socket())
	require.NoError(t, err)
	defer l.Close()
	enrichd := c.enrichd()
	conn, err := l.Accept()
	require.NoError(t, err)
	o := newOther(t, conn)
	verb, _, _ := o.hear()
	require.Equal(t, "HELLO", verb)
	patterns := map[string]bool{} // others are for live events
	for !patterns["attacker.observed"] || !patterns["attacker.scored"] || !patterns["system.enrich.control"] {
		verb, arg, e := o.hear()
		switch verb {
		case "SUB":
			patterns[arg] = true
		case "PUB":
			require.Equal(t, "system.enrich.health", arg)
			require.Equal(t, "health", e.Type)
		default:
			require.Fail(t, "unexpected", verb)
		}
	}

	id, ip := uuid.New(), "45.9.2.1"
	c.up.SetProfile(netip.MustParseAddr(ip), upstream.C2)
	c.profile(id, ip)
	event := func(topic string, payload map[string]any) {
		o.say("EVT "+topic, map[string]any{"v": 1, "id": strings.ReplaceAll(uuid.NewString(), "-", ""), "topic": topic, "type": "",
			"ts": float64(time.Now().UnixMicro()) / 1e6, "payload": payload})
	}
	event("attacker.observed", map[string]any{"attacker_ip": ip})
	for done := false; !done; {
		verb, arg, e := o.hear()
		if verb == "PUB" && arg == "attacker.intel.enriched" {
			c.compare(id, ip, e)
			done = true
		}
	}
	event("system.enrich.control", map[string]any{"action": "stop"})
	for verb != "BYE" {
		verb, _, _ = o.hear()
	}
	require.NoError(t, enrichd.Wait())
}
