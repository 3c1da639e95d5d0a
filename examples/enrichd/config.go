package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/decnet/enrich/intel"
)

// config is what the environment says.
type config struct {
	enabled  bool
	database database
	bus      busConfig
	sources  []source // the providers to query; none if the environment asks for none
	warnings []string // for the log
}

// providers returns the providers to query.
func (c *config) providers() []intel.Provider {
	ps := make([]intel.Provider, len(c.sources))
	for i, s := range c.sources {
		ps[i] = s.Provider
	}
	return ps
}

// environment reads variables and collects what is wrong with them. Its errors
// repeat no value that could be a secret.
type environment struct {
	lookup   func(string) (string, bool) // as os.LookupEnv
	errs     []error
	warnings []string
}

// get returns a variable, and "" if it is not set.
func (e *environment) get(name string) string {
	value, _ := e.lookup(name)
	return value
}

// text returns a variable without surrounding white space.
func (e *environment) text(name string) string { return strings.TrimSpace(e.get(name)) }

// isEmpty reports whether a variable is set, and to nothing but white space.
func (e *environment) isEmpty(name string) bool {
	value, set := e.lookup(name)
	return set && strings.TrimSpace(value) == ""
}

func (e *environment) warn(format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

func (e *environment) refuse(format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf(format, args...))
}

// boolean returns a variable that is true or false, and true if it is not set.
func (e *environment) boolean(name string) bool {
	switch value := e.text(name); strings.ToLower(value) {
	case "", "1", "true", "yes", "on":
		return true
	case "0", "false", "no", "off":
		return false
	default:
		e.refuse("%s is %.40q; it must be true or false", name, value)
		return false
	}
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

// readConfig reads the environment. The error names everything that is wrong
// with it.
func readConfig(lookup func(string) (string, bool)) (config, error) {
	e := &environment{lookup: lookup}
	c := config{
		enabled:  e.enabled(),
		database: e.database(),
		bus:      e.bus(),
		sources:  e.sources(),
	}
	c.warnings = e.warnings
	return c, errors.Join(e.errs...)
}

// sources reads which providers to query.
func (e *environment) sources() (sources []source) {
	if e.isEmpty(providersVariable) {
		e.warn("no provider is queried: %s is set and empty; remove it to query all", providersVariable)
		return nil
	}
	wrong := len(e.errs)
	for _, name := range e.providers() {
		i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
		if i < 0 {
			e.refuse("%s names %.40q, which is not known; known are %s", providersVariable, name, strings.Join(known(), ", "))
			continue
		}
		s := source{service: &services[i], key: e.text(services[i].variable("API_KEY"))}
		if s.key == "" && s.needsKey {
			e.warn("leaving out %s: %s is not set", name, s.variable("API_KEY"))
			continue
		}
		if s.key == "" && s.ping != "" {
			e.warn("asking %s without a key, which allows only a few lookups a week: %s is not set", name, s.variable("API_KEY"))
		}
		if err := s.configure(e); err != nil {
			e.errs = append(e.errs, err)
			continue
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 && len(e.errs) == wrong {
		e.refuse("no provider is left to ask; set the keys of those in %s, or add feodo, which needs none", providersVariable)
	}
	return sources
}

// providersVariable names the providers to query. If it is not set, all are
// queried. If it is set and empty, none is, as in DECNET.
const providersVariable = "DECNET_INTEL_PROVIDERS"

// providers returns the names of the providers to query, each once.
func (e *environment) providers() []string {
	list := e.text(providersVariable)
	if list == "" {
		return known()
	}
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// names returns the names of the providers to query.
func (c *config) names() []string {
	var names []string
	for _, s := range c.sources {
		names = append(names, s.name)
	}
	return names
}
