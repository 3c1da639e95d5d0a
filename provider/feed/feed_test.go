package feed_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/rest"
)

var (
	listed   = netip.MustParseAddr("45.155.205.233")
	unlisted = netip.MustParseAddr("193.32.162.7")
)

// publisher is a transport that answers with its list.
type publisher struct {
	mu       sync.Mutex
	status   int           // default 200
	header   http.Header   // of answers
	body     string        // of answers
	delay    time.Duration // before an answer
	err      error         // instead of an answer
	requests []*http.Request
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	resp := &http.Response{StatusCode: p.status, Header: p.header.Clone(), Body: io.NopCloser(strings.NewReader(p.body))}
	if p.header == nil {
		resp.Header = http.Header{}
	}
	delay, err := p.delay, p.err
	p.mu.Unlock()
	if resp.StatusCode == 0 {
		resp.StatusCode = http.StatusOK
	}
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(delay):
		return resp, err
	}
}

func (p *publisher) set(change func(*publisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *publisher) calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.requests)
}

func (p *publisher) last() *http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

func (p *publisher) publish(body string) {
	p.set(func(p *publisher) { p.body, p.status, p.err, p.delay = body, 0, nil, 0 })
}

const oneRow = "45.155.205.233\t7\n"

// list returns n rows of addresses that are not listed.
func list(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "45.%d.%d.%d\t1\n", i>>16, i>>8&255, i&255)
	}
	return b.String()
}

func firstField(_ string, fields []string) (string, bool) {
	if len(fields) == 0 {
		return "", true
	}
	return strings.Clone(fields[0]), true
}

func options(p *publisher) feed.Options[string] {
	return feed.Options[string]{
		Provider: "test", Sources: []feed.Source{{URL: "https://list.example/KEY0000/list.txt"}}, Transport: p, Row: firstField,
	}
}

func newFeed(t testing.TB, o feed.Options[string]) *feed.Feed[string] {
	t.Helper()
	f, err := feed.New(o)
	require.NoError(t, err)
	return f
}

func requireListed(t *testing.T, f *feed.Feed[string]) {
	t.Helper()
	a, err := f.Lookup(listed)
	require.NoError(t, err)
	require.True(t, a.Listed)
	require.Equal(t, "7", a.Value)
	require.Equal(t, netip.PrefixFrom(listed, 32), a.Network)
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := feed.New(feed.Options[string]{Provider: "Test", Interval: time.Minute, MaxBody: -1, Timeout: -1, Cadence: -1, Spacing: -1})
	require.ErrorIs(t, err, provider.ErrConfig)
	for _, option := range []string{"Test", "Sources", "Row", "Interval", "MaxBody", "Timeout", "Cadence", "Spacing"} {
		require.ErrorContains(t, err, option)
	}
	_, err = feed.New(feed.Options[string]{Provider: "test", Row: firstField, Sources: []feed.Source{{URL: "ftp://x", File: "y"}, {Syntax: 7}}})
	require.ErrorContains(t, err, "both a URL and a file")
	require.ErrorContains(t, err, "URL is missing")
}

// A lookup never waits, and any number of refreshes make one download.
func TestOneDownload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneRow, delay: time.Second}
		f := newFeed(t, options(p))
		require.Equal(t, provider.ListStatus{}, f.Status())
		_, err := f.Lookup(listed)
		require.ErrorIs(t, err, provider.ErrUnavailable)
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				if err := f.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
				if a, err := f.Lookup(listed); err != nil || !a.Listed {
					t.Error(a, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, p.calls())
		requireListed(t, f)
		a, err := f.Lookup(unlisted)
		require.NoError(t, err)
		require.Equal(t, feed.Answer[string]{LoadedAt: f.Status().LoadedAt}, a)
		require.Equal(t, time.Now().Add(time.Hour), f.Status().NextLoad.Add(time.Second))

		time.Sleep(time.Hour - 2*time.Second)
		require.NoError(t, f.Refresh(t.Context()))
		require.Equal(t, 1, p.calls())
		time.Sleep(2 * time.Second)
		require.NoError(t, f.Refresh(t.Context()))
		require.Equal(t, 2, p.calls())
	})
}

// Whatever the list is like, many lookups, refreshes and restarts within an
// interval make one request.
func TestOneRequestForEachInterval(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]*publisher{
		"empty": {body: "# nothing today\n"}, "failing": {status: 503}, "a web page": {body: "<html>"},
		"slow": {body: oneRow, delay: 90 * time.Second}, "refused": {status: 429},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: list.body, status: list.status, delay: list.delay}
				o := options(p)
				o.Dir, o.MayBeEmpty = t.TempDir(), true
				for range 50 { // restarts in an hour, each in the middle of whatever is going on
					ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
					f := newFeed(t, o)
					var wg sync.WaitGroup
					for range 200 {
						wg.Go(func() {
							_ = f.Refresh(ctx)
							_, _ = f.Lookup(listed)
						})
					}
					<-ctx.Done()
					wg.Wait()
					cancel()
				}
				require.Equal(t, 1, p.calls())
				time.Sleep(15 * time.Minute)
				_ = newFeed(t, o).Refresh(t.Context())
				require.Equal(t, 2, p.calls())
			})
		})
	}
}

