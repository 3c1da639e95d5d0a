package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

const eventsPath = "/api/v1/intel/events"

// saved is an update about an attacker with a number.
func saved(n int) intel.SavedInfo {
	rec := store.Record{Attacker: store.Attacker{ID: uuid.NewSHA1(known, fmt.Append(nil, n)), IP: "45.9.9.9\nid: x"}, Revision: uint64(n), CachedAt: at}
	rec.Decision.Verdict = provider.Malicious
	return intel.SavedInfo{Record: rec, Answered: []string{"abuseipdb"}, Changed: n%2 == 0}
}

// stream is a client of the events.
type stream struct {
	*http.Response
	in *bufio.Reader
}

// event is one that a client received.
type event struct{ id, kind, data string }

func openStream(ctx context.Context, t *testing.T, url, lastID string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+eventsPath, http.NoBody)
	require.NoError(t, err)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	t.Cleanup(func() { _ = resp.Body.Close() })
	s := &stream{resp, bufio.NewReader(resp.Body)}
	line, err := s.in.ReadString('\n')
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(line, ":"))
	return s
}

// next returns the next event, without those that only say that the server lives.
func (s *stream) next(t *testing.T) (e event) {
	t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		require.NoError(t, err)
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "":
			if e.kind != "" {
				return e
			}
		}
	}
}

