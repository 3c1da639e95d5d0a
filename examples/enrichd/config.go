package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/export"
)

// config is what the environment says.
type config struct {
	enabled  bool
	database database
	bus      busConfig
	sources  []source // the providers to query; none if none is wanted
	chosen   string   // the flag or variable that names them; empty for the default
	lists    listConfig
	webhooks []export.WebhookOptions // without the outboxes
	own      []netip.Prefix          // networks that no provider is asked about
	token    string                  // that what is answered over HTTP asks for; empty for none
	warnings []string                // for the log
}

// providers returns the providers to query.
func (c *config) providers() []intel.Provider {
	ps := make([]intel.Provider, len(c.sources))
	for i, s := range c.sources {
		ps[i] = s.Provider
	}
	return ps
}

// enabled reads DECNET_INTEL_ENABLED. As in DECNET, only "false" switches off.
func (e *environment) enabled() bool {
	const name = "DECNET_INTEL_ENABLED"
	if strings.EqualFold(e.text(name), "false") {
		return false
	}
	if !e.boolean(name) {
		e.warn("%s is %.40q, which does not switch enrichd off; only false does", name, e.text(name))
	}
	return true
}

// readConfig reads the environment and DECNET's configuration files. The error
// names everything that is wrong with them.
func readConfig(o options, lookup lookup) (config, error) {
	e := &environment{lookup: lookup}
	e.addFiles(o.decnet)
	c := config{
		enabled:  e.enabled(),
		database: e.database(o),
		bus:      e.bus(),
	}
	var err error
	if o.unknown && c.bus.kind == busOff {
		e.refuse("-adopt-unknown needs a bus, and DECNET_BUS_ENABLED switches it off")
	}
	list := e.providerList(o)
	keep := e.keeping(o, c.database)
	c.sources, c.chosen = e.sources(list, o.abuseipdbDays, keep), list.chosen
	c.webhooks = e.webhooks(o)
	c.lists = e.lists(o, keep, list.text != "")
	c.sources = slices.DeleteFunc(c.sources, func(s source) bool { return c.lists.answersFor(s.name) })
	if o.own != "" {
		if c.own, err = ownNetworks(o.own); err != nil {
			e.refuse("-own: %w", err)
		}
	}
	if o.daemon {
		e.warn("-d has no effect: enrichd stays in the foreground; let systemd run it")
	}
	c.token = e.token()
	c.warnings = e.warnings
	return c, errors.Join(e.errs...)
}

// providerList is which providers to query.
type providerList struct {
	chosen string // what names them: a flag or a variable; empty for the default
	text   string
}

// providerList returns the list in -providers, or in DECNET_INTEL_PROVIDERS. If
// neither is set, all providers are queried. If the one that counts is set and
// empty, none is, as in DECNET.
func (e *environment) providerList(o options) providerList {
	const variable = "DECNET_INTEL_PROVIDERS"
	if o.providers != nil {
		return providerList{"-providers", strings.TrimSpace(*o.providers)}
	}
	if _, set := e.lookup(variable); set {
		return providerList{variable, e.text(variable)}
	}
	return providerList{text: strings.Join(known(), ",")}
}

// names returns the names in the list, each once.
func (l providerList) names() (names []string) {
	for name := range strings.SplitSeq(l.text, ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// sources reads how to query the providers in a list.
func (e *environment) sources(list providerList, days int, keep keeping) (sources []source) {
	if list.text == "" {
		e.warn("no provider is queried: %s is set and empty; remove it to query all", list.chosen)
		return nil
	}
	wrong := len(e.errs)
	for _, name := range list.names() {
		i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
		if i < 0 {
			e.refuse("%s names %.40q, which is not known; known are %s", list.chosen, name, strings.Join(known(), ", "))
			continue
		}
		s := source{service: &services[i]}
		var err error
		if s.key, err = e.key(s.variable("API_KEY")); err != nil {
			e.errs = append(e.errs, err)
			continue
		}
		if s.key == "" && s.needsKey {
			e.warn("leaving out %s: %s is not set", name, s.variable("API_KEY"))
			continue
		}
		if s.key == "" && s.ping != "" {
			e.warn("asking %s without a key, which allows only a few lookups a week: %s is not set", name, s.variable("API_KEY"))
		}
		if err := s.configure(e, days, keep); err != nil {
			e.errs = append(e.errs, err)
			continue
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 && len(e.errs) == wrong {
		e.refuse("no provider is left to ask; set the keys of those in %s, or add feodo, which needs none", list.chosen)
	}
	return sources
}

// names returns the names of the providers to query.
func (c *config) names() []string {
	var names []string
	for _, s := range c.sources {
		names = append(names, s.name)
	}
	return names
}
