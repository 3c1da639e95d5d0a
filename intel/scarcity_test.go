package intel_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/store"
)

// noisy is GreyNoise's service with its 25 calls a week. It is a transport, so that
// the provider is the real one and the time a test's own.
type noisy struct {
	mu      sync.Mutex
	refuses func(ip string) (status int, body string) // zero for an answer
	fails   func() error                              // instead of a request; nil for none
	arrived map[string]int                            // requests by address
	at      []time.Time                               // of all requests that arrived
	good    map[string]int                            // answers by address
}

func (n *noisy) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fails != nil {
		if err := n.fails(); err != nil {
			return nil, err
		}
	}
	ip := path.Base(r.URL.Path)
	if n.arrived == nil {
		n.arrived, n.good = make(map[string]int), make(map[string]int)
	}
	n.arrived[ip]++
	n.at = append(n.at, time.Now())
	status, body := 0, ""
	if n.refuses != nil {
		status, body = n.refuses(ip)
	}
	if status == 0 {
		n.good[ip]++
		status, body = http.StatusOK, fmt.Sprintf(`{"ip":%q,"noise":true,"riot":false,"classification":"malicious","message":"Success"}`, ip)
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// will changes what the service does from now on.
func (n *noisy) will(refuses func(ip string) (int, string), fails func() error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuses, n.fails = refuses, fails
}

func (n *noisy) calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.at)
}

func (n *noisy) answered() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.good)
}

// greyNoise returns the provider in front of the service.
func greyNoise(t *testing.T, n *noisy, change ...func(*greynoise.Options)) intel.Provider {
	t.Helper()
	o := greynoise.Options{Transport: n}
	for _, f := range change {
		f(&o)
	}
	p, err := greynoise.New(o)
	require.NoError(t, err)
	return p
}

// remaining returns what status says is left of a provider's first quota.
func (r *rig) remaining(name string) int {
	r.t.Helper()
	s, err := r.worker.Status(r.t.Context())
	require.NoError(r.t, err)
	for _, p := range s.Providers {
		if p.Name == name {
			return p.Quotas[0].Remaining
		}
	}
	r.t.Fatalf("no provider %q", name)
	return 0
}

// TestARejectedAddressIsNotLookedUpAgain: what the source rejects is not
// applicable, and no other provider's trouble brings it back.
func TestARejectedAddressIsNotLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &noisy{refuses: func(string) (int, string) { return 400, `{"message":"IP is not routable"}` }}
		down := newSource("other").will(fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503}))
		r := newRig(t, intel.Config{}, greyNoise(t, n), down)
		ids := r.observe(ips(5)...)
		r.start()
		time.Sleep(provider.Day)
		synctest.Wait()
		require.Equal(t, 5, n.calls())
		require.Greater(t, down.asked(), 5, "the other one was tried again")
		for _, id := range ids {
			e := r.get(id).Entry("greynoise")
			require.Equal(t, store.NotApplicable, e.State)
			require.Equal(t, "address not supported", e.Error)
		}
		_, err := r.worker.Enrich(t.Context(), ids[0])
		require.NoError(t, err)
		require.Equal(t, 5, n.calls(), "nor by force")

		n.will(nil, nil)
		r.move(100, ids[0])
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 6, n.calls(), "another address is another matter")
		require.NotNil(t, r.get(ids[0]).Entry("greynoise").Finding)
	})
}

// TestAnotherAddressDoesNotBackOff: an address that failed, or was told to wait,
// says nothing about the attacker's next one.
func TestAnotherAddressDoesNotBackOff(t *testing.T) {
	for name, err := range map[string]error{
		"failed": &provider.Error{Kind: provider.ErrBadResponse, StatusCode: 400},
		"waits":  &provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503, RetryAfter: 23 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newSource("a").will(fails(err))
				r := newRig(t, intel.Config{}, a, newSource("b"))
				id := r.observe(ip(1))[0]
				r.start()
				require.Equal(t, 1, a.asked())
				a.will(says(provider.Suspicious))
				r.move(2, id)
				synctest.Wait()
				require.Equal(t, 2, a.asked(), "at once")
				e := r.get(id).Entry("a")
				require.Equal(t, ip(2), e.Finding.Addr.String())
				require.Zero(t, e.Failures)
			})
		})
	}
}

