package intake_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel/intake"
	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const wait = 20 * time.Second

// addr returns the n-th public address.
func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{45, byte(n >> 16), byte(n >> 8), byte(n)})
}

func line(n int) string {
	return fmt.Sprintf("2026-11-28T08:09:10Z bait sshd[%d]: Invalid user x from %s port 4711\n", n, addr(n))
}

// fixture is an intake into a store in memory.
type fixture struct {
	*testing.T
	store *memstore.Store
	log   *logtest.Log
	woken atomic.Int64
	dir   string
}

func setUp(t *testing.T) *fixture {
	return &fixture{T: t, store: memstore.New(), log: new(logtest.Log), dir: t.TempDir()}
}

func (f *fixture) intake(own ...string) *intake.Intake {
	o := intake.Options{Store: f.store, Wake: func() { f.woken.Add(1) }, Poll: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(f.log, nil))}
	for _, text := range own {
		o.Allow = provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix(text)}}.Allows
	}
	in, err := intake.New(o)
	require.NoError(f, err)
	return in
}

// follow follows a file until the function that it returns is called.
func (f *fixture) follow(path string) (stop func()) {
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan error, 1)
	go func() { done <- f.intake().Follow(ctx, path) }()
	return func() {
		cancel()
		require.NoError(f, <-done)
	}
}

func (f *fixture) has(n int) bool {
	_, err := f.store.Get(f.Context(), store.AttackerID(addr(n)))
	return err == nil
}

// until waits for the attackers with the numbers from from to to.
func (f *fixture) until(from, to int) {
	f.Helper()
	require.Eventually(f, func() bool {
		for n := from; n <= to; n++ {
			if !f.has(n) {
				return false
			}
		}
		return true
	}, wait, 5*time.Millisecond, "attackers %d to %d: %s", from, to, f.log)
}

func (f *fixture) append(path string, from, to int) {
	f.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(f, err)
	for n := from; n <= to; n++ {
		_, err = file.WriteString(line(n))
		require.NoError(f, err)
	}
	require.NoError(f, file.Close())
}

func (f *fixture) rename(from, to string) {
	f.Helper()
	require.NoError(f, os.Rename(from, to))
}

func (f *fixture) zip(path string) {
	f.Helper()
	text, err := os.ReadFile(path)
	require.NoError(f, err)
	info, err := os.Stat(path)
	require.NoError(f, err)
	out, err := os.Create(path + ".gz")
	require.NoError(f, err)
	w := gzip.NewWriter(out)
	_, err = w.Write(text)
	require.NoError(f, err)
	require.NoError(f, w.Close())
	require.NoError(f, out.Close())
	require.NoError(f, os.Chtimes(path+".gz", info.ModTime(), info.ModTime()))
	require.NoError(f, os.Remove(path))
}

// A file is read from its beginning, and on when it grows, with its times.
func TestFollow(t *testing.T) {
	f := setUp(t)
	path := filepath.Join(f.dir, "auth.log")
	stop := f.follow(path) // it is not there yet
	f.append(path, 1, 3)
	f.until(1, 3)
	f.append(path, 4, 2000)
	f.until(4, 2000)
	require.Positive(t, f.woken.Load())
	r, err := f.store.Get(t.Context(), store.AttackerID(addr(2)))
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 11, 28, 8, 9, 10, 0, time.UTC), r.LastSeen.UTC())
	stop()
}

// A restart goes on where the file was read up to.
func TestFollowRestarts(t *testing.T) {
	f := setUp(t)
	path := filepath.Join(f.dir, "auth.log")
	f.append(path, 1, 3)
	stop := f.follow(path)
	f.until(1, 3)
	stop()
	require.NoError(t, f.store.Forget(t.Context(), store.AttackerID(addr(1))))
	f.append(path, 4, 5)
	stop = f.follow(path)
	f.until(4, 5)
	require.False(t, f.has(1), "what was read before is not read again")
	stop()
}