// refused is the error of a connection that could not be made.
var refused = &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}}

// A request that was never sent is soon made again.
func TestUnsentRequestsAreSoonRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{err: refused}
		f := newFeed(t, options(p))
		require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrUnavailable)
		time.Sleep(30 * time.Second)
		require.Error(t, f.Refresh(t.Context()))
		require.Equal(t, 1, p.calls())
		p.publish(oneRow)
		time.Sleep(30 * time.Second)
		require.NoError(t, f.Refresh(t.Context()))
		requireListed(t, f)
	})
}

// A publisher that may have seen a request is left alone for as long as it wants,
// whatever became of the requests to others.
func TestSpacingAfterAnyRequestThatWasSent(t *testing.T) {
	t.Parallel()
	limited := func(p *publisher) { p.status, p.header = 429, http.Header{"Retry-After": {"2400"}} }
	for name, c := range map[string]struct {
		fail func(a, b *publisher)
		wait time.Duration
	}{
		"a connection broke":         {func(a, b *publisher) { a.err, b.err = errors.New("http2: stream closed"), refused }, 10 * time.Minute},
		"the other one answered":     {func(a, _ *publisher) { a.err = refused }, 10 * time.Minute},
		"the other one asks to wait": {func(a, b *publisher) { a.err = refused; limited(b) }, 40 * time.Minute},
		"both answered":              {func(a, b *publisher) { a.status = 503; limited(b) }, 40 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &publisher{body: oneRow}, &publisher{body: oneRow}
				c.fail(a, b)
				o := options(nil)
				o.Sources = []feed.Source{{URL: "https://a.example/"}, {URL: "https://b.example/"}}
				o.Transport, o.Spacing = route{"a.example": a, "b.example": b}, 10*time.Minute
				f := newFeed(t, o)
				for range int(c.wait / time.Minute) {
					require.Error(t, f.Refresh(t.Context()))
					require.Equal(t, 1, b.calls())
					time.Sleep(time.Minute)
				}
			})
		})
	}
	t.Run("a file cannot be read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := &publisher{body: oneRow}
			o := options(p)
			o.Sources = append(o.Sources, feed.Source{File: t.TempDir()})
			f := newFeed(t, o)
			for range 59 {
				require.ErrorContains(t, f.Refresh(t.Context()), "not a regular file")
				require.Equal(t, 1, p.calls())
				time.Sleep(time.Minute)
			}
		})
	})
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const modified = "Mon, 23 Nov 2026 12:00:00 GMT"
		p := &publisher{body: oneRow, header: http.Header{"Etag": {`W/"a"`}, "Last-Modified": {modified}}}
		o := options(p)
		o.Sources[0].Key = rest.Key{Header: "Auth-Key", Func: func() string { return "k" }}
		o.Dir = t.TempDir()
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.NotContains(t, p.last().Header, "If-None-Match")
		p.set(func(p *publisher) { p.status, p.body = http.StatusNotModified, "" })
		for range 2 {
			time.Sleep(time.Hour)
			f = newFeed(t, o) // also what an earlier process has loaded
			require.NoError(t, f.Refresh(t.Context()))
			require.Equal(t, `W/"a"`, p.last().Header.Get("If-None-Match"))
			require.Equal(t, modified, p.last().Header.Get("If-Modified-Since"))
			require.Equal(t, "k", p.last().Header.Get("Auth-Key"))
			requireListed(t, f)
			require.Equal(t, time.Now().UTC(), f.Status().LoadedAt)
		}
		require.Equal(t, 3, p.calls())
	})
}

func TestUnaskedNotModifiedIsAnError(t *testing.T) {
	t.Parallel()
	f := newFeed(t, options(&publisher{status: http.StatusNotModified}))
	require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrBadResponse)
	require.False(t, f.Status().Loaded)
}

// What is not the list leaves the old one in use, and says why.
func TestOldListStays(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	for range 70 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	full := oneRow + list(99)
	for name, tt := range map[string]struct{ body, why string }{
		"a web page":           {"<!doctype html>", "a web page, not a list"},
		"a sentence":           {"You may only fetch this list every 30 minutes.\n", "no row has an address"},
		"UTF-16":               {"\xff\xfe1\x00.\x00", "binary data or UTF-16"},
		"nothing":              {" \n", "the list is empty"},
		"only remarks":         {"# nothing\n", "the list is empty"},
		"half a file":          {full[:len(full)/2], "less than 70 % of the last 100"},
		"everything":           {full + "0.0.0.0/0\n", "wider than /8 (IPv4) or /16 (IPv6)"},
		"everything in v6":     {full + "::/0\n", "wider than"},
		"all of IPv4, wrapped": {full + "64:ff9b::-64:ff9b::ffff:ffff\n", "wider than"},
		"a wide range":         {full + "1.0.0.0-8.255.255.255\n", "wider than"},
		"a bomb":               {bomb.String(), "unpacks to more than 67108864 bytes"},
		"private networks":     {"10.0.0.0/8\n192.168.1.1\n", "no row has an address"},
		"one long line":        {strings.Repeat("1", 65<<20), "larger than 67108864 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: full}
				f := newFeed(t, options(p))
				require.NoError(t, f.Refresh(t.Context()))
				before := f.Status()
				time.Sleep(time.Hour)
				p.publish(tt.body)
				err := f.Refresh(t.Context())
				require.ErrorIs(t, err, provider.ErrBadResponse)
				require.ErrorContains(t, err, tt.why)
				require.NotContains(t, err.Error(), "KEY0000")
				requireListed(t, f)
				s := f.Status()
				require.Equal(t, before.Rows, s.Rows)
				require.Equal(t, before.LoadedAt, s.LoadedAt)
				require.Equal(t, strings.Contains(tt.why, "70 %"), s.Shrunk)
				require.Contains(t, s.Error, tt.why)
			})
		})
	}
}

