// Package providertest tests providers. [Run] is the conformance suite for any
// [provider.Provider]; [Fake] is a provider that does as it is told, for the
// tests of whoever uses providers. Package upstream, below this one, plays the
// services that this module's own providers ask.
//
// A provider that makes no HTTP requests says how it is made, and at best names
// an address it knows and one it does not:
//
//	providertest.Run(t, providertest.Harness{
//		New:     func(testing.TB, providertest.Endpoint) provider.Provider { return denylist.New("deny", addrs) },
//		Known:   netip.MustParseAddr("45.155.205.233"),
//		Unknown: netip.MustParseAddr("193.32.162.7"),
//	})
//
// One that does is run against a server that answers as its service does, well
// and in every kind of trouble. For a service that package upstream plays,
// Source says which; for any other, Handler gives the right answers and the
// suite adds the trouble:
//
//	providertest.Run(t, providertest.Harness{
//		New: func(_ testing.TB, at providertest.Endpoint) provider.Provider {
//			return mine.New(mine.Options{Key: at.Key, BaseURL: at.BaseURL, Transport: at.Transport})
//		},
//		Source:  upstream.Custom,
//		Handler: http.HandlerFunc(answerLikeMine),
//		Known:   ...,
//		Unknown: ...,
//	})
package providertest

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// Harness tells the suite how to make the provider under test.
type Harness struct {
	// New returns a new provider that is ready for lookups, or, if it is a
	// [provider.Refresher], for its first refresh. It is called several times
	// by every check. Required.
	New func(tb testing.TB, at Endpoint) provider.Provider

	// Source is the service that the provider asks over HTTP. With
	// [upstream.None] it asks nobody: its Endpoint has only a key, and the
	// checks of requests are skipped.
	Source upstream.Source

	// Handler gives the right answers if Source is [upstream.Custom].
	Handler http.Handler

	// Refusal is the body, in JSON, of the service's refusal of a key if Source is
	// [upstream.Custom]; it has to fit rest.Key.Refusal. Default: an object with the
	// member message.
	Refusal string

	// Known is an address that the provider has. By default some public
	// address; it is then not checked that the provider knows it, unless Source
	// is one of the four services.
	Known netip.Addr

	// Unknown is an address that the provider does not have. Without one the
	// check of absence is skipped, unless Source is one of the four services.
	Unknown netip.Addr

	// Fail makes the lookups of p fail in the given way from now on, for a
	// provider that makes no HTTP requests. It returns false for a failure that
	// p cannot have, which is then not checked. Optional.
	Fail func(tb testing.TB, p provider.Provider, f upstream.Failure) bool

	// Waived are failures that the format of the answers cannot show, and that are
	// therefore not checked: upstream.Truncated, of a list that ends anywhere. Others
	// are not accepted.
	Waived []upstream.Failure

	// Patience is how long a lookup may take to return once its context is
	// done. Default: 5 s.
	Patience time.Duration
}

// Endpoint is where and how a provider is to make its requests.
type Endpoint struct {
	// BaseURL is an origin, like http://127.0.0.1:40123, to be used in place of
	// the service's own; paths stay as they are.
	BaseURL string
	// Transport is to carry all requests.
	Transport http.RoundTripper
	// Key is the API key to use. The suite watches that it goes nowhere but
	// into a header.
	Key string
}

// Check is one part of the suite.
type Check struct {
	// Name says what is checked.
	Name string
	// Run checks the provider that h makes. It skips what h does not apply to.
	Run func(tb testing.TB, h Harness)
}

// Checks returns the parts of the suite, for a caller who wants to run them
// one by one.
func Checks() []Check {
	return []Check{
		{"Transport", checkTransport},
		{"Name", checkName},
		{"Limits", checkLimits},
		{"Known", checkKnown},
		{"NotKnown", checkNotKnown},
		{"IPv6", checkIPv6},
		{"Concurrent", checkConcurrent},
		{"Immutable", checkImmutable},
		{"CanceledBefore", checkCanceledBefore},
		{"CanceledDuring", checkCanceledDuring},
		{"CanceledInBody", checkCanceledInBody},
		{"Deadline", checkDeadline},
		{"Unauthorized", checkUnauthorized},
		{"RateLimited", checkRateLimited},
		{"Unavailable", checkUnavailable},
		{"BadResponse", checkBadResponse},
		{"Redirect", checkRedirect},
		{"OneCall", checkOneCall},
		{"Secret", checkSecret},
		{"Anonymous", checkAnonymous},
		{"Refresh", checkRefresh},
		{"NoSleep", checkNoSleep},
		{"Bodies", checkBodies},
		{"Goroutines", checkGoroutines},
		{"Remote", checkRemote},
		{"Batch", checkBatch},
	}
}

// Run runs every check of the suite as a subtest. It takes some seconds, and
// 100 MB of memory if the provider does not limit what it reads.
func Run(t *testing.T, h Harness) {
	for _, c := range Checks() {
		if !t.Run(c.Name, func(t *testing.T) { c.Run(t, h) }) && c.Name == "Transport" {
			return // all others would fail, slowly
		}
	}
}
