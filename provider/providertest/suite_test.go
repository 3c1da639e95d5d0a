package providertest_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/suitecheck"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

func hostsHarness(bug string) providertest.Harness {
	return providertest.Harness{
		New:    func(_ testing.TB, at providertest.Endpoint) provider.Provider { return newHosts(at, bug) },
		Source: upstream.Custom, Handler: http.HandlerFunc(answerHosts),
		Known: addrA, Unknown: addrB, Patience: 300 * time.Millisecond,
	}
}

func bulkHarness(bug string) providertest.Harness {
	h := hostsHarness("")
	h.New = func(_ testing.TB, at providertest.Endpoint) provider.Provider { return newBulk(at, bug) }
	h.Handler = http.HandlerFunc(answerList)
	return h
}

func TestSuitePassesCorrectProviders(t *testing.T) {
	t.Run("hosts", func(t *testing.T) {
		h := hostsHarness("")
		h.Patience = 0
		providertest.Run(t, h)
	})
	t.Run("bulk", func(t *testing.T) {
		h := bulkHarness("")
		h.Patience = 0
		providertest.Run(t, h)
	})
	t.Run("fake", func(t *testing.T) { providertest.Run(t, fakeHarness(nil)) })
	t.Run("least", func(t *testing.T) {
		providertest.Run(t, providertest.Harness{New: func(testing.TB, providertest.Endpoint) provider.Provider {
			return new(providertest.Fake)
		}})
	})
}

// TestSuiteCatches shows that each check notices what it is there for.
func TestSuiteCatches(t *testing.T) {
	t.Cleanup(sync.OnceFunc(func() { close(leaked) }))
	bugs := map[string][]string{
		"Name":      {"bad name", "name changes", "name differs"},
		"Limits":    {"limits change", "negative limits"},
		"Known":     {"never known", "invalid finding", "wrong provider", "wrong address", "no time", "local time", "future", "big raw"},
		"NotKnown":  {"always known", "innocent when absent", "absence is an error"},
		"Transport": {"own transport"},
		"NoSleep":   {"sleeps after 429", "sleeps after 503", "sleeps after 200", "sleeps after 404", "sleeps after 302", "sleeps after 502", "sleeps before"},
		"Bodies": {
			"leaves bodies of 200 open", "leaves bodies of 404 open", "leaves bodies of 401 open", "leaves bodies of 402 open",
			"leaves bodies of 307 open", "leaves bodies of 503 open", "leaves bodies of 302 open", "leaves bodies of 502 open",
		},
		"Goroutines":     {"leaks a goroutine", "leaks when canceled"},
		"Remote":         {"claims to be local", "claims to be private"},
		"IPv6":           {"asks about IPv6", "asks before refusing IPv6"},
		"Concurrent":     {"unsteady"},
		"Immutable":      {"reuses its map", "reuses its list"},
		"CanceledBefore": {"ignores its context", "shallow about its context"},
		"CanceledDuring": {"ignores its context", "drops the cause", "finding beside an error", "swallows errors"},
		"CanceledInBody": {"ignores its context", "drops the cause"},
		"Deadline":       {"ignores its context", "drops the cause"},
		"Unauthorized":   {"all is unavailable", "no 402", "swallows errors", "names another"},
		"RateLimited":    {"all is unavailable", "no Retry-After"},
		"Unavailable":    {"blames the response", "finding beside an error"},
		"BadResponse":    {"believes anything", "reads everything"},
		"Redirect":       {"follows redirects"},
		"OneCall":        {"asks twice", "retries", "own transport"},
		"Secret":         {"key in the URL", "key in errors", "body in errors", "query in errors", "key in raw"},
		"Anonymous":      {"names itself", "names itself elsewhere", "names nobody", "tells where from", "asks elsewhere", "key in the body", "key in the URL"},
	}
	for _, check := range providertest.Checks() {
		for _, bug := range bugs[check.Name] {
			t.Run(check.Name+"/"+bug, func(t *testing.T) {
				require.NotEmpty(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, hostsHarness(bug)) }))
			})
		}
		if check.Name == "Batch" {
			for _, bug := range batchBugs {
				t.Run(check.Name+"/"+bug, func(t *testing.T) {
					require.NotEmpty(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, batchHarness(bug)) }))
				})
			}
			continue
		}
		if check.Name != "Refresh" {
			require.NotEmpty(t, bugs[check.Name], "no bug was seeded for %s", check.Name)
			continue
		}
		for _, bug := range []string{"always loads", "no backoff", "forgets its failure", "guesses without data"} {
			t.Run(check.Name+"/"+bug, func(t *testing.T) {
				require.NotEmpty(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, bulkHarness(bug)) }))
			})
		}
	}
}

func TestSuiteCatchesABadHarness(t *testing.T) {
	for _, check := range providertest.Checks() {
		if check.Name != "Known" {
			continue
		}
		require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, providertest.Harness{}) }), "Harness.New is missing")
		none := providertest.Harness{New: func(testing.TB, providertest.Endpoint) provider.Provider { return nil }}
		require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, none) }), "returned nil")
	}
}