func TestSpecialPurposeRowsAreLeftOut(t *testing.T) {
	t.Parallel()
	f := newFeed(t, options(&publisher{body: oneRow + "100.64.1.1\n172.18.0.2\n10.0.0.0/8\nnonsense\n192.0.0.0/16\n"}))
	require.NoError(t, f.Refresh(t.Context()))
	require.Equal(t, 1, f.Status().Rows)
	require.Equal(t, 5, f.Status().Skipped)
}

// Several sources are one list; one that fails keeps its last rows.
func TestSeveralSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &publisher{body: oneRow}, &publisher{body: "193.32.162.0/24"}
		o := options(nil)
		o.Sources = []feed.Source{{URL: "https://a.example/x", Label: "a"}, {URL: "https://b.example/", Label: "b"}}
		o.Transport = route{"a.example": a, "b.example": b}
		o.Row = func(label string, fields []string) (string, bool) { return label, true }
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.Equal(t, []string{"a.example", "b.example"}, f.Places())
		time.Sleep(time.Hour)
		a.publish("<html>")
		b.publish("193.32.162.0/24\n8.8.8.8")
		require.ErrorContains(t, f.Refresh(t.Context()), "a web page")
		for addr, want := range map[string]string{"45.155.205.233": "a", "8.8.8.8": "b", "193.32.162.9": "b"} {
			got, err := f.Lookup(netip.MustParseAddr(addr))
			require.NoError(t, err)
			require.Equal(t, want, got.Value, addr)
		}
		time.Sleep(2 * time.Hour)
		a.publish("# back soon")
		require.ErrorContains(t, f.Refresh(t.Context()), "the list is empty")
		got, err := f.Lookup(listed)
		require.NoError(t, err)
		require.True(t, got.Listed)
	})
}

type route map[string]*publisher

func (r route) RoundTrip(req *http.Request) (*http.Response, error) {
	return r[req.URL.Host].RoundTrip(req)
}

// A file is read again as soon as it has changed.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deny.txt")
	o := options(nil)
	o.Sources, o.Operator = []feed.Source{{File: path}}, true
	f := newFeed(t, o)
	require.ErrorContains(t, f.Refresh(t.Context()), "no such file")
	require.ErrorContains(t, f.Refresh(t.Context()), "no such file", "it is not read again")
	write := func(text string) {
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write(oneRow + "10.0.0.0/8\n")
	require.NoError(t, f.Refresh(t.Context()))
	requireListed(t, f)
	a, _ := f.Lookup(netip.MustParseAddr("10.9.9.9"))
	require.True(t, a.Listed, "the operator's list may hold private networks")
	for text, why := range map[string]string{oneRow + "10.0.0.0/7\n": "row 2 is wider", oneRow + "10.0.0.\n": "row 2 is neither", oneRow + "2a00::/15": "wider"} {
		write(text)
		require.ErrorContains(t, f.Refresh(t.Context()), why)
		require.ErrorContains(t, f.Refresh(t.Context()), why)
		require.Equal(t, 2, f.Status().Rows)
	}
	write(oneRow)
	require.NoError(t, f.Refresh(t.Context()))
	require.Equal(t, 1, f.Status().Rows, "it may be short")
	require.NoError(t, os.Remove(path))
	require.Error(t, f.Refresh(t.Context()))
	requireListed(t, f)
	write("")
	require.NoError(t, f.Refresh(t.Context()))
	require.Zero(t, f.Status().Rows, "it may be empty")
	require.Equal(t, []string{path}, f.Places())
}

// A file that could not be read is read once it can be, although it has not changed.
func TestUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read every file")
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "own.txt")
	require.NoError(t, os.WriteFile(path, []byte(oneRow), 0))
	o := options(nil)
	o.Sources, o.Operator = []feed.Source{{File: path}}, true
	f := newFeed(t, o)
	require.ErrorContains(t, f.Refresh(t.Context()), "permission denied")
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, f.Refresh(t.Context()))
	requireListed(t, f)
}

