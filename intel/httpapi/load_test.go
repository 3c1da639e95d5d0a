package httpapi_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/store"
)

// TestEventsLoad sends 100 events a second to many clients, ten of which do not read.
// It reports the time from an event to the others, and how much memory the server
// uses. ENRICH_TEST_CLIENTS is the number of clients, by default 50, and
// ENRICH_TEST_EVENTS that of events, by default 100.
func TestEventsLoad(t *testing.T) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	clients, events := number("ENRICH_TEST_CLIENTS", 50), number("ENRICH_TEST_EVENTS", 100)
	const stuck = 10
	feed := httpapi.NewFeed()
	server := httptest.NewUnstartedServer(nil)
	server.Config = httpapi.NewServer(httpapi.New(filled(t), httpapi.Options{Feed: feed}), slog.New(slog.DiscardHandler))
	server.Config.ConnState = nil
	server.Start()
	defer server.Close()
	defer feed.Close()

	dial := func() net.Conn {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		_, err = c.Write([]byte("GET " + eventsPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		require.NoError(t, err)
		return c
	}
	started := time.Now()
	var (
		mu      sync.Mutex
		delays  []time.Duration
		readers sync.WaitGroup
		ready   sync.WaitGroup
	)
	for range stuck {
		c := dial() // and never read
		defer c.Close()
	}
	for range clients {
		c := dial()
		ready.Add(1)
		readers.Go(func() {
			defer c.Close()
			in := bufio.NewReaderSize(c, 16<<10)
			var own []time.Duration
			connected := false
			for len(own) < events {
				line, err := in.ReadSlice('\n')
				if err != nil {
					t.Errorf("a client that reads was dropped after %d events: %v", len(own), err)
					break
				}
				if !connected && line[0] == ':' {
					connected = true
					ready.Done()
				}
				if at, ok := strings.CutPrefix(string(line), `data: {"event_id":"`); ok {
					_, at, _ = strings.Cut(at, `"attacker_ip":"`)
					at, _, _ = strings.Cut(at, `"`)
					sent, err := strconv.ParseInt(at, 10, 64)
					if err == nil {
						own = append(own, time.Since(started)-time.Duration(sent))
					}
				}
			}
			mu.Lock()
			delays = append(delays, own...)
			mu.Unlock()
		})
	}
	ready.Wait()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := range events {
		<-tick.C
		rec := store.Record{Attacker: store.Attacker{ID: uuid.NewSHA1(known, fmt.Append(nil, n)), IP: strconv.FormatInt(int64(time.Since(started)), 10)}, Revision: 1, CachedAt: at}
		feed.Saved(intel.SavedInfo{Record: rec, Answered: []string{"abuseipdb"}})
	}
	readers.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Len(t, delays, clients*events)
	slices.Sort(delays)
	t.Logf("%d clients, %d events at 100/s, %d clients that do not read: p50 %v, p99 %v, max %v; the heap grew by %.1f MiB", clients, events, stuck,
		delays[len(delays)/2].Round(time.Millisecond), delays[len(delays)*99/100].Round(time.Millisecond), delays[len(delays)-1].Round(time.Millisecond),
		(float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20))
}