// fakeHarness is that of a provider without HTTP that can be made to fail;
// broken, if not nil, changes what it fails with.
func fakeHarness(broken func(error) error) providertest.Harness {
	kinds := map[upstream.Failure]error{
		upstream.Unauthorized: provider.ErrUnauthorized,
		upstream.RateLimited:  provider.ErrRateLimited,
		upstream.Unavailable:  provider.ErrUnavailable,
	}
	return providertest.Harness{
		New: func(testing.TB, providertest.Endpoint) provider.Provider {
			return providertest.NewFake("fake").On(addrA, providertest.Reply{Finding: provider.Finding{Known: true}})
		},
		Known: addrA, Unknown: addrB,
		Fail: func(tb testing.TB, p provider.Provider, f upstream.Failure) bool {
			fake := p.(*providertest.Fake)
			if f == upstream.Hang {
				fake.On(addrA, providertest.Reply{Delay: time.Hour})
				return true
			}
			err := error(&provider.Error{Provider: "fake", Kind: kinds[f], RetryAfter: upstream.RetryAfter})
			if broken != nil {
				err = broken(err)
			}
			fake.On(addrA, providertest.Reply{Err: err})
			return kinds[f] != nil
		},
	}
}

func TestSuiteUsesFailHook(t *testing.T) {
	for name, broken := range map[string]func(error) error{
		"Unauthorized": func(error) error { return errors.New("no") },
		"RateLimited":  func(error) error { return provider.ErrRateLimited },
		"Unavailable":  func(error) error { return provider.ErrBadResponse },
		"Secret":       func(error) error { return errors.New("b7e1f0c2d94a4f55-s3cret") },
	} {
		for _, check := range providertest.Checks() {
			if check.Name == name {
				require.NotEmpty(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, fakeHarness(broken)) }), name)
			}
		}
	}
}

// TestSuiteGivesUpOnTheDeaf: a lookup that never returns fails a check and
// does not hang it.
func TestSuiteGivesUpOnTheDeaf(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	h := providertest.Harness{
		New: func(testing.TB, providertest.Endpoint) provider.Provider {
			return provider.Func{ID: "deaf", Ask: func(context.Context, netip.Addr) (provider.Finding, error) {
				<-release
				return provider.Finding{}, nil
			}}
		},
		Patience: 10 * time.Millisecond,
		Fail:     func(_ testing.TB, _ provider.Provider, f upstream.Failure) bool { return f == upstream.Hang },
	}
	for _, check := range providertest.Checks() {
		switch check.Name {
		case "CanceledBefore", "CanceledDuring", "Deadline":
			require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) }), "did not return", check.Name)
		}
	}
}

// TestSuiteStopsAtAForeignTransport: a provider that ignores the transport it was
// given fails within seconds, with a hint.
func TestSuiteStopsAtAForeignTransport(t *testing.T) {
	silent := provider.Func{ID: "silent", Ask: func(ctx context.Context, _ netip.Addr) (provider.Finding, error) {
		<-ctx.Done() // as if somebody far away did not answer
		return provider.Finding{}, ctx.Err()
	}}
	h := hostsHarness("")
	h.New = func(testing.TB, providertest.Endpoint) provider.Provider { return silent }
	h.Patience = 100 * time.Millisecond
	for _, check := range providertest.Checks() {
		switch check.Name {
		case "Transport", "CanceledDuring", "CanceledInBody":
			start := time.Now()
			text := suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) })
			require.Contains(t, text, "Endpoint.Transport", check.Name)
			require.Less(t, time.Since(start), 5*time.Second)
		}
	}
}

// TestSuiteGivesUpOnANewThatHangs at the first check, which also Run does.
func TestSuiteGivesUpOnANewThatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for _, source := range []upstream.Source{upstream.None, upstream.Custom} {
		h := hostsHarness("")
		h.Source, h.Patience = source, 10*time.Millisecond
		h.New = func(testing.TB, providertest.Endpoint) provider.Provider {
			<-release
			return nil
		}
		first := providertest.Checks()[0]
		require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { first.Run(tb, h) }), "did not return")
	}
}

func TestSuiteEndsWithNew(t *testing.T) {
	h := hostsHarness("")
	h.New = func(tb testing.TB, _ providertest.Endpoint) provider.Provider {
		tb.Fatal("no configuration")
		return nil
	}
	first := providertest.Checks()[0]
	text := suitecheck.Failure(t, func(tb testing.TB) { first.Run(tb, h) })
	require.Contains(t, text, "no configuration")
	require.NotContains(t, text, "nil")
}

// TestTruncationCanBeWaived, and nothing else.
func TestTruncationCanBeWaived(t *testing.T) {
	for _, check := range providertest.Checks() {
		if check.Name != "BadResponse" {
			continue
		}
		h := hostsHarness("believes halves")
		require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) }), "truncated")
		h.Waived = []upstream.Failure{upstream.Truncated}
		require.Empty(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) }))
		h.Waived = []upstream.Failure{upstream.HTML}
		require.Contains(t, suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) }), "can be waived")
	}
}