// Rotation by renaming loses nothing: while the file is followed, while it is not,
// several times between two looks, with compression, and for lines that are
// written to the renamed file.
func TestFollowRotated(t *testing.T) {
	for name, rotate := range map[string]func(f *fixture, path string, n int){
		"renamed": func(f *fixture, path string, n int) { f.rename(path, fmt.Sprintf("%s.%d", path, n)) },
		"dated":   func(f *fixture, path string, n int) { f.rename(path, fmt.Sprintf("%s-202611%02d", path, n)) },
		"dated before the extension": func(f *fixture, path string, n int) {
			f.rename(path, strings.TrimSuffix(path, ".json")+fmt.Sprintf("-202611%02d.json", n))
		},
		"compressed": func(f *fixture, path string, n int) {
			to := fmt.Sprintf("%s.%d", path, n)
			f.rename(path, to)
			f.zip(to)
		},
		"shifted": func(f *fixture, path string, n int) {
			for k := n - 1; k >= 1; k-- {
				f.rename(fmt.Sprintf("%s.%d", path, k), fmt.Sprintf("%s.%d", path, k+1))
			}
			f.rename(path, path+".1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			path := filepath.Join(f.dir, "cowrie.json")
			stop := f.follow(path)
			f.append(path, 1, 3)
			f.until(1, 3)
			next := 4
			for n := range 8 {
				f.append(path, next, next+4)
				if n == 3 {
					stop() // several rotations while nothing follows
				}
				rotate(f, path, n+1)
				if next += 5; n == 6 {
					stop = f.follow(path)
				}
			}
			f.append(path, next, next)
			f.until(1, next)
			stop()
		})
	}
}

func TestFollowRenamedFileThatIsStillWritten(t *testing.T) {
	f := setUp(t)
	path := filepath.Join(f.dir, "auth.log")
	f.append(path, 1, 1)
	stop := f.follow(path)
	f.until(1, 1)
	f.rename(path, path+".1")
	f.append(path+".1", 2, 2)
	f.append(path, 3, 3)
	f.until(2, 3)
	f.append(path+".1", 4, 4)
	f.until(4, 4)
	// Its last line counts once it has settled, even without an end.
	file, err := os.OpenFile(path+".1", os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.WriteString(strings.TrimSuffix(line(5), "\n"))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	f.until(5, 5)
	stop()
}

// After a truncation in place the copy is read on, and the loss is reported.
func TestFollowCopyTruncate(t *testing.T) {
	for _, down := range []bool{false, true} {
		f := setUp(t)
		path := filepath.Join(f.dir, "auth.log")
		f.append(path, 1, 3)
		stop := f.follow(path)
		f.until(1, 3)
		if down {
			stop()
			f.append(path, 4, 5)
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+".1", text, 0o600))
		require.NoError(t, os.Truncate(path, 0))
		if down {
			stop = f.follow(path)
			f.until(4, 5)
		}
		require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "truncated in place") }, wait, time.Millisecond)
		f.append(path, 6, 7)
		f.until(6, 7)
		stop()
	}
}

// Files that were there before, and are not the followed one, are not read.
func TestFollowLeavesOthersAlone(t *testing.T) {
	f := setUp(t)
	path := filepath.Join(f.dir, "auth.log")
	f.append(path+".1", 1, 2)
	f.append(filepath.Join(f.dir, "other.log"), 3, 3)
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path+".1", old, old))
	f.append(path, 4, 4)
	stop := f.follow(path)
	f.append(filepath.Join(f.dir, "authority.log"), 5, 5)
	f.until(4, 4)
	f.append(path, 6, 6)
	f.until(6, 6)
	stop()
	for _, n := range []int{1, 2, 3, 5} {
		require.False(t, f.has(n), n)
	}
}

func TestFollowRefuses(t *testing.T) {
	f := setUp(t)
	require.ErrorContains(t, f.intake().Follow(t.Context(), f.dir), "no regular file")
	path := filepath.Join(f.dir, "x.pcap")
	require.NoError(t, os.WriteFile(path, []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00"), 0o600))
	stop := f.follow(path)
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "the input is pcap, not text") }, wait, time.Millisecond)
	stop()

	_, err := intake.New(intake.Options{})
	require.ErrorContains(t, err, "Options.Store is missing")
	in, err := intake.New(intake.Options{Store: withoutPositions{store: f.store}})
	require.ErrorContains(t, err, "no store.Registrar")
	require.Nil(t, in)
}

// withoutPositions is a store and nothing else.
type withoutPositions struct {
	store.Store
	store *memstore.Store
}

// failing is a store that fails as long as it is told to.
type failing struct {
	*memstore.Store
	down atomic.Bool
}

func (f *failing) Observe(ctx context.Context, attackers ...store.Attacker) error {
	if f.down.Load() {
		return errors.New("no disk")
	}
	return f.Store.Observe(ctx, attackers...)
}

func (f *failing) ObserveAt(ctx context.Context, name string, doc []byte, attackers ...store.Attacker) error {
	if f.down.Load() {
		return errors.New("no disk")
	}
	return f.Store.ObserveAt(ctx, name, doc, attackers...)
}