// A list in several files of which one was wrong is used once that one is right.
func TestOneOfSeveralFilesIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.txt"), filepath.Join(dir, "b.txt")
	write := func(path, text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write(a, oneRow)
	o := options(nil)
	o.Sources, o.Operator = []feed.Source{{File: a}, {File: b}}, true
	f := newFeed(t, o)
	require.ErrorContains(t, f.Refresh(t.Context()), "b.txt: no such file")
	write(b, "8.8.8.8\n")
	require.NoError(t, f.Refresh(t.Context()))
	require.Equal(t, 2, f.Status().Rows)
	write(a, oneRow+"8.8.4.4\n9.9.9.9\n")
	write(b, "0.0.0.0/0\n")
	require.ErrorContains(t, f.Refresh(t.Context()), "b.txt: row 1 is wider than")
	require.Equal(t, 2, f.Status().Rows)
	write(b, "8.8.8.8")
	require.NoError(t, f.Refresh(t.Context()))
	require.Equal(t, 4, f.Status().Rows)
}

func texts(networks []netip.Prefix) (all []string) {
	for _, p := range networks {
		all = append(all, p.String())
	}
	return all
}

// The differences of versions are known until they are settled, also after a
// restart.
func TestChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneRow + "8.8.8.0/24\t1"}
		o := options(p)
		o.Dir, o.MayBeEmpty = t.TempDir(), true
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		networks, version := f.Changed(0)
		require.Equal(t, []string{"8.8.8.0/24", "45.155.205.233/32"}, texts(networks))
		require.EqualValues(t, 1, version)
		f.Settled(version)
		require.Empty(t, texts(first(f.Changed(0))))

		time.Sleep(time.Hour)
		p.publish("1.1.1.1\n8.8.8.0/24\t2\n45.155.205.233\t7")
		require.NoError(t, f.Refresh(t.Context()))
		want := []string{"1.1.1.1/32", "8.8.8.0/24"}
		require.Equal(t, want, texts(first(f.Changed(version))))
		time.Sleep(time.Hour)
		p.publish("1.1.1.1\n8.8.8.0/24\t2\n")
		require.NoError(t, f.Refresh(t.Context()))
		require.Equal(t, []string{"45.155.205.233/32"}, texts(first(f.Changed(2))))

		f = newFeed(t, o) // a crash
		require.NoError(t, f.Refresh(t.Context()))
		networks, version = f.Changed(0)
		require.Equal(t, append(want, "45.155.205.233/32"), texts(networks))
		f.Settled(version)
		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.Empty(t, texts(first(f.Changed(0))))

		require.NoError(t, feed.MarkUnused(o.Dir, []string{"other", "test"}))
		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.Empty(t, texts(first(f.Changed(0))), "it is in use")
		for range 2 {
			require.NoError(t, feed.MarkUnused(o.Dir, []string{"other"}))
		}
		calls := p.calls()
		for range 2 { // the first of them crashes
			f = newFeed(t, o)
			require.NoError(t, f.Refresh(t.Context()))
			networks, version = f.Changed(0)
			require.Equal(t, want, texts(networks), "it was not in use")
		}
		f.Settled(version)
		require.Equal(t, calls, p.calls())
		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.Empty(t, texts(first(f.Changed(0))))
		require.NoError(t, feed.MarkUnused(filepath.Join(o.Dir, "none"), nil))
	})
}

// A list that may be empty says that it is. What only has no row leaves the old one
// in use.
func TestEmptyLists(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"[]": "", "\ufeff [ ]\n": "", "list,network\n": "", "# \"list\",\"network\"\n": "",
		"# Number of entries: 0\n": "", "# A list\n# END 0 entries": "",
		"# Service temporarily unavailable\n": "the list is empty", "; maintenance": "the list is empty", "#": "the list is empty",
		"\ufeff": "the list is empty", "\ufeff\n": "the list is empty", "ExitNode x": "the list is empty", "@type tordnsel 1.0\n": "the list is empty",
		`{"error":"blocked by policy","data":[]}`: "the list is empty", `{"list":[]}`: "the list is empty", `{"data":null}`: "JSON without an array",
		"[Adblock Plus 2.0]": "no row has an address", `{"type":"metadata","records":0}` + "\n": "JSON without an array",
	} {
		t.Run(body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: oneRow}
				o := options(p)
				o.MayBeEmpty = true
				f := newFeed(t, o)
				require.NoError(t, f.Refresh(t.Context()))
				time.Sleep(time.Hour)
				p.publish(body)
				err := f.Refresh(t.Context())
				if want == "" {
					require.NoError(t, err)
					require.Zero(t, f.Status().Rows)
					return
				}
				require.ErrorIs(t, err, provider.ErrBadResponse)
				require.ErrorContains(t, err, want)
				requireListed(t, f)
			})
		})
	}
	o := options(&publisher{body: `{"list":[]}`})
	o.MayBeEmpty, o.Sources[0].Syntax = true, feed.JSONObject
	f := newFeed(t, o)
	require.NoError(t, f.Refresh(t.Context()), "an object is what is expected")
	require.True(t, f.Status().Loaded)
}

