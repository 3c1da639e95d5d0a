package intel_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/threatfox"
	"github.com/decnet/enrich/store/memstore"
)

// profiled is a source that declares a profile.
type profiled struct {
	*source
	profile provider.Profile
}

func (p profiled) Profile() provider.Profile { return p.profile }

// wrapped is a decorator that hides what it does not know.
type wrapped struct{ intel.Provider }

func (w wrapped) Unwrap() provider.Provider { return w.Provider }

func declares(name string, p provider.Profile) profiled { return profiled{newSource(name), p} }

func TestProfilesThatAreDeclared(t *testing.T) {
	for name, tt := range map[string]struct {
		p    provider.Provider
		want provider.Profile
	}{
		feodo.Name:     {&feodo.Provider{}, provider.Profile{Confidence: 0.95, Group: "abuse_ch", Rank: 1}},
		threatfox.Name: {&threatfox.Provider{}, provider.Profile{Confidence: 0.9, Group: "abuse_ch", Rank: 1}},
		greynoise.Name: {&greynoise.Provider{}, provider.Profile{Confidence: 0.8}},
		abuseipdb.Name: {&abuseipdb.Provider{}, provider.Profile{Confidence: 0.7, NoRepublish: true}},
	} {
		p, ok := provider.As[provider.Profiled](tt.p)
		require.True(t, ok, name)
		require.Equal(t, tt.want, p.Profile(), name)
		require.NoError(t, p.Profile().Validate(), name)
		require.Equal(t, name, tt.p.Name())
	}
}