// Nothing is lost while the store fails.
func TestStoreThatFails(t *testing.T) {
	f := setUp(t)
	s := &failing{Store: f.store}
	s.down.Store(true)
	in, err := intake.New(intake.Options{Store: s, Poll: time.Millisecond, Logger: slog.New(slog.NewTextHandler(f.log, nil))})
	require.NoError(t, err)
	path := filepath.Join(f.dir, "auth.log")
	f.append(path, 1, 1500)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Follow(ctx, path) }()
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "no disk") }, wait, time.Millisecond)
	w := post(in, `{"address":"9.9.9.9"}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotContains(t, w.Body.String(), "disk")
	s.down.Store(false)
	f.until(1, 1500)
	cancel()
	require.NoError(t, <-done)
}

func post(in *intake.Intake, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	in.Observations().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/observations", strings.NewReader(body)))
	return w
}

func TestObservations(t *testing.T) {
	f := setUp(t)
	in := f.intake("45.0.7.0/24")
	one := addr(1).String()
	for body, want := range map[string][3]int{
		`{"address":"` + one + `"}`: {1, 0, 0},
		`{"address":"` + one + `","time":"2026-11-28T08:09:10Z","source":"bait","more":[1]}`: {1, 0, 0},
		`{"address":"` + one + `","time":1795853350.5}`:                                      {1, 0, 0},
		`{"address":"` + one + `","time":null}`:                                              {1, 0, 0},
		"{\n \"address\": \"" + one + "\"\n}":                                                {1, 0, 0},
		`{"address":"45.0.1.1"}` + "\n\n" + `{"address":"10.0.0.1"}` + "\r\n" + `{"address":"45.0.7.9"}` + "\nnonsense\n{\"address\":\"nobody\"}": {1, 2, 2},
		`[{"address":"45.0.1.1"},{"address":"::ffff:45.0.1.2"},{}]`:                                                                               {2, 0, 1},
		`{"address":"` + one + `","time":"yesterday"}`:                                                                                            {0, 0, 1},
		`{"address":"1.2.3.4:80"}`: {0, 0, 1},
		`{"address":17}`:           {0, 0, 1},
		"":                         {0, 0, 0},
	} {
		w := post(in, body)
		require.Equal(t, http.StatusAccepted, w.Code, body)
		require.JSONEq(t, fmt.Sprintf(`{"accepted":%d,"guarded":%d,"malformed":%d}`, want[0], want[1], want[2]), w.Body.String(), body)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	}
	r, err := f.store.Get(t.Context(), store.AttackerID(addr(1)))
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 11, 28, 8, 9, 10, 0, time.UTC), r.FirstSeen.UTC().Truncate(time.Second))
	_, err = f.store.Get(t.Context(), store.AttackerID(netip.MustParseAddr("45.0.7.9")))
	require.ErrorIs(t, err, store.ErrNotFound)

	// A time in the future is one of a wrong clock.
	require.Equal(t, http.StatusAccepted, post(in, `{"address":"45.0.2.1","time":"2199-01-01T00:00:00Z"}`).Code)
	r, err = f.store.Get(t.Context(), store.AttackerID(netip.MustParseAddr("45.0.2.1")))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), r.LastSeen, time.Minute)

	require.Equal(t, http.StatusRequestEntityTooLarge, post(in, strings.Repeat(" ", intake.MaxObservationBytes+1)).Code)
	w := httptest.NewRecorder()
	in.Observations().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

// What clients send that have been set up in other ways, or whose request was cut
// off: nothing of it is stored unless the answer says so.
func TestObservationsInOddForms(t *testing.T) {
	f := setUp(t)
	in := f.intake()
	zipped := func(text string) string {
		var b bytes.Buffer
		zip := gzip.NewWriter(&b)
		_, _ = zip.Write([]byte(text))
		_ = zip.Close()
		return b.String()
	}
	object := func(n int) string { return fmt.Sprintf(`{"address":"%s"}`, addr(n)) }
	three := object(1) + "\n" + object(2) + "\n" + object(3)
	for name, c := range map[string]struct {
		encoding, body string
		code           int
		want           [3]int
	}{
		"gzip":                         {"gzip", zipped(three), 202, [3]int{3, 0, 0}},
		"gzip that no header mentions": {"", zipped(three), 202, [3]int{3, 0, 0}},
		"gzip in a header only":        {"GZIP", three, 202, [3]int{3, 0, 0}},
		"gzip that is cut off":         {"gzip", zipped(three)[:30], 400, [3]int{}},
		"gzip that is damaged":         {"gzip", "\x1f\x8bnothing", 400, [3]int{}},
		"gzip of too much":             {"gzip", zipped(strings.Repeat(" ", intake.MaxObservationBytes) + object(1)), 413, [3]int{}},
		"gzip of just not too much":    {"gzip", zipped(object(1) + strings.Repeat(" ", intake.MaxObservationBytes-len(object(1)))), 202, [3]int{1, 0, 0}},
		"another compression":          {"zstd", three, 415, [3]int{}},
		"a byte order mark":            {"", "\ufeff" + three, 202, [3]int{3, 0, 0}},
		"a mark before an array":       {"", "\ufeff[" + object(1) + "]", 202, [3]int{1, 0, 0}},
		"UTF-16":                       {"", "\xff\xfe{\x00}\x00", 415, [3]int{}},
		"lines broken in the middle":   {"", object(1) + "\n" + object(2)[:12] + "\n" + object(3), 202, [3]int{2, 0, 1}},
		"an object on one line twice":  {"", object(1) + object(2) + "\n" + object(3), 202, [3]int{1, 0, 1}},
		"an array without an end":      {"", "[" + object(1) + "," + object(2), 202, [3]int{0, 0, 1}},
		"no JSON at all":               {"", "address=1.2.3.4", 202, [3]int{0, 0, 1}},
		"zeros":                        {"", "\x00\x00\x00", 202, [3]int{0, 0, 1}},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
		r.Header.Set("Content-Encoding", c.encoding)
		w := httptest.NewRecorder()
		in.Observations().ServeHTTP(w, r)
		require.Equal(t, c.code, w.Code, name)
		if c.code == http.StatusAccepted {
			require.JSONEq(t, fmt.Sprintf(`{"accepted":%d,"guarded":%d,"malformed":%d}`, c.want[0], c.want[1], c.want[2]), w.Body.String(), name)
		}
		for n := 1; n <= 3; n++ {
			known := f.has(n)
			require.False(t, known && c.want[0] == 0, name)
			require.NoError(t, f.store.Forget(t.Context(), store.AttackerID(addr(n))))
		}
	}

	cut, writer := io.Pipe()
	_ = writer.CloseWithError(io.ErrUnexpectedEOF)
	w := httptest.NewRecorder()
	in.Observations().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(three), cut)))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.False(t, f.has(1), "the client does not know that it was taken")
}

// Who saw an attacker is counted in the log, if it is detailed, and goes nowhere else.
func TestObservationsBySource(t *testing.T) {
	f := setUp(t)
	in, err := intake.New(intake.Options{Store: f.store, Logger: slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	require.NoError(t, err)
	var body strings.Builder
	for n, source := range []string{`"bait-1"`, `"bait-2"`, `"bait-1"`, `17`, `""`, `"` + strings.Repeat("é", 50) + `"`} {
		fmt.Fprintf(&body, `{"address":"%s","source":%s}`+"\n", addr(n), source)
	}
	body.WriteString(`{"address":"10.0.0.1","source":"bait-1"}`)
	require.Equal(t, http.StatusAccepted, post(in, body.String()).Code)
	require.Contains(t, f.log.String(), `"by_source":{"bait-1":2,"bait-2":1,"unnamed":2,"`+strings.Repeat("é", 32)+`…":1}`)

	body.Reset()
	for n := range 100 {
		fmt.Fprintf(&body, `{"address":"%s","source":"s%d"}`+"\n", addr(n), n)
	}
	require.Equal(t, http.StatusAccepted, post(in, body.String()).Code)
	require.Contains(t, f.log.String(), `"others":80`)
}

// More requests at once than there are places are refused.
func TestObservationsOverload(t *testing.T) {
	f := setUp(t)
	in := f.intake()
	var bodies []*io.PipeWriter
	var answers sync.WaitGroup
	codes := make(chan int, 100)
	for range 16 {
		from, to := io.Pipe()
		bodies = append(bodies, to)
		answers.Go(func() {
			w := httptest.NewRecorder()
			in.Observations().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", from))
			codes <- w.Code
		})
		_, err := to.Write([]byte(" ")) // it is being read
		require.NoError(t, err)
	}
	w := post(in, `{"address":"9.9.9.9"}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	for n, to := range bodies {
		_, err := fmt.Fprintf(to, `{"address":"%s"}`, addr(n))
		require.NoError(t, err)
		require.NoError(t, to.Close())
	}
	answers.Wait()
	for range 16 {
		require.Equal(t, http.StatusAccepted, <-codes)
	}
	f.until(0, 15)
}