// A source with a syntax of its own is never read in another.
func TestSyntax(t *testing.T) {
	t.Parallel()
	bodies := map[feed.Syntax]string{
		feed.Lines: oneRow, feed.CSV: "a,ip\n7,45.155.205.233\n", feed.JSONArray: `["45.155.205.233"]`, feed.JSONObject: `{"data":["45.155.205.233"]}`,
		feed.JSONLines: `{"ip":"45.155.205.233"}` + "\n" + `{"ip":"1.1.1.1"}`, feed.ExitNodes: "ExitNode A\nExitAddress 45.155.205.233 x\n",
	}
	for syntax := feed.AnySyntax; syntax <= feed.ExitNodes; syntax++ {
		for is, body := range bodies {
			o := options(&publisher{body: body})
			o.Sources[0].Syntax, o.Format.Fields = syntax, []string{"a"}
			f := newFeed(t, o)
			err := f.Refresh(t.Context())
			switch {
			case syntax == feed.AnySyntax, syntax == is:
				require.NoError(t, err)
			case syntax == feed.Lines && is == feed.CSV: // a header is a line
				require.ErrorContains(t, err, "no row has an address")
			default:
				require.EqualError(t, err, fmt.Sprintf("test: bad response: %v, not %v", is, syntax))
				require.False(t, f.Status().Loaded)
			}
		}
	}
}

// TestAMessageIsNoList: a line with words where the list has no such fields says
// something about an address, and is no row. It does not load a list, nor replace one.
func TestAMessageIsNoList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: "45.155.205.233 is blocked\n"}
		o := options(p)
		o.Sources[0].Syntax, o.Row = feed.Lines, func(string, []string) (string, bool) { return "", true }
		f := newFeed(t, o)
		require.ErrorContains(t, f.Refresh(t.Context()), "no row has an address")
		require.False(t, f.Status().Loaded)
		time.Sleep(2 * time.Hour)
		p.publish("193.32.162.7 # a comment\n")
		require.NoError(t, f.Refresh(t.Context()))
		time.Sleep(2 * time.Hour)
		p.publish("45.155.205.233\tblocked\n")
		require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrBadResponse)
		a, err := f.Lookup(unlisted)
		require.NoError(t, err)
		require.True(t, a.Listed)
	})
}

// TestAnErrorEmptiesNoListOfTheOperator, though that may become empty.
func TestAnErrorEmptiesNoListOfTheOperator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneRow}
		o := options(p)
		o.Operator = true
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		for _, body := range []string{`{"error":"over quota","data":[]}`, `{"list":[],"prefixes":[]}`, `{"error":"over quota"}`, "over quota", "null"} {
			time.Sleep(2 * time.Hour)
			p.publish(body)
			require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrBadResponse, body)
			requireListed(t, f)
		}
		for _, body := range []string{"", "# nobody\n", "[]", "ip,why\n"} {
			time.Sleep(2 * time.Hour)
			p.publish(oneRow)
			require.NoError(t, f.Refresh(t.Context()))
			requireListed(t, f)
			time.Sleep(2 * time.Hour)
			p.publish(body)
			require.NoError(t, f.Refresh(t.Context()), body)
			require.Zero(t, f.Status().Rows)
		}
	})
}

// Only rows are a change: neither the time in a header nor the order of rows is one,
// also after a restart and in a process that shares the list.
func TestChangedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		o := options(p)
		o.Dir = t.TempDir()
		f, other := newFeed(t, o), newFeed(t, o)
		rows := []string{oneRow, "8.8.8.0/24\t1\n"}
		at := time.Now().UTC()
		for i := range 9 {
			if i == 6 {
				rows[1], at = "8.8.8.0/24\t2\n", time.Now().UTC()
			}
			slices.Reverse(rows)
			p.publish("# Last updated: " + time.Now().String() + "\n" + rows[0] + rows[1])
			for _, f := range []*feed.Feed[string]{f, other, newFeed(t, o)} {
				require.NoError(t, f.Refresh(t.Context()))
				require.Equal(t, at, f.Status().ChangedAt, "version %d", i)
				require.Equal(t, time.Now().UTC(), f.Status().LoadedAt)
			}
			require.Equal(t, i+1, p.calls())
			time.Sleep(40 * 24 * time.Hour)
			f, other = other, f
		}
		p.set(func(p *publisher) { p.status = 503 })
		require.Error(t, f.Refresh(t.Context()))
		time.Sleep(2 * time.Hour)
		p.publish(oneRow + "8.8.8.0/24\t2\n#\n")
		require.NoError(t, other.Refresh(t.Context()))
		require.NoError(t, f.Refresh(t.Context()), "the other process could load it")
		require.Empty(t, f.Status().Error)
		require.Equal(t, at, f.Status().ChangedAt)
	})
}

func first(networks []netip.Prefix, _ uint64) []netip.Prefix { return networks }

// routes answers by the path of a request, and 404 to the others.
type routes map[string]string

