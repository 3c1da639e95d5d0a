// Package deptest says which packages of this module may depend on which, and
// on what outside of it, and checks that they do not depend on anything else.
package deptest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const module = "github.com/decnet/enrich"

// pkg is a package as go list describes it.
type pkg struct {
	ImportPath string
	Standard   bool     // of the standard library
	Deps       []string // all it depends on, directly or not, tests aside
}

// outside are the modules a user of this one links.
var outside = []string{"github.com/google/uuid", "golang.org/x/sync"}

// modules are the packages for users that are modules of their own. The
// internal packages of this one are not theirs.
var modules = []string{"bus/natsbus"}

// client are the modules a user of bus/natsbus links besides.
var client = []string{
	"github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/nuid",
	"github.com/klauspost/compress", "golang.org/x/crypto", "golang.org/x/sys",
}

// rule says what packages may depend on.
type rule struct {
	packages  string   // whom it concerns: a pattern of path.Match, or DIR/... for all below DIR
	contracts bool     // they may depend on all the contracts
	inside    []string // and on these packages of this module, by such patterns
	outside   []string // and on packages of these modules
}

// contracts are the packages everything else is made for.
var contracts = []string{"provider", "bus", "aggregate", "store"}

// text is the one package that everything may depend on, because bus does. It
// depends on nothing but the standard library.
const text = "internal/jsontext"

// rules lists the layers. The first rule that matches a package counts. The
// standard library is free to all, but for testing.
var rules = []rule{
	{packages: "."}, // documentation
	{packages: "provider"},
	{packages: "bus"},
	{packages: "aggregate", inside: []string{"provider"}},
	{packages: "store", inside: []string{"provider", "bus", "aggregate"}, outside: outside},
	{packages: "store/decnet", contracts: true, outside: outside},
	{packages: "intel", contracts: true, inside: []string{"store/decnet", "intel/internal/...", "internal/..."}, outside: outside},
	{packages: "intel/internal/...", contracts: true, inside: []string{"intel/internal/...", "internal/..."}, outside: outside},

	{packages: "intel/intelmock", contracts: true, outside: append([]string{"go.uber.org/mock"}, outside...)},
	{packages: "intel/dashboard", contracts: true, inside: []string{"store/decnet", "intel", "intel/httpapi", "intel/internal/...", "internal/..."}, outside: outside},
	{packages: "intel/intake", contracts: true, inside: []string{"intel/sighting", "internal/..."}, outside: outside},
	{packages: "intel/*", contracts: true, inside: []string{"store/decnet", "intel", "intel/internal/...", "internal/..."}, outside: outside},

	{packages: "provider/providertest/upstream"},
	{packages: "provider/providertest", inside: []string{"provider", "provider/providertest/upstream"}, outside: outside},
	{packages: "provider/lists", inside: []string{"provider", "provider/rest", "provider/feed", "provider/threatfox", "internal/..."}, outside: outside},
	{packages: "provider/*", inside: []string{"provider", "provider/rest", "provider/feed", "internal/..."}, outside: outside},

	{packages: "store/storetest", contracts: true, inside: []string{"store/decnet", "store/memstore", "internal/netset"}, outside: outside},
	{packages: "store/...", contracts: true, inside: []string{"store/decnet", "internal/..."}, outside: outside},

	{packages: "bus/natsbus", inside: []string{"bus", "bus/reconnect", "internal/backoff"}, outside: client}, // backoff through reconnect
	{packages: "bus/*", inside: []string{"bus", "bus/reconnect", "internal/..."}, outside: outside},

	{packages: text},
	{packages: "internal/lenient"},
	{packages: "internal/abusech", inside: []string{"provider", "provider/rest", "internal/..."}, outside: outside},
	{packages: "internal/sources", inside: []string{"provider", "internal/lenient"}},
	{packages: "internal/...", contracts: true, inside: []string{"internal/..."}, outside: outside},
}

// forTests reports whether a package is there for tests: a conformance suite,
// or mocks.
func forTests(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, "test") || base == "suitecheck" || base == "intelmock"
}

// violations returns what breaks the rules in a graph that holds every package
// of the module and all their dependencies.
func violations(graph []pkg) []string {
	standard := map[string]bool{}
	for _, p := range graph {
		standard[p.ImportPath] = p.Standard
	}
	var found []string
	for _, p := range graph {
		name, ours := inModule(p.ImportPath)
		if !ours {
			continue
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return match(r.packages, name) })
		if i < 0 {
			found = append(found, fmt.Sprintf("%s: no rule; add one to internal/deptest", name))
			continue
		}
		for _, dep := range p.Deps {
			if reason := rules[i].refuses(name, dep, standard[dep]); reason != "" {
				found = append(found, fmt.Sprintf("%s depends on %s: %s", name, dep, reason))
			}
		}
	}
	return found
}

// refuses returns why the package called name may not depend on dep, or "".
func (r rule) refuses(name, dep string, standard bool) string {
	inside, ours := inModule(dep)
	switch {
	case standard:
		if !forTests(name) && (dep == "testing" || strings.HasPrefix(dep, "testing/")) {
			return "only tests and suites may"
		}
		return ""
	case !ours:
		if !slices.ContainsFunc(r.outside, func(m string) bool { return dep == m || strings.HasPrefix(dep, m+"/") }) {
			return "a user would have to link it"
		}
		return ""
	case forTests(inside) && !forTests(name):
		return "only tests and suites may"
	case inside == text,
		r.contracts && slices.Contains(contracts, inside),
		slices.ContainsFunc(r.inside, func(pattern string) bool { return match(pattern, inside) }):
		return ""
	}
	return "against the layers"
}

// inModule returns a package's path relative to the module, "." for its root.
func inModule(importPath string) (name string, ours bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func match(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(name, dir)
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