// Requests at the same time are stored together, and each gets its own answer: all
// of them fail with the store, and none is lost.
func TestObservationsTogether(t *testing.T) {
	f := setUp(t)
	s := &failing{Store: f.store}
	in, err := intake.New(intake.Options{Store: s, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	const clients, each, size = 8, 40, 300
	var sending sync.WaitGroup
	var accepted, failed atomic.Int64
	for c := range clients {
		sending.Go(func() {
			for k := range each {
				var body strings.Builder
				from := (c*each + k) * size
				for n := from; n < from+size; n++ {
					fmt.Fprintf(&body, `{"address":"%s"}`+"\n", addr(n))
				}
				if c == 0 && k%10 == 0 {
					s.down.Store(k%20 == 0)
				}
				w := post(in, body.String())
				switch w.Code {
				case http.StatusAccepted:
					accepted.Add(1)
					for n := from; n < from+size; n += 50 {
						if !f.has(n) {
							t.Errorf("attacker %d was accepted and is not there", n)
						}
					}
				case http.StatusServiceUnavailable:
					failed.Add(1)
				default:
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	sending.Wait()
	require.EqualValues(t, clients*each, accepted.Load()+failed.Load())
	s.down.Store(false)
	require.Equal(t, http.StatusAccepted, post(in, `{"address":"9.9.9.9"}`).Code)
}

// Lines from connections are stored soon, and at the end.
func TestListen(t *testing.T) {
	f := setUp(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.intake().Listen(ctx, l) }()
	open, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer open.Close()
	_, err = fmt.Fprintf(open, `{"eventid":"cowrie.session.connect","src_ip":"%s","dst_ip":"9.9.9.9"}`+"\n"+`{"eventid"`, addr(1))
	require.NoError(t, err)
	f.until(1, 1)
	_, err = fmt.Fprintf(open, `:"x","src_ip":"%s"}`, addr(2))
	require.NoError(t, err)
	f.until(2, 2)

	brief, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	for n := 3; n < 5000; n++ {
		_, err = brief.Write([]byte(line(n)))
		require.NoError(t, err)
	}
	_, err = brief.Write([]byte(strings.TrimSuffix(line(5000), "\n")))
	require.NoError(t, err)
	require.NoError(t, brief.Close())
	f.until(3, 5000)

	cancel()
	require.NoError(t, <-done)
}

// An event about an address that no attacker has adds one.
func TestAdopt(t *testing.T) {
	f := setUp(t)
	b := membus.New(membus.Options{})
	defer b.Close()
	known := store.Attacker{ID: uuid.New(), IP: addr(1).String()}
	require.NoError(t, f.store.Observe(t.Context(), known))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	in := f.intake("45.0.7.0/24")
	go func() { done <- in.Adopt(ctx, b, "attacker.observed", "attacker.scored") }()
	send := func(topic, ip string) {
		payload, err := json.Marshal(map[string]string{"attacker_ip": ip})
		require.NoError(t, err)
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: topic, Payload: payload}))
	}
	require.Eventually(t, func() bool {
		send("attacker.observed", addr(2).String())
		return f.has(2)
	}, wait, 5*time.Millisecond)
	for _, ip := range []string{addr(1).String(), "10.0.0.1", "45.0.7.1", "nobody", ""} {
		send("attacker.observed", ip)
	}
	send("attacker.scored", addr(3).String())
	f.until(3, 3)
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "nobody") }, wait, time.Millisecond)
	require.False(t, f.has(1), "an attacker of another UUID has that address")
	page, err := f.store.List(t.Context(), store.ListRequest{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Records, 3)
	cancel()
	require.NoError(t, <-done)
}

func FuzzObservations(f *testing.F) {
	f.Add(`{"address":"9.9.9.9","time":"2026-11-28T08:09:10Z"}` + "\n{}")
	f.Add(`[{"address":"::1","time":1e300},null,17]`)
	f.Fuzz(func(t *testing.T, body string) {
		s := memstore.New()
		in, err := intake.New(intake.Options{Store: s, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		w := post(in, body)
		if strings.HasPrefix(body, "\x1f\x8b") || strings.HasPrefix(body, "\xff\xfe") || strings.HasPrefix(body, "\xfe\xff") {
			return
		}
		require.Equal(t, http.StatusAccepted, w.Code)
		var got struct{ Accepted, Guarded, Malformed int }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		page, err := s.List(t.Context(), store.ListRequest{Limit: 10_000})
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Records), got.Accepted)
		require.Equal(t, got.Accepted > 0, len(page.Records) > 0)
	})
}