func (r routes) RoundTrip(req *http.Request) (*http.Response, error) {
	body, ok := r[req.URL.Path]
	status := http.StatusOK
	if !ok {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// TestOneOfSeveralSourcesIsGoneFromTheStart: the others are a list that was loaded just
// now, and the error is told.
func TestOneOfSeveralSourcesIsGoneFromTheStart(t *testing.T) {
	t.Parallel()
	o := options(nil)
	o.Transport = routes{"/a": "45.0.0.1 x\n45.0.0.2 y\n"}
	o.Sources = []feed.Source{{URL: "https://list.example/a"}, {URL: "https://list.example/gone"}}
	o.Cadence = 24 * time.Hour
	f := newFeed(t, o)
	require.ErrorContains(t, f.Refresh(t.Context()), "404")
	status := f.Status()
	require.Equal(t, 2, status.Rows)
	require.False(t, status.Stale)
	require.WithinDuration(t, time.Now(), status.LoadedAt, time.Minute)
	require.Contains(t, status.Error, "404")
}

func TestStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneRow}
		o := options(p)
		o.Cadence = 24 * time.Hour
		f := newFeed(t, o)
		require.False(t, f.Stale())
		require.NoError(t, f.Refresh(t.Context()))
		p.set(func(p *publisher) { p.err = errors.New("down") })
		time.Sleep(72 * time.Hour)
		require.False(t, f.Stale())
		time.Sleep(time.Second)
		require.True(t, f.Stale())
		require.True(t, f.Status().Stale)
	})
}

// Processes that share a directory make one download between them.
func TestProcessesShareADownload(t *testing.T) {
	t.Parallel()
	p := &publisher{body: oneRow, delay: 50 * time.Millisecond}
	o := options(p)
	o.Dir = t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f := newFeed(t, o)
			if err := f.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
			if a, err := f.Lookup(listed); err != nil || !a.Listed {
				t.Error(a, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, p.calls())
}

// A process that begins while another one downloads waits for that one's list, and
// does not repeat a download that was interrupted.
func TestProcessWaitsForAnothersDownload(t *testing.T) {
	t.Parallel()
	p := &publisher{body: oneRow, delay: time.Hour}
	o := options(p)
	o.Dir = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() { cancelled <- newFeed(t, o).Refresh(ctx) }()
	require.Eventually(t, func() bool { return p.calls() == 1 }, 30*time.Second, time.Millisecond)
	second := newFeed(t, o)
	waiting, enough := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer enough()
	require.ErrorIs(t, second.Refresh(waiting), context.DeadlineExceeded)
	cancel()
	require.Error(t, <-cancelled)
	require.ErrorContains(t, second.Refresh(t.Context()), "the last download was interrupted")
	require.Equal(t, 1, p.calls())
}

// Each byte of what is kept may be damaged: the list is then downloaded again,
// and never wrong.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	p := &publisher{body: oneRow, header: http.Header{"Etag": {`"1"`}}}
	o := options(p)
	o.Dir = t.TempDir()
	require.NoError(t, newFeed(t, o).Refresh(t.Context()))
	for _, name := range []string{"test.list", "test.next"} {
		path := filepath.Join(o.Dir, name)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x15
			require.NoError(t, os.WriteFile(path, bad, 0o600))
			f := newFeed(t, o)
			_ = f.Refresh(t.Context())
			if a, err := f.Lookup(listed); err == nil {
				require.True(t, a.Listed, "byte %d of %s", i, name)
				require.Equal(t, "7", a.Value)
				require.Equal(t, 1, f.Status().Rows)
			}
			require.NoError(t, os.WriteFile(path, good, 0o600))
		}
		for _, n := range []int{0, 1, len(good) / 2, len(good) - 1} {
			require.NoError(t, os.WriteFile(path, good[:n], 0o600))
			_ = newFeed(t, o).Refresh(t.Context())
			require.NoError(t, os.WriteFile(path, good, 0o600))
		}
	}
}

// A process that is killed while it writes leaves a complete list, the old or the
// new one.
func TestKilledWhileWriting(t *testing.T) {
	if dir := os.Getenv("ENRICH_TEST_FEED_DIR"); dir != "" {
		for i := 0; ; i++ { // until it is killed
			p := &publisher{body: oneRow + list(5000+i%50)}
			o := options(p)
			o.Dir = dir
			_ = os.Remove(filepath.Join(dir, "test.next"))
			fmt.Println("loading")
			_ = newFeed(t, o).Refresh(t.Context())
		}
	}
	t.Parallel()
	kills := 200
	if testing.Short() {
		kills = 20
	}
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	loaded := 0
	for i := range kills {
		cmd := exec.Command(self, "-test.run=^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), "ENRICH_TEST_FEED_DIR="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 1 + i%3 {
			require.True(t, lines.Scan())
		}
		for at := time.Now().Add(time.Duration(i%50) * 200 * time.Microsecond); time.Now().Before(at); { // a moment of its own each time
			runtime.Gosched()
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		o := options(&publisher{status: http.StatusServiceUnavailable})
		o.Dir = dir
		f := newFeed(t, o)
		_ = f.Refresh(t.Context())
		if f.Status().Loaded {
			loaded++
			requireListed(t, f)
			require.GreaterOrEqual(t, f.Status().Rows, 5001)
		} else {
			require.Zero(t, loaded, "a list that was there is gone")
		}
	}
	require.Positive(t, loaded)
}

// What a killed process has left half written is removed, and what another is writing
// is not.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	t.Parallel()
	o := options(&publisher{body: oneRow})
	o.Dir = t.TempDir()
	left, busy := filepath.Join(o.Dir, ".enrich-1"), filepath.Join(o.Dir, ".enrich-2")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	require.NoError(t, os.WriteFile(busy, nil, 0o600))
	hourAgo := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(left, hourAgo, hourAgo))
	o.ReadOnly = true
	_ = newFeed(t, o).Refresh(t.Context())
	require.FileExists(t, left)
	o.ReadOnly = false
	require.NoError(t, newFeed(t, o).Refresh(t.Context()))
	require.NoFileExists(t, left)
	require.FileExists(t, busy)
}

