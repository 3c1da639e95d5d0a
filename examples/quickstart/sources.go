package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/threatfox"
)

// services are those that are asked, in the order of the table's columns.
var services = []struct {
	name string
	open func(key, origin string, quotas []provider.Quota) (provider.Provider, error)
}{
	{greynoise.Name, func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
		return greynoise.New(greynoise.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
	}},
	{abuseipdb.Name, func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
		return abuseipdb.New(abuseipdb.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
	}},
	{feodo.Name, func(_, origin string, _ []provider.Quota) (provider.Provider, error) {
		return feodo.New(feodo.Options{BaseURL: origin})
	}},
	{threatfox.Name, func(key, origin string, quotas []provider.Quota) (provider.Provider, error) {
		return threatfox.New(threatfox.Options{KeyFunc: func() string { return key }, BaseURL: origin, Quotas: quotas})
	}},
}

// sources are the providers in use.
type sources struct {
	providers []provider.Provider
	close     func()
}

// has reports whether the named provider is in use.
func (s *sources) has(name string) bool {
	return slices.ContainsFunc(s.providers, func(p provider.Provider) bool { return p.Name() == name })
}

func openSources(o options, addrs []netip.Addr, log io.Writer) (*sources, error) {
	if o.live {
		return openLive(log)
	}
	return openImitations(addrs, log)
}

// openLive opens the real services. One that cannot be used is left out.
func openLive(log io.Writer) (*sources, error) {
	s := &sources{close: func() {}}
	for _, service := range services {
		prefix := "DECNET_" + strings.ToUpper(service.name)
		key := os.Getenv(prefix + "_API_KEY")
		quotas, err := provider.ParseQuotas(os.Getenv(prefix + "_QUOTA"))
		if err != nil {
			return nil, fmt.Errorf("%s_QUOTA: %w", prefix, err)
		}
		p, err := service.open(key, os.Getenv(prefix+"_URL"), quotas)
		if err != nil {
			fmt.Fprintf(log, "Leaving out %v\n", err)
			continue
		}
		if service.name == greynoise.Name && key == "" {
			fmt.Fprintf(log, "Asking %s without a key, which allows only few lookups a week: %s_API_KEY is not set.\n", service.name, prefix)
		}
		s.providers = append(s.providers, p)
	}
	if len(s.providers) == 0 {
		return nil, errors.New("every provider was left out")
	}
	return s, nil
}

// openImitations starts imitations of the services, which know something about
// each of addrs.
func openImitations(addrs []netip.Addr, log io.Writer) (*sources, error) {
	server, err := upstream.Start(upstream.Options{Feodo: upstream.FeodoRows(addrs...), Keep: -1})
	if err != nil {
		return nil, err
	}
	s := &sources{close: server.Close}
	for _, service := range services {
		p, err := service.open("any", server.URL(), []provider.Quota{}) // their plans have no limits
		if err != nil {
			server.Close()
			return nil, err
		}
		s.providers = append(s.providers, p)
	}
	fmt.Fprintln(log, "Asking imitations of the services: THE ANSWERS ARE MADE UP. Use -live to ask the real ones.")
	return s, nil
}
