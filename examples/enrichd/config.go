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
	sources  []source // whom to ask
	warnings []string // for the log
}

// providers returns whom to ask.
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
	get  func(string) string
	errs []error
}

// text returns a variable without surrounding white space.
func (e *environment) text(name string) string { return strings.TrimSpace(e.get(name)) }

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

// readConfig reads the environment. The error names everything that is wrong
// with it.
func readConfig(getenv func(string) string) (config, error) {
	e := &environment{get: getenv}
	c := config{
		enabled:  e.boolean("DECNET_INTEL_ENABLED"),
		database: e.database(),
		bus:      e.bus(),
	}
	if doubt := c.database.doubt(); doubt != "" {
		c.warnings = append(c.warnings, doubt)
	}
	e.sources(&c)
	return c, errors.Join(e.errs...)
}

// sources reads whom to ask.
func (e *environment) sources(c *config) {
	wrong := len(e.errs)
	for _, name := range e.providers() {
		i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
		if i < 0 {
			e.refuse("DECNET_INTEL_PROVIDERS names %.40q, which is not known; known are %s", name, strings.Join(known(), ", "))
			continue
		}
		s := source{service: &services[i], key: e.text(services[i].variable("API_KEY"))}
		if s.key == "" && s.needsKey {
			c.warnings = append(c.warnings, "leaving out "+name+": "+s.variable("API_KEY")+" is not set")
			continue
		}
		if s.key == "" && s.ping != "" {
			c.warnings = append(c.warnings, "asking "+name+" without a key, which allows only a few lookups a week: "+s.variable("API_KEY")+" is not set")
		}
		if err := s.configure(e); err != nil {
			e.errs = append(e.errs, err)
			continue
		}
		c.sources = append(c.sources, s)
	}
	if len(c.sources) == 0 && len(e.errs) == wrong {
		e.refuse("no provider is left to ask; set the keys of those in DECNET_INTEL_PROVIDERS, or add feodo, which needs none")
	}
}

// providers returns the names of the providers that are wanted, each once.
func (e *environment) providers() []string {
	list := e.text("DECNET_INTEL_PROVIDERS")
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

// names returns the names of those who are asked.
func (c *config) names() []string {
	var names []string
	for _, s := range c.sources {
		names = append(names, s.name)
	}
	return names
}
