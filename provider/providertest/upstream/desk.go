package upstream

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// desk is where one service takes its calls: it counts them, remembers the
// last, and knows the trouble that was ordered and the quotas.
type desk struct {
	mu         sync.Mutex
	keep       int
	calls      int
	byAddr     map[netip.Addr]int
	inFlight   int
	peak       int
	requests   []Request // a ring once it holds keep of them
	next       int       // where the ring goes on
	delay      time.Duration
	failure    Failure
	failures   map[netip.Addr]Failure
	allowances []allowance
}

// Request is a request as a [Server] received it. Do not modify it.
type Request struct {
	Method string
	URI    string // path and query
	Host   string
	Header http.Header
	Body   string
	Addr   netip.Addr // the address it asked about; the zero Addr if none
}

// Calls returns how many requests the service has received, failed ones
// included.
func (s *Server) Calls(source Source) int {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// CallsFor returns how many of them asked about addr. Requests to [Feodo] and
// [Custom] ask about no address.
func (s *Server) CallsFor(source Source, addr netip.Addr) int {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byAddr[addr]
}

// Peak returns the greatest number of requests that the service was answering
// at one time.
func (s *Server) Peak(source Source) int {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peak
}

// Requests returns the latest requests to the service, oldest first.
func (s *Server) Requests(source Source) []Request {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(append([]Request(nil), d.requests[d.next:]...), d.requests[:d.next]...)
}

// Redirected returns how many requests have followed a [Redirect].
func (s *Server) Redirected() int { return int(s.redirected.Load()) }

// ResetCalls forgets all calls and requests counted so far. Quotas keep what
// was spent of them.
func (s *Server) ResetCalls() {
	s.redirected.Store(0)
	for i := range s.desks {
		d := &s.desks[i]
		d.mu.Lock()
		d.calls, d.byAddr, d.peak, d.requests, d.next = 0, nil, d.inFlight, nil, 0
		d.mu.Unlock()
	}
}

// Fail makes the service fail with every request from now on; [Well] ends that.
func (s *Server) Fail(source Source, f Failure) {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failure = f
}

// FailFor makes the service fail with every request about addr; [Well] ends
// that. It goes before what Fail says, and has no effect on [Feodo] and [Custom].
func (s *Server) FailFor(source Source, addr netip.Addr, f Failure) {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	if f == Well {
		delete(d.failures, addr)
		return
	}
	if d.failures == nil {
		d.failures = map[netip.Addr]Failure{}
	}
	d.failures[addr] = f
}

// Delay makes the service wait that long before it deals with a request, as a
// distant one would. Zero ends that.
func (s *Server) Delay(source Source, by time.Duration) {
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = by
}

// SetQuota replaces the quotas of the service, with nothing spent; without
// quotas it is unlimited. It panics if a quota's window is not positive.
func (s *Server) SetQuota(source Source, quotas ...Quota) {
	as := make([]allowance, len(quotas))
	for i, q := range quotas {
		if q.Window <= 0 {
			panic("upstream: quota without a window")
		}
		as[i].Quota = q
	}
	d := &s.desks[source]
	d.mu.Lock()
	defer d.mu.Unlock()
	d.allowances = as
}

// begin takes a request in and returns the trouble ordered for it.
func (d *desk) begin(r Request) (Failure, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	d.inFlight++
	d.peak = max(d.peak, d.inFlight)
	if r.Addr.IsValid() {
		if d.byAddr == nil {
			d.byAddr = map[netip.Addr]int{}
		}
		d.byAddr[r.Addr]++
	}
	switch {
	case len(d.requests) < d.keep:
		d.requests = append(d.requests, r)
	case d.keep > 0:
		d.requests[d.next] = r
		d.next = (d.next + 1) % d.keep
	}
	if f, ok := d.failures[r.Addr]; ok {
		return f, d.delay
	}
	return d.failure, d.delay
}

func (d *desk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
}

func (d *desk) charge(now time.Time) budget {
	d.mu.Lock()
	defer d.mu.Unlock()
	return charge(d.allowances, now)
}