// BenchmarkLoad measures how long it takes from a file of 120,430 lines, and from what
// was kept before a restart, until the list answers, beside a plain loop that reads the
// addresses of the file into a map.
func BenchmarkLoad(b *testing.B) {
	const n = 120_430
	path := filepath.Join(b.TempDir(), "list.txt")
	require.NoError(b, os.WriteFile(path, []byte(list(n)), 0o600))
	kept := options(&publisher{body: list(n)})
	kept.Dir = b.TempDir()
	require.NoError(b, newFeed(b, kept).Refresh(b.Context()))
	_ = os.Remove(filepath.Join(kept.Dir, "test.old"))
	load := func(o feed.Options[string]) {
		f := newFeed(b, o)
		require.NoError(b, f.Refresh(b.Context()))
		require.Equal(b, n, f.Status().Rows)
	}
	fromFile := options(nil)
	fromFile.Sources = []feed.Source{{File: path}}
	for b.Loop() {
		took := inTurns(9,
			func() { load(fromFile) },
			func() { load(kept) },
			func() {
				text, err := os.ReadFile(path)
				require.NoError(b, err)
				found := map[netip.Addr]struct{}{}
				for line := range strings.Lines(string(text)) {
					text, _, _ := strings.Cut(line, "\t")
					addr, err := netip.ParseAddr(text)
					require.NoError(b, err)
					found[addr] = struct{}{}
				}
				require.Len(b, found, n)
			})
		file, restart, plain := took[0], took[1], took[2]
		b.ReportMetric(file.Seconds()*1000, "ms/file")
		b.ReportMetric(restart.Seconds()*1000, "ms/restart")
		b.ReportMetric(file.Seconds()/plain.Seconds(), "x-map/file")
		b.ReportMetric(restart.Seconds()/plain.Seconds(), "x-map/restart")
	}
}

// inTurns returns the least time that each function takes in a number of rounds.
func inTurns(rounds int, fs ...func()) []time.Duration {
	least := make([]time.Duration, len(fs))
	for range rounds {
		for i, f := range fs {
			begin := time.Now()
			f()
			if took := time.Since(begin); least[i] == 0 || took < least[i] {
				least[i] = took
			}
		}
	}
	return least
}

// BenchmarkSwap measures lookups while the list is replaced all the time, beside
// lookups while as much is built for another list.
func BenchmarkSwap(b *testing.B) {
	const n = 120_430
	versions := [2]string{list(n), list(n - 1)}
	p := &publisher{body: versions[0]}
	o := options(p)
	var hours atomic.Int64
	o.Now = func() time.Time { return time.Unix(0, 0).Add(time.Duration(hours.Add(1)) * time.Hour) }
	looked, other := newFeed(b, o), newFeed(b, o)
	require.NoError(b, looked.Refresh(b.Context()))
	addrs := make([]netip.Addr, 1000)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{45, byte(i * 7), byte(i * 13), byte(i)})
	}
	// times returns those of batches of lookups, in order, while f is refreshed.
	times := func(f *feed.Feed[string]) []time.Duration {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					p.publish(versions[i%2])
					_ = f.Refresh(context.Background())
				}
			}
		}()
		all := make([]time.Duration, 20_000)
		for i := range all {
			begin := time.Now()
			for _, addr := range addrs[i%10*100 : i%10*100+100] {
				_, _ = looked.Lookup(addr)
			}
			all[i] = time.Since(begin)
		}
		close(stop)
		<-stopped
		require.Greater(b, f.Status().Rows, n-2)
		slices.Sort(all)
		return all
	}
	for b.Loop() {
		p99 := [2]time.Duration{}
		for range 5 {
			for i, f := range []*feed.Feed[string]{looked, other} {
				if at := times(f)[19_800]; p99[i] == 0 || at < p99[i] {
					p99[i] = at
				}
			}
		}
		b.ReportMetric(float64(p99[0].Nanoseconds())/100, "ns-p99")
		b.ReportMetric(p99[0].Seconds()/p99[1].Seconds(), "x-without-swap")
	}
}

