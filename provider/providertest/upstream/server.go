// Package upstream plays the threat-intelligence services that this module's
// providers ask: one HTTP server on the loopback interface that answers for
// GreyNoise, AbuseIPDB, ThreatFox and Feodo Tracker at their real paths, with
// their real statuses, shapes, headers, key checks and quotas, and that fails
// on command in every way a service on the internet does. It is meant for
// tests, benchmarks and demonstrations.
//
// The same address gets the same answer at every run: see [ProfileOf]. Answers
// can be set explicitly as well.
//
// The package imports only the standard library, and not package testing, so
// that a program can use it too.
package upstream

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Source is one of the services that a [Server] plays.
type Source uint8

// The services, and the paths they answer at.
const (
	None      Source = iota // no service
	GreyNoise               // GET /v3/community/{ip}, POST /v3/ip
	AbuseIPDB               // GET /api/v2/check
	ThreatFox               // POST /api/v1/
	Feodo                   // GET /downloads/ipblocklist.json
	Custom                  // every other path, if Options.Handler is set
)

var sourceNames = [...]string{"none", "greynoise", "abuseipdb", "threatfox", "feodo", "custom"}

// String returns the name of the service in lower case.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprintf("Source(%d)", uint8(s))
}

// Options configure a [Server]. The zero value is a server that accepts every
// key, has no quotas and never fails.
type Options struct {
	// Addr is the loopback address and port to listen on. Default: 127.0.0.1
	// and a port that is free.
	Addr string
	// Keys are the keys that a service accepts. A service without an entry
	// accepts any key; AbuseIPDB and ThreatFox want one even then, the others
	// do not. Feodo never looks at keys.
	Keys map[Source][]string
	// Community makes GreyNoise answer only about one address at a time: questions about
	// many are refused to every key.
	Community bool
	// Quotas are the plans: every quota of a service has to have room for a
	// call. A service without an entry has no quota.
	Quotas map[Source][]Quota
	// Feodo is the block list; nil means a short list of old entries, and a
	// list that is empty but not nil means an empty one.
	Feodo []FeodoRow
	// FeodoValidators makes Feodo send ETag and Last-Modified and answer 304
	// to a conditional request that matches. It is not known whether the real
	// service does.
	FeodoValidators bool
	// Handler answers for [Custom], a service of the caller's, and checks its
	// keys and quotas.
	Handler http.Handler
	// Refusal is the body, in JSON, by which [Custom] refuses a call if it is told to
	// fail by [Unauthorized], [Payment] or [Forbidden]. Default: an object with the
	// member message.
	Refusal string
	// Now is the clock of quotas and reset times. Default: time.Now.
	Now func() time.Time
	// Keep is how many of the latest requests to each service [Server.Requests]
	// can return. Default: 128. A negative number means none.
	Keep int
}

// Server is a running server. Its methods are safe for concurrent use; what
// they set takes effect with the next request.
type Server struct {
	url        string
	keys       map[Source][]string
	validators bool
	community  bool
	custom     http.Handler
	refusal    string
	now        func() time.Time

	desks      [Custom + 1]desk
	book       book
	redirected atomic.Int64

	http    *http.Server
	served  chan struct{} // closed when http.Serve has returned
	conns   sync.WaitGroup
	closing chan struct{} // closed by Close; releases hanging handlers
	close   sync.Once
}

// Start starts a server. It returns an error if the options make no sense or
// the address cannot be listened on.
func Start(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("upstream server: %w", err)
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep == 0 {
		o.Keep = 128
	}
	if o.Feodo == nil {
		o.Feodo = oldRows
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("upstream server: %w", err)
	}
	s := &Server{
		url:        "http://" + listener.Addr().String(),
		keys:       o.Keys,
		validators: o.FeodoValidators,
		community:  o.Community,
		custom:     o.Handler,
		refusal:    o.Refusal,
		now:        o.Now,
		served:     make(chan struct{}),
		closing:    make(chan struct{}),
	}
	for i := range s.desks {
		s.desks[i].keep = max(o.Keep, 0)
	}
	for source, quotas := range o.Quotas {
		s.SetQuota(source, quotas...)
	}
	s.SetFeodo(o.Feodo...)
	s.http = &http.Server{
		Handler:   s,
		ConnState: s.connState,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener) // always an error: that of being closed
	}()
	return s, nil
}

func (o *Options) validate() error {
	var errs []error
	if o.Addr != "" {
		ap, err := netip.ParseAddrPort(o.Addr)
		if err != nil || !ap.Addr().IsLoopback() {
			errs = append(errs, fmt.Errorf("Addr %q is not a loopback address with a port, like 127.0.0.1:8080", o.Addr))
		}
	}
	for source := range o.Keys {
		if source != GreyNoise && source != AbuseIPDB && source != ThreatFox {
			errs = append(errs, fmt.Errorf("Keys: %v does not check keys", source))
		}
	}
	for source, quotas := range o.Quotas {
		if source == None || source >= Custom {
			errs = append(errs, fmt.Errorf("Quotas: %v is not one of the four services", source))
		}
		for _, q := range quotas {
			if q.Calls < 0 || q.Window <= 0 {
				errs = append(errs, fmt.Errorf("Quotas: %v: %d calls in %v is not a quota", source, q.Calls, q.Window))
			}
		}
	}
	return errors.Join(errs...)
}

// URL returns the origin of the server, like http://127.0.0.1:40123, which
// stands for the origin of every service it plays.
func (s *Server) URL() string { return s.url }

// Close stops the server. It cuts the connections, releases the handlers that
// hang, and returns when they are gone. Further calls do nothing.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.closing)
		_ = s.http.Close() // the only error is that of closing the listener
		<-s.served
		s.conns.Wait()
	})
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}