// TestWithoutDNSNothingIsCharged: calls that were not sent are given back, and
// the end of the outage is noticed soon.
func TestWithoutDNSNothingIsCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &noisy{fails: func() error {
			return &net.DNSError{Err: "server misbehaving", Name: "api.greynoise.io", IsTemporary: true}
		}}
		r := newRig(t, intel.Config{}, greyNoise(t, n))
		r.observe(ips(5)...)
		r.start()
		for i := range 10 {
			time.Sleep(time.Hour)
			r.observe(ip(100 + i))
			r.worker.Wake()
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Zero(t, n.calls())
		require.Equal(t, 25, r.remaining("greynoise"))
		n.will(nil, nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Equal(t, 15, n.answered())
		require.Equal(t, 15, n.calls())
		require.Equal(t, 10, r.remaining("greynoise"))
	})
}

// TestAFindingAtHandNeedsNoQuota: an attacker whose address another attacker was
// looked up for gets that finding at once, although the quota is exhausted and has
// a backlog.
func TestAFindingAtHandNeedsNoQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly := scarce("weekly", 1, provider.Week)
		r := newRig(t, intel.Config{TTL: 30 * provider.Day}, weekly)
		a := r.observe(ip(1))[0]
		r.start()
		time.Sleep(time.Hour)
		b := r.observe(ip(2))[0]
		r.worker.Wake()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, store.Waiting, r.get(b).Entry("weekly").State)
		c := uuid.New()
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: c, IP: ip(1)}))
		r.worker.Wake()
		synctest.Wait()
		require.Equal(t, 1, weekly.asked())
		require.Equal(t, r.get(a).Entry("weekly").Finding, r.get(c).Entry("weekly").Finding)
		require.Equal(t, provider.Malicious, r.get(c).Decision.Verdict)
	})
}

// TestAFindingThatComesDuringAPass: an attacker that is being worked on while another
// worker gets the answer about its address uses that, too.
func TestAFindingThatComesDuringAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly := scarce("weekly", 1, provider.Week)
		weekly.will(takes(3*time.Second, provider.Malicious))
		r := newRig(t, intel.Config{}, weekly)
		r.observe(ip(1))
		r.start()
		time.Sleep(time.Second)
		id := uuid.New()
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(1)}))
		slow := newSource("slow").will(takes(8*time.Second, provider.Unknown))
		rec, err := newRig(t, intel.Config{Store: r.store}, weekly, slow).worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.Equal(t, store.Fresh, rec.Entry("weekly").State)
		require.Equal(t, 1, weekly.asked())
	})
}

// TestAttackersThatWaitShareACall: attackers that wait for a quota with one address
// are answered by one call.
func TestAttackersThatWaitShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly := scarce("weekly", 1, provider.Week)
		r := newRig(t, intel.Config{}, weekly)
		r.observe(ip(1))
		r.start()
		ids := r.observe(ip(2), ip(2), ip(2))
		r.worker.Wake()
		time.Sleep(169 * time.Hour)
		synctest.Wait()
		require.Equal(t, 2, weekly.asked())
		for _, id := range ids {
			require.NotNil(t, r.get(id).Entry("weekly").Finding, "the answer was at hand")
		}
	})
}

// TestALadderOfProbes: an outage that costs calls costs few, and its end is noticed.
func TestALadderOfProbes(t *testing.T) {
	answer := func(status int, body string) func(string) (int, string) {
		return func(string) (int, string) { return status, body }
	}
	for name, c := range map[string]struct {
		refuses func(string) (int, string)
		lasts   time.Duration
		calls   int           // during the outage, at most
		noticed time.Duration // after its begin, at most
	}{
		"429 with an empty body for an hour":   {answer(429, ""), time.Hour, 2, 6 * time.Hour},
		"429 with an empty body for a week":    {answer(429, ""), provider.Week, 5, 0},
		"the service's own 429, for a week":    {answer(429, `{"message":"You have hit your rate limit","plan":"community"}`), provider.Week, 5, 0},
		"the allowance is spent, for a week":   {answer(429, `{"plan":"x","rate-limit":"25-W","plan_url":""}`), provider.Week, 5, 0},
		"502 for two hours":                    {answer(502, "<html>"), 2 * time.Hour, 2, 6 * time.Hour},
		"502 for a week":                       {answer(502, "<html>"), provider.Week, 5, 0},
		"a body that is no answer, for a week": {answer(200, "<html>"), provider.Week, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &noisy{refuses: c.refuses}
				r := newRig(t, intel.Config{}, greyNoise(t, n))
				r.observe(ips(15)...)
				r.start()
				time.Sleep(c.lasts - time.Second)
				synctest.Wait()
				require.LessOrEqual(t, n.calls(), c.calls)
				require.Positive(t, n.calls())
				n.will(nil, nil)
				if c.noticed == 0 {
					time.Sleep(4 * provider.Day)
					synctest.Wait()
					require.Positive(t, n.answered(), "noticed at all")
					return
				}
				time.Sleep(c.noticed - c.lasts)
				synctest.Wait()
				require.Equal(t, 15, n.answered())
			})
		})
	}
}

