package main

import (
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/threatfox"
)

// service is a provider that can be configured.
type service struct {
	name     string
	origin   string
	needsKey bool
	ping     string // a path that tests a key and costs no lookup; empty if there is none
	open     func(o serviceOptions) (provider.Provider, error)
}

// serviceOptions is how a service is configured.
type serviceOptions struct {
	key    func() string
	origin string
	quotas []provider.Quota
	days   int  // how many days back reports to AbuseIPDB count
	batch  bool // GreyNoise is asked about many addresses at a time
	keep   keeping
}

// services are all there are, in the order in which they are asked for by
// default.
var services = []service{
	{
		name: greynoise.Name, origin: "https://api.greynoise.io", ping: "/ping",
		open: func(o serviceOptions) (provider.Provider, error) {
			return greynoise.New(greynoise.Options{KeyFunc: o.key, BaseURL: o.origin, Quotas: o.quotas, Batch: o.batch})
		},
	},
	{
		name: abuseipdb.Name, origin: "https://api.abuseipdb.com", needsKey: true,
		open: func(o serviceOptions) (provider.Provider, error) {
			return abuseipdb.New(abuseipdb.Options{KeyFunc: o.key, BaseURL: o.origin, Quotas: o.quotas, MaxAgeDays: o.days})
		},
	},
	{
		name: feodo.Name, origin: "https://feodotracker.abuse.ch",
		open: func(o serviceOptions) (provider.Provider, error) {
			return feodo.New(feodo.Options{KeyFunc: o.key, BaseURL: o.origin, Dir: o.keep.dir, ReadOnly: o.keep.readOnly})
		},
	},
	{
		name: threatfox.Name, origin: "https://threatfox-api.abuse.ch", needsKey: true,
		open: func(o serviceOptions) (provider.Provider, error) {
			return threatfox.New(threatfox.Options{KeyFunc: o.key, BaseURL: o.origin, Quotas: o.quotas})
		},
	},
}

// known returns the names of all services.
func known() []string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.name
	}
	return names
}

// variable returns the name of one of the service's environment variables.
func (s *service) variable(what string) string {
	return "DECNET_" + strings.ToUpper(s.name) + "_" + what
}

// source is a service as it is configured.
type source struct {
	*service
	provider.Provider
	key   string                  // as it was at the start
	live  *atomic.Pointer[string] // the key that is used
	asked string                  // the origin that is asked
}

// configure makes the provider, as its other variables say.
func (s *source) configure(e *environment, days int, keep keeping) error {
	quotas, err := provider.ParseQuotas(e.text(s.variable("QUOTA")))
	if err != nil {
		return fmt.Errorf("%s: %w", s.variable("QUOTA"), err)
	}
	base := e.text(s.variable("URL"))
	s.live = new(atomic.Pointer[string])
	s.live.Store(&s.key)
	key := func() string { return *s.live.Load() }
	batch := s.name == greynoise.Name && e.text(s.variable("BATCH")) != "" && e.boolean(s.variable("BATCH"))
	if s.Provider, err = s.open(serviceOptions{key, base, quotas, days, batch, keep}); err != nil {
		return fmt.Errorf("%s or %s: %w", s.variable("API_KEY"), s.variable("URL"), err)
	}
	s.asked = s.origin
	if u, err := url.Parse(base); err == nil && base != "" {
		s.asked = u.Scheme + "://" + u.Host
	}
	return nil
}