func TestNewWorkerValidatesProfiles(t *testing.T) {
	valid := func(ps ...intel.Provider) intel.Config { return intel.Config{Store: memstore.New(), Providers: ps} }
	for name, tt := range map[string]struct {
		config intel.Config
		want   string // empty: valid
	}{
		"declared": {valid(declares("a", provider.Profile{Confidence: 1, DerivedFrom: []string{"nobody"}, Local: true})), ""},
		"declared wrongly": {
			valid(declares("a", provider.Profile{Rank: 3})), "intel: Config.Providers: the profile of a: Rank is 3; it must be 0, 1 or 2",
		},
		"declared wrongly, wrapped": {valid(wrapped{declares("a", provider.Profile{Rank: 3})}), "the profile of a: Rank is 3"},
		"overridden": {
			func() intel.Config {
				c := valid(declares("a", provider.Profile{Rank: 3, Local: true, NoRepublish: true}), newSource("b"))
				c.Profiles = map[string]provider.Profile{"a": {Rank: 1, Local: true}, "b": {NoRepublish: true}}
				return c
			}(), "",
		},
		"overridden wrongly": {
			func() intel.Config {
				c := valid(newSource("a"))
				c.Profiles = map[string]provider.Profile{"a": {Confidence: 2}}
				return c
			}(), `intel: Config.Profiles["a"]: Confidence is 2; it must be from 0 to 1`,
		},
		"local": {
			func() intel.Config {
				c := valid(newSource("a"))
				c.Profiles = map[string]provider.Profile{"a": {Local: true}}
				return c
			}(), `intel: Config.Profiles["a"].Local is set; only the provider itself can declare that`,
		},
		"of nobody": {
			func() intel.Config {
				c := valid(newSource("a"))
				c.Profiles = map[string]provider.Profile{"b": {Rank: 1}}
				return c
			}(), `intel: Config.Profiles names "b"; there is no such provider`,
		},
		"derived from itself": {
			valid(declares("a", provider.Profile{DerivedFrom: []string{"a"}})), `DerivedFrom leads from each of ["a"] back to itself`,
		},
		"derived in a circle": {
			valid(declares("a", provider.Profile{DerivedFrom: []string{"x", "b"}}), declares("b", provider.Profile{DerivedFrom: []string{"c"}}),
				declares("c", provider.Profile{DerivedFrom: []string{"a", "b"}}), declares("d", provider.Profile{DerivedFrom: []string{"a"}})),
			`DerivedFrom leads from each of ["a" "b" "c"] back to itself`,
		},
		"derived in a chain": {
			valid(declares("a", provider.Profile{DerivedFrom: []string{"b", "c"}}), declares("b", provider.Profile{DerivedFrom: []string{"c"}}), newSource("c")), "",
		},
		"no provider": {valid(nil), "number 1 is nil"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := intel.NewWorker(tt.config)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// knowing is a policy that treats some sources specially.
type knowing struct {
	aggregate.Strongest
	sources []string
}

func (p knowing) Sources() []string { return p.sources }

func TestNewWorkerRejectsNamesInThePolicy(t *testing.T) {
	c := intel.Config{Store: memstore.New(), Providers: []intel.Provider{newSource("a")}, Policy: knowing{sources: []string{"a"}}}
	_, err := intel.NewWorker(c)
	require.NoError(t, err)
	c.Policy = knowing{sources: []string{"a", "allow_list"}}
	_, err = intel.NewWorker(c)
	require.ErrorContains(t, err, `intel: Config.Policy names "allow_list"; there is no such provider`)
}

// The policy sees the profiles, and the decision says by which it was made.
func TestDecisionsByProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scanners := declares("scanners", provider.Profile{Rank: provider.RankVerified, Local: true})
		scanners.will(says(provider.Benign))
		r := newRig(t, intel.Config{}, wrapped{scanners}, newSource("abuseipdb"))
		id := r.observe(ip(0))[0]
		require.NoError(t, r.worker.Drain(t.Context()))
		was := r.get(id)
		require.Equal(t, provider.Benign, was.Decision.Verdict)
		require.Equal(t, "benign: scanners (benign) decides; abuseipdb (malicious) is outranked", was.Decision.String())
		require.Equal(t, aggregate.Fingerprint(aggregate.Strongest{}, map[string]provider.Profile{
			"scanners": {Rank: provider.RankVerified}, "abuseipdb": {},
		}), was.Decision.Policy)
		require.NotEqual(t, "strongest/2", was.Decision.Policy)

		rescore := func(profiles map[string]provider.Profile) intel.Rescored {
			t.Helper()
			c := r.config
			c.Profiles = profiles
			w, err := intel.NewWorker(c)
			require.NoError(t, err)
			done, err := w.Rescore(t.Context(), "")
			require.NoError(t, err)
			return done
		}
		// The same profiles, and what is of no importance for a verdict, are no change.
		require.Equal(t, intel.Rescored{Seen: 1}, rescore(nil))
		require.Equal(t, intel.Rescored{Seen: 1}, rescore(map[string]provider.Profile{
			"scanners": {Rank: provider.RankVerified, Local: true}, "abuseipdb": {NoRepublish: true},
		}))
		// Another profile is a change, also where the verdict stays.
		require.Equal(t, intel.Rescored{Seen: 1, Changed: 1}, rescore(map[string]provider.Profile{"abuseipdb": {Confidence: 0.9}, "scanners": {Rank: 1}}))
		require.Equal(t, provider.Benign, r.get(id).Decision.Verdict)
		require.NotEqual(t, was.Decision.Policy, r.get(id).Decision.Policy)
		require.Equal(t, intel.Rescored{Seen: 1, Changed: 1, Verdicts: 1}, rescore(map[string]provider.Profile{"scanners": {}}))
		require.Equal(t, provider.Malicious, r.get(id).Decision.Verdict)
		require.Equal(t, "strongest/2", r.get(id).Decision.Policy)
		require.Equal(t, intel.Rescored{Seen: 1, Changed: 1, Verdicts: 1}, rescore(nil))
		require.Equal(t, was.Decision, r.get(id).Decision)
	})
}

// A call is spared only where no answer could change the verdict, given the
// profile of the provider that would answer.
func TestSkippingByProfiles(t *testing.T) {
	for name, tt := range map[string]struct {
		rank, calls int
	}{
		"reputation": {provider.RankReputation, 0},
		"verified":   {provider.RankVerified, 1}, // it could say malicious
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				scanners, free := declares("scanners", provider.Profile{Rank: provider.RankVerified}), newSource("free")
				scanners.will(says(provider.Benign))
				free.will(func(context.Context, netip.Addr) (provider.Finding, error) {
					return provider.Finding{Verdict: provider.Unknown, TTL: time.Hour}, nil
				})
				r := newRig(t, intel.Config{}, scanners, free)
				r.observe(ip(0))
				require.NoError(t, r.worker.Drain(t.Context()))

				time.Sleep(2 * time.Hour) // the attacker is due, and the opinion is fresh
				daily := scarce("daily", 100, provider.Day)
				c := r.config
				c.Providers = []intel.Provider{scanners, free, daily}
				c.Profiles = map[string]provider.Profile{"daily": {Rank: tt.rank}}
				c.Spending.SkipDecided = true
				w, err := intel.NewWorker(c)
				require.NoError(t, err)
				require.NoError(t, w.Drain(t.Context()))
				require.Equal(t, tt.calls, daily.asked())
			})
		})
	}
}
