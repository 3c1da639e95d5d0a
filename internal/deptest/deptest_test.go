package deptest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImports(t *testing.T) {
	graph := list(t, ".")
	for _, name := range append([]string{"intel", "intel/httpapi", "store/memstore", "bus/membus", "bus/unixbus"}, contracts...) {
		require.Contains(t, paths(graph), module+"/"+name)
	}
	require.Empty(t, violations(graph))
}

// TestImportsOfModules: packages for users that are modules of their own.
func TestImportsOfModules(t *testing.T) {
	for _, name := range modules {
		graph := list(t, name)
		require.Contains(t, paths(graph), module+"/"+name)
		require.Empty(t, violations(graph))
	}
}

// list returns the packages of the module in a directory and all they depend
// on.
func list(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..", filepath.FromSlash(dir))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var graph []pkg
	for d := json.NewDecoder(out); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		graph = append(graph, p)
	}
	require.NoError(t, cmd.Wait(), "go list")
	return graph
}

func paths(graph []pkg) []string {
	var paths []string
	for _, p := range graph {
		paths = append(paths, p.ImportPath)
	}
	return paths
}

func TestViolations(t *testing.T) {
	const (
		uuid = "github.com/google/uuid"
		sync = "golang.org/x/sync/errgroup"
		mock = "go.uber.org/mock/gomock"
	)
	ours := func(name string) string { return module + "/" + name }
	for _, test := range []struct {
		name, dep string
		allowed   bool
	}{
		{"provider", "net/netip", true},
		{"provider", "testing", false},
		{"provider", uuid, false},
		{"provider", ours("bus"), false},
		{"bus", uuid, false},
		{"bus", ours("bus/membus"), false},
		{"bus", ours("internal/jsontext"), true},
		{"bus", ours("internal/backoff"), false},
		{"internal/jsontext", ours("bus"), false},
		{"internal/jsontext", uuid, false},
		{"aggregate", ours("provider"), true},
		{"aggregate", ours("store"), false},
		{"store", uuid, true},
		{"store", ours("aggregate"), true},
		{"store", ours("store/memstore"), false},
		{"store", ours("intel"), false},
		{"intel", sync, true},
		{"intel", "golang.org/x/syncopate", false},
		{"intel", ours("intel/internal/gate"), true},
		{"intel", ours("bus/membus"), false},
		{"intel", ours("provider/greynoise"), false},
		{"intel", ours("internal/suitecheck"), false},
		{"intel", ours("intel/intelmock"), false},
		{"intel", "testing/synctest", false},
		{"intel", mock, false},
		{"intel/intelmock", mock, true},
		{"intel/intelmock", "github.com/stretchr/testify/require", false},
		{"intel/httpapi", ours("intel"), true},
		{"intel/httpapi", ours("store/sqlstore"), false},
		{"provider/feodo", ours("provider/feed"), true},
		{"provider/feodo", ours("provider/rest"), true},
		{"provider/feodo", ours("provider/greynoise"), false},
		{"provider/feodo", ours("store"), false},
		{"provider/feodo", ours("provider/providertest"), false},
		{"provider/feodo", "testing", false},
		{"provider/providertest", "testing", true},
		{"provider/providertest", ours("provider/greynoise"), false},
		{"provider/providertest/upstream", "net/http", true},
		{"provider/providertest/upstream", "testing", false},
		{"store/sqlstore", "modernc.org/sqlite", false},
		{"store/sqlstore", ours("store/memstore"), false},
		{"store/sqlstore", ours("store"), true},
		{"store/sqlstore", ours("store/decnet"), true},
		{"store/decnet", ours("store/sqlstore"), false},
		{"store", ours("store/decnet"), false},
		{"store/storetest", ours("store/memstore"), true},
		{"store/storetest", "testing", true},
		{"store/storetest", "go.uber.org/goleak", false},
		{"bus/membus", uuid, true},
		{"bus/membus", ours("store"), false},
		{"bus/unixbus", ours("bus"), true},
		{"bus/unixbus", ours("bus/membus"), false},
		{"bus/unixbus", ours("bus/bustest"), false},
		{"bus/unixbus", "testing", false},
		{"bus/membus", "github.com/nats-io/nats.go", false},
		{"bus/natsbus", ours("bus"), true},
		{"bus/natsbus", "github.com/nats-io/nats.go", true},
		{"bus/natsbus", "github.com/nats-io/nats-server/v2/server", false},
		{"bus/natsbus", ours("internal/decodetest"), false},
		{"bus/natsbus", ours("bus/membus"), false},
		{"bus/natsbus", ours("bus/bustest"), false},
		{"bus/natsbus", "testing", false},
		{"bus/bustest", ours("bus/membus"), false},
		{"internal/suitecheck", "testing", true},
		{"intel/internal/gate", "testing", false},
		{"intel/internal/gate", ours("provider"), true},
		{"intel/internal/gate", ours("intel"), false},
		{"store", ours("intel/internal/gate"), false},
		{"newcomer", "fmt", false},
	} {
		graph := []pkg{
			{ImportPath: ours(test.name), Deps: []string{test.dep}},
			{ImportPath: test.dep, Standard: !strings.Contains(test.dep, ".")},
		}
		if test.allowed {
			require.Empty(t, violations(graph))
		} else {
			require.Len(t, violations(graph), 1, "%s imports %s", test.name, test.dep)
			require.Contains(t, violations(graph)[0], test.name)
		}
	}
}