func serveFeed(t *testing.T) (*httpapi.Feed, *httptest.Server) {
	t.Helper()
	feed := httpapi.NewFeed()
	server := httptest.NewUnstartedServer(nil)
	server.Config = httpapi.NewServer(httpapi.New(filled(t), httpapi.Options{Feed: feed}), slog.New(slog.DiscardHandler))
	server.Config.ReadTimeout = 100 * time.Millisecond // streams outlive it
	server.Config.RegisterOnShutdown(feed.Close)
	server.Start()
	t.Cleanup(func() {
		feed.Close()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return feed, server
}

func TestEvents(t *testing.T) {
	feed, server := serveFeed(t)
	s := openStream(t.Context(), t, server.URL, "")
	<-time.After(250 * time.Millisecond) // longer than the server's ReadTimeout, which must not end the stream
	for n := range 3 {
		feed.Saved(saved(n + 1))
		feed.Saved(saved(n + 1)) // as it comes back from the bus
	}
	feed.Saved(intel.SavedInfo{}) // nothing was learnt
	var first event
	for n := range 3 {
		e := s.next(t)
		if n == 0 {
			first = e
		}
		require.Equal(t, "intel.enriched", e.kind)
		var c map[string]any
		require.NoError(t, json.Unmarshal([]byte(e.data), &c))
		require.Equal(t, uuid.NewSHA1(known, fmt.Append(nil, n+1)).String(), c["attacker_uuid"])
		require.Equal(t, e.id, c["event_id"])
		require.Equal(t, "45.9.9.9\nid: x", c["attacker_ip"])
		require.Equal(t, "malicious", c["aggregate_verdict"])
	}
	// It resumes after the event that it had last, and is told to reload otherwise.
	again := openStream(t.Context(), t, server.URL, first.id)
	var c httpapi.Change
	require.NoError(t, json.Unmarshal([]byte(again.next(t).data), &c))
	require.Equal(t, uint64(2), c.Revision)
	lost := openStream(t.Context(), t, server.URL, "never")
	e := lost.next(t)
	require.Equal(t, "reset", e.kind)
	require.True(t, json.Valid([]byte(e.data)))
	feed.Saved(saved(4))
	require.Equal(t, "intel.enriched", lost.next(t).kind)
	require.Equal(t, "intel.enriched", openStream(t.Context(), t, server.URL, e.id).next(t).kind)

	require.Len(t, feed.Recent(10, nil), 4)
	require.Len(t, feed.Recent(1, nil), 1)
	require.Len(t, feed.Recent(10, func(c *httpapi.Change) bool { return c.Changed }), 2)
}

func TestEventsRing(t *testing.T) {
	feed, server := serveFeed(t)
	empty := openStream(t.Context(), t, server.URL, "never").next(t)
	require.Equal(t, "reset", empty.kind)
	feed.Saved(saved(1))
	require.Equal(t, "intel.enriched", openStream(t.Context(), t, server.URL, empty.id).next(t).kind)
	old := feed.Recent(1, nil)[0].EventID
	for n := range 10_000 {
		feed.Saved(saved(n + 2))
	}
	require.Len(t, feed.Recent(20_000, nil), 10_000)
	require.Equal(t, "reset", openStream(t.Context(), t, server.URL, empty.id).next(t).kind)
	require.Equal(t, "reset", openStream(t.Context(), t, server.URL, old).next(t).kind)
	s := openStream(t.Context(), t, server.URL, store.EventID(saved(2).Record.ID, 2, at))
	for n := range 9_999 {
		var c httpapi.Change
		require.NoError(t, json.Unmarshal([]byte(s.next(t).data), &c))
		require.Equal(t, uint64(n+3), c.Revision)
	}
}

// A client that does not read is dropped, and the others do not wait for it.
func TestEventsStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := httpapi.NewFeed()
		h := httpapi.New(filled(t), httpapi.Options{Feed: feed})
		ours, theirs := net.Pipe() // where a write waits for a read
		served := make(chan error, 1)
		server := httpapi.NewServer(h, slog.New(slog.DiscardHandler))
		go func() { served <- server.Serve(&oneConn{conn: theirs}) }()
		_, err := ours.Write([]byte("GET " + eventsPath + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		require.NoError(t, err)
		in := bufio.NewReader(ours)
		for line := ""; !strings.HasPrefix(line, ":"); {
			line, err = in.ReadString('\n')
			require.NoError(t, err)
		}
		start := time.Now()
		for n := range 500 {
			feed.Saved(saved(n + 1))
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		_, err = ours.Write([]byte("x"))
		require.Error(t, err, "it is still connected after %v", time.Since(start))
		feed.Close()
		require.NoError(t, server.Close())
		<-served
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn != nil {
		c := l.conn
		l.conn, l.done = nil, make(chan struct{})
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func TestEventsHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := httpapi.NewFeed()
		h := httpapi.New(filled(t), httpapi.Options{Feed: feed})
		ours, theirs := net.Pipe()
		server := httpapi.NewServer(h, slog.New(slog.DiscardHandler))
		served := make(chan error, 1)
		go func() { served <- server.Serve(&oneConn{conn: theirs}) }()
		_, err := ours.Write([]byte("GET " + eventsPath + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		require.NoError(t, err)
		in, beats := bufio.NewReader(ours), 0
		for start := time.Now(); beats < 20; {
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			if strings.HasPrefix(line, ": still") {
				beats++
				require.Equal(t, time.Duration(beats)*15*time.Second, time.Since(start))
			}
		}
		feed.Close() // as at a shutdown
		for err == nil {
			_, err = in.ReadString('\n')
		}
		_ = ours.Close()
		require.NoError(t, server.Close())
		<-served
	})
}

// Events of other workers come over the bus. After a lost subscription, clients
// reload.
func TestFollow(t *testing.T) {
	feed, server := serveFeed(t)
	b := membus.New(membus.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	failing := &flaky{Bus: b, subscribed: make(chan bus.Subscription, 4)}
	go func() {
		defer close(done)
		feed.Follow(ctx, failing, slog.New(slog.DiscardHandler))
	}()
	sub := <-failing.subscribed
	s := openStream(t.Context(), t, server.URL, "")
	payload := func(id string) json.RawMessage {
		return json.RawMessage(`{"attacker_uuid":"` + known.String() + `","attacker_ip":"45.9.9.9","aggregate_verdict":"benign","event_id":"` + id + `"}`)
	}
	require.NoError(t, b.Publish(ctx, bus.Event{Topic: intel.TopicEnriched, Payload: json.RawMessage(`{"x":1}`)}))
	require.NoError(t, b.Publish(ctx, bus.Event{Topic: intel.TopicEnriched, Payload: payload("e1"), Time: at}))
	e := s.next(t)
	require.Equal(t, "e1", e.id)
	require.Contains(t, e.data, `"aggregate_verdict":"benign"`)
	require.NoError(t, sub.Close())
	<-failing.subscribed
	require.Equal(t, "reset", s.next(t).kind)
	require.NoError(t, b.Publish(ctx, bus.Event{Topic: intel.TopicEnriched, Payload: payload("e2"), Time: at}))
	require.Equal(t, "e2", s.next(t).id)
	cancel()
	<-done
	require.NoError(t, b.Close())
}

// flaky tells of each subscription.
type flaky struct {
	bus.Bus
	subscribed chan bus.Subscription
}

func (f *flaky) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	sub, err := f.Bus.Subscribe(ctx, pattern)
	if err == nil {
		f.subscribed <- sub
	}
	return sub, err
}