// TestAPoisonedAddressHasItsShare: an address for which the source always fails
// costs two calls of 25, and goes behind the others.
func TestAPoisonedAddressHasItsShare(t *testing.T) {
	for _, status := range []int{400, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				poisoned := ip(7)
				n := &noisy{refuses: func(ip string) (int, string) {
					if ip == poisoned {
						return status, `{"error":"Invalid IP submitted"}`
					}
					return 0, ""
				}}
				r := newRig(t, intel.Config{TTL: 30 * provider.Day}, greyNoise(t, n))
				ids := r.observe(ips(15)...)
				r.start()
				time.Sleep(6 * provider.Day)
				synctest.Wait()
				require.Equal(t, 14, n.answered())
				require.LessOrEqual(t, n.arrived[poisoned], 2)
				e := r.get(ids[7]).Entry("greynoise")
				require.Equal(t, store.Due, e.State)
				require.Greater(t, time.Until(e.Due), 12*time.Hour, "after one window")
				time.Sleep(provider.Week)
				synctest.Wait()
				most := 4
				if status == 500 { // there is nobody else any more, so it may be an outage
					most = 7
				}
				require.LessOrEqual(t, n.arrived[poisoned], most)
				require.Greater(t, n.arrived[poisoned], 2, "it gets another chance")
			})
		})
	}
}

// TestABadMinuteCostsOneCall: many attackers that wait for a reset do not meet a
// short outage all at once, however many workers there are.
func TestABadMinuteCostsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &noisy{}
		r := newRig(t, intel.Config{TTL: 60 * provider.Day}, greyNoise(t, n))
		others := make([]*rig, 3)
		r.observe(ips(25)...)
		r.start()
		for i := range others {
			others[i] = newRig(t, intel.Config{Store: r.store, TTL: 60 * provider.Day}, greyNoise(t, n))
			others[i].start()
		}
		time.Sleep(time.Hour)
		require.Equal(t, 25, n.calls())
		r.observe(ips(80)[25:]...)
		r.worker.Wake()
		time.Sleep(provider.Week - 2*time.Hour)
		require.Equal(t, 25, n.calls())
		var bad time.Time
		n.will(func(string) (int, string) {
			if bad.IsZero() {
				bad = time.Now()
			}
			if time.Since(bad) < time.Minute {
				return 502, ""
			}
			return 0, ""
		}, nil)
		time.Sleep(provider.Day)
		synctest.Wait()
		require.Equal(t, 50, n.calls())
		require.Equal(t, 49, n.answered())
	})
}

// TestAWaitThatIsAskedForIsKept: no longer and no shorter.
func TestAWaitThatIsAskedForIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daily := scarce("daily", 100, provider.Day)
		daily.will(fails(&provider.Error{
			Kind: provider.ErrQuotaExhausted, StatusCode: 429, RetryAfter: 2 * time.Hour,
			Usage: &provider.Usage{Limit: 100, Window: provider.Day},
		}))
		r := newRig(t, intel.Config{}, daily)
		r.observe(ips(20)...)
		r.start()
		time.Sleep(2*time.Hour - time.Second)
		synctest.Wait()
		require.Less(t, daily.asked(), 6)
		daily.will(says(provider.Benign))
		before := daily.asked()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Equal(t, before+20, daily.asked())
	})
}

