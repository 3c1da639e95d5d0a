package intel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
)

// profiles returns how much the opinion of each provider is worth, by name: what
// it declares, with what Config.Profiles overrides.
func (c *Config) profiles(ids []gate.Identity) map[string]provider.Profile {
	profiles := make(map[string]provider.Profile, len(ids))
	for _, id := range ids {
		profile, ok := c.Profiles[id.Name]
		if !ok {
			profiles[id.Name] = id.Profile
			continue
		}
		profile.Local = id.Profile.Local
		profile.NoRepublish = profile.NoRepublish || id.Profile.NoRepublish
		profiles[id.Name] = profile
	}
	return profiles
}

// validateProfiles reports profiles that make no sense, and names in Profiles
// and in the policy that no provider has.
func (c *Config) validateProfiles(ids []gate.Identity) error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("intel: Config."+format, args...))
	}
	profiles := c.profiles(ids)
	var circle []string
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		err := profiles[name].Validate()
		_, override := c.Profiles[name]
		switch {
		case err == nil:
		case override:
			refuse("Profiles[%q]: %w", name, err)
		default:
			refuse("Providers: the profile of %s: %w", name, err)
		}
		if derives(profiles, name, name, map[string]bool{}) {
			circle = append(circle, name)
		}
	}
	if circle != nil {
		refuse("Profiles: DerivedFrom leads from each of %q back to itself, so they could silence each other", circle)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		if _, ok := profiles[name]; !ok {
			refuse("Profiles names %q; there is no such provider", name)
		}
	}
	for _, id := range ids {
		if c.Profiles[id.Name].Local && !id.Profile.Local {
			refuse("Profiles[%q].Local is set; only the provider itself can declare that", id.Name)
		}
	}
	if p, ok := c.Policy.(interface{ Sources() []string }); ok {
		for _, name := range p.Sources() {
			if _, ok := profiles[name]; !ok {
				refuse("Policy names %q; there is no such provider", name)
			}
		}
	}
	return errors.Join(errs...)
}

// derives reports whether one provider is derived from another, directly or
// through others that are not in seen.
func derives(profiles map[string]provider.Profile, name, from string, seen map[string]bool) bool {
	return slices.ContainsFunc(profiles[name].DerivedFrom, func(source string) bool {
		if source == from {
			return true
		}
		if seen[source] {
			return false
		}
		seen[source] = true
		return derives(profiles, source, from, seen)
	})
}

// evidence returns the findings in l that count for the verdict. They are of the worker's
// providers and not too old at now.
func (w *Worker) evidence(l *ledger, now time.Time) []aggregate.Evidence {
	evidence := make([]aggregate.Evidence, 0, len(w.sources))
	for _, s := range w.sources {
		e := l.record.Entry(s.Name())
		if e == nil || e.Finding == nil || l.tooOld(e, now, w.config.MaxStale) {
			continue
		}
		stale := expired(e, now)
		if s.Local() { // too old to silence others
			stale = s.List().Stale
		}
		evidence = append(evidence, aggregate.Evidence{
			Finding: e.Finding, Profile: w.profiles[s.Name()], Stale: stale, Current: s.Local() && !stale,
		})
	}
	return evidence
}

// decide returns the policy's decision on l at now. Its Policy also identifies
// the profiles, so that a decision by other profiles is another decision.
func (w *Worker) decide(l *ledger, now time.Time) aggregate.Decision {
	d := w.config.Policy.Decide(w.evidence(l, now), now)
	d.Policy = w.policy
	return d
}