var _ provider.Listing = listing{}

// listing shows how a provider is made from a feed.
type listing struct{ *feed.Feed[string] }

func (l listing) List() provider.ListStatus { return l.Status() }

// A list that is only read is the one that was kept, with the time at which it was
// current. Nothing is downloaded, and no file written or removed.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: list(200) + oneRow}
		o := options(p)
		o.Dir = t.TempDir()
		o.ReadOnly = true
		f := newFeed(t, o)
		require.ErrorContains(t, f.Refresh(t.Context()), "not loaded yet")
		require.False(t, f.Status().FromSnapshot)
		require.Empty(t, files(t, o.Dir))

		o.ReadOnly = false
		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.False(t, f.Status().FromSnapshot)
		current := time.Now().UTC()
		time.Sleep(time.Hour)
		p.publish(oneRow)
		require.Error(t, f.Refresh(t.Context()))
		require.True(t, f.Status().Shrunk)
		before := files(t, o.Dir)

		time.Sleep(24 * time.Hour)
		o.ReadOnly = true
		only := newFeed(t, o)
		require.NoError(t, only.Refresh(t.Context()))
		requireListed(t, only)
		st := only.Status()
		require.True(t, st.FromSnapshot)
		require.True(t, st.Shrunk, "also after a restart")
		require.Equal(t, 201, st.Rows)
		require.True(t, current.Equal(st.LoadedAt), "%v", st.LoadedAt)
		only.Settled(99)
		require.Equal(t, 2, p.calls())
		require.Equal(t, before, files(t, o.Dir))

		o.ReadOnly = false
		p.publish(list(200) + oneRow)
		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.False(t, f.Status().FromSnapshot)
		require.False(t, f.Status().Shrunk)
	})
}

// TestAShorterListIsAccepted once somebody has done what the error says.
func TestAShorterListIsAccepted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: list(200) + oneRow}
		o := options(p)
		o.Dir = t.TempDir()
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		time.Sleep(time.Hour)
		p.publish(oneRow)
		remove := filepath.Join(o.Dir, "test.list")
		require.ErrorContains(t, f.Refresh(t.Context()), "remove "+remove+" and start again")
		require.NoError(t, os.Remove(remove))

		f = newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		require.Equal(t, 1, f.Status().Rows)
		require.False(t, f.Status().Shrunk)
		require.Equal(t, 3, p.calls())
		require.NoError(t, newFeed(t, o).Refresh(t.Context()))
		require.Equal(t, 3, p.calls())
	})
}

// TestMarkUnused: only lists that were kept are marked. A mark replaces no file. Only a
// feed that has read a mark removes it.
func TestMarkUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: list(200) + oneRow}
		o := options(p)
		o.Dir = t.TempDir()
		f := newFeed(t, o)
		require.NoError(t, f.Refresh(t.Context()))
		_, version := f.Changed(0)
		f.Settled(version)
		foreign := filepath.Join(o.Dir, "customers.list")
		require.NoError(t, os.WriteFile(foreign, []byte("a\n"), 0o600))
		before := files(t, o.Dir)
		require.NoError(t, feed.MarkUnused(o.Dir, []string{"test"}))
		require.Equal(t, before, files(t, o.Dir))

		time.Sleep(time.Hour)
		p.publish(list(200))
		require.NoError(t, f.Refresh(t.Context())) // and it is stopped before what follows is done
		require.NoError(t, feed.MarkUnused(o.Dir, nil))
		again := newFeed(t, o)
		require.NoError(t, again.Refresh(t.Context()))
		all := texts(first(again.Changed(0)))
		require.Len(t, all, 201)
		require.Contains(t, all, "45.155.205.233/32", "which is no longer listed")

		_, version = f.Changed(0)
		f.Settled(version) // by a process that has used it all the time
		again = newFeed(t, o)
		require.NoError(t, again.Refresh(t.Context()))
		require.Len(t, texts(first(again.Changed(0))), 200)
	})
}

// TestTheSourceIsNotWhereTheListIsKept: a file of the operator's is never written.
func TestTheSourceIsNotWhereTheListIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := filepath.Join(dir, "test.list")
	link := filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(kept, []byte(oneRow), 0o600))
	require.NoError(t, os.Symlink(kept, link))
	o := options(nil)
	o.Operator = true
	for file, refused := range map[string]bool{
		kept: true, filepath.Join(dir, "x", "..", "test.list"): true, link: true, filepath.Join(dir, "test.old"): true,
		filepath.Join(dir, "other.list"): false, filepath.Join(t.TempDir(), "test.list"): false,
	} {
		o.Dir, o.Sources = dir, []feed.Source{{File: file}}
		_, err := feed.New(o)
		if refused {
			require.ErrorContains(t, err, "rename it", file)
			require.ErrorIs(t, err, provider.ErrConfig)
		} else {
			require.NoError(t, err, file)
		}
	}
}

// files returns the names of the files in a directory, and what is in them.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	found := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		found[e.Name()] = string(text)
	}
	return found
}