// TestANewKeyIsBelieved: what was remembered of another key or a smaller plan holds
// nothing back, and status says what is.
func TestANewKeyIsBelieved(t *testing.T) {
	keyed := func(key string, quotas []provider.Quota) func(*greynoise.Options) {
		return func(o *greynoise.Options) { o.KeyFunc, o.Quotas = func() string { return key }, quotas }
	}
	for name, c := range map[string]struct {
		change func(*greynoise.Options)
		calls  int // at once, for 40 attackers
	}{
		"nothing new": {keyed("first", nil), 0},
		"a new key":   {keyed("second", nil), 25},
		"500/day":     {keyed("first", []provider.Quota{{Calls: 500, Window: provider.Day}}), 40},
		"none":        {keyed("first", []provider.Quota{}), 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &noisy{}
				r := newRig(t, intel.Config{}, greyNoise(t, n, keyed("first", nil)))
				r.observe(ips(25)...)
				r.start()
				time.Sleep(5 * time.Minute)
				n.will(func(string) (int, string) { return 429, `{"plan":"x","rate-limit":"25-W","plan_url":""}` }, nil)
				r.observe(ips(65)[25:]...)
				r.worker.Wake()
				time.Sleep(5 * time.Hour)
				r.stop()
				n.will(nil, nil)
				before := n.calls()

				again := newRig(t, intel.Config{Store: r.store}, greyNoise(t, n, c.change))
				status, err := again.worker.Status(t.Context())
				require.NoError(t, err)
				for _, q := range status.Providers[0].Quotas {
					require.Equal(t, c.calls > 0, q.Remaining > 0, "status says %+v", status.Providers[0])
				}
				again.start()
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				require.Equal(t, c.calls, n.calls()-before)
			})
		})
	}
}

// TestAnExhaustedQuotaIsLogged: one line says which, until when, and for how many.
func TestAnExhaustedQuotaIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&logged, nil))
		r := newRig(t, intel.Config{Logger: log}, scarce("weekly", 5, provider.Week))
		r.observe(ips(40)...)
		r.start()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
		var line struct {
			Provider string
			Limit    int
			Window   time.Duration
			Reset    time.Time
			Waiting  int
		}
		require.NoError(t, json.Unmarshal(logged.Bytes(), &line))
		require.Equal(t, "weekly", line.Provider)
		require.Equal(t, 5, line.Limit)
		require.Equal(t, provider.Week, line.Window)
		require.Equal(t, 35, line.Waiting)
		require.WithinDuration(t, time.Now().Add(provider.Week), line.Reset, time.Hour)
		time.Sleep(5 * provider.Day)
		require.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
	})
}

// TestRefreshFor: an attacker that was not seen for long costs no more calls, until
// it is seen again. Its decision stands.
func TestRefreshFor(t *testing.T) {
	days := func(t *testing.T, days int, c intel.Config, then func(r *rig, a, never *source, id uuid.UUID)) {
		synctest.Test(t, func(t *testing.T) {
			a := newSource("a")
			never := newSource("never").will(fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 503}))
			c.PollInterval = time.Hour
			b := membus.New(membus.Options{})
			ear := listen(t, b, intel.TopicEnriched)
			c.Bus = b
			r := newRig(t, c, a, never)
			id := r.observe(ip(1))[0]
			r.start()
			time.Sleep(time.Duration(days) * provider.Day)
			synctest.Wait()
			require.Len(t, ear.heard(), a.asked())
			then(r, a, never, id)
		})
	}
	days(t, 365, intel.Config{HealthInterval: -1}, func(r *rig, a, never *source, id uuid.UUID) {
		require.LessOrEqual(t, a.asked(), 34)
		require.GreaterOrEqual(t, a.asked(), 30)
		rec := r.get(id)
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.Greater(t, never.asked(), 365, "it has never answered")

		before := a.asked()
		never.will(says(provider.Unknown))
		time.Sleep(2 * provider.Day)
		synctest.Wait()
		rec = r.get(id)
		require.NotNil(t, rec.Entry("never").Finding)
		require.Equal(t, provider.Malicious, rec.Decision.Verdict, "the last decision stands")
		require.Equal(t, before, a.asked())

		a.will(says(provider.Suspicious))
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(1), LastSeen: time.Now()}))
		r.worker.Wake()
		synctest.Wait()
		require.Equal(t, before+1, a.asked(), "it was seen again")
		require.Equal(t, provider.Suspicious, r.get(id).Decision.Verdict)
	})
	days(t, 60, intel.Config{RefreshFor: -1, HealthInterval: -1}, func(r *rig, a, never *source, id uuid.UUID) {
		require.Greater(t, a.asked(), 60)
	})
}

// TestStatusOfAnIdleReplica: what other workers have spent is read when status is
// requested.
func TestStatusOfAnIdleReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := scarce("daily", 100, provider.Day)
		r := newRig(t, intel.Config{}, busy)
		idle := newRig(t, intel.Config{Store: r.store}, scarce("daily", 100, provider.Day))
		require.Equal(t, 100, idle.remaining("daily"))
		r.observe(ips(60)...)
		r.start()
		time.Sleep(10 * time.Second)
		require.Equal(t, 60, busy.asked())
		require.Equal(t, 40, idle.remaining("daily"))
	})
}
