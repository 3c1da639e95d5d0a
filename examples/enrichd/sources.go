package main

import (
	"fmt"
	"net/url"
	"strings"

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
	open     func(key, origin string, quotas []provider.Quota) (provider.Provider, error)
}

// services are all there are, in the order in which they are asked for by
// default.
var services = []service{
	{
		name: greynoise.Name, origin: "https://api.greynoise.io", ping: "/ping",
		open: func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
			return greynoise.New(greynoise.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
		},
	},
	{
		name: abuseipdb.Name, origin: "https://api.abuseipdb.com", needsKey: true,
		open: func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
			return abuseipdb.New(abuseipdb.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
		},
	},
	{
		name: feodo.Name, origin: "https://feodotracker.abuse.ch",
		open: func(_, origin string, _ []provider.Quota) (provider.Provider, error) {
			return feodo.New(feodo.Options{BaseURL: origin})
		},
	},
	{
		name: threatfox.Name, origin: "https://threatfox-api.abuse.ch", needsKey: true,
		open: func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
			return threatfox.New(threatfox.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
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
	key   string
	asked string // the origin that is asked
}

// configure makes the provider, as its other variables say.
func (s *source) configure(e *environment) error {
	quotas, err := provider.ParseQuotas(e.text(s.variable("QUOTA")))
	if err != nil {
		return fmt.Errorf("%s: %w", s.variable("QUOTA"), err)
	}
	base := e.text(s.variable("URL"))
	if s.Provider, err = s.open(s.key, base, quotas); err != nil {
		return fmt.Errorf("%s or %s: %w", s.variable("API_KEY"), s.variable("URL"), err)
	}
	s.asked = s.origin
	if u, err := url.Parse(base); err == nil && base != "" {
		s.asked = u.Scheme + "://" + u.Host
	}
	return nil
}
