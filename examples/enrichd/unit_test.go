package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// setting of a unit, without comments.
func unitSettings(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && line[0] != '#' {
			settings[name] = append(settings[name], value)
		}
	}
	return settings
}

// TestUnit: the unit starts enrichd with flags that it knows, on the install directory
// that it may write to, and asks providers although DECNET's own worker is silenced.
func TestUnit(t *testing.T) {
	unit := unitSettings(t, "enrichd.service")
	args := strings.Fields(unit["ExecStart"][0])
	require.Equal(t, "/usr/local/bin/enrichd", args[0])
	o, err := parseFlags(args[1:])
	require.NoError(t, err)
	require.Equal(t, unit["ReadWritePaths"], []string{o.decnet})
	require.Equal(t, "/opt/decnet", o.decnet)
	e := &environment{lookup: setting(map[string]string{"DECNET_INTEL_PROVIDERS": ""})}
	require.Equal(t, known(), e.providerList(o).names())
	for _, file := range []string{"enrichd.service", "../busd/decnet-bus.service"} {
		analyze, err := exec.LookPath("systemd-analyze")
		if err != nil {
			t.Skip("systemd-analyze is not there")
		}
		absolute, err := filepath.Abs(file)
		require.NoError(t, err)
		text, err := os.ReadFile(absolute)
		require.NoError(t, err)
		// The programs and the user need not be there.
		there := strings.NewReplacer("/usr/local/bin/enrichd", "/bin/true", "/usr/local/bin/busd", "/bin/true", "=decnet", "=root").Replace(string(text))
		copied := filepath.Join(t.TempDir(), filepath.Base(file))
		require.NoError(t, os.WriteFile(copied, []byte(there), 0o600))
		out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput()
		require.NotContains(t, string(out), filepath.Base(file)+":", "%v", err)
	}
}

// TestSilencedWorker: one environment silences DECNET's own worker, for which the
// list is empty, and not enrichd.
func TestSilencedWorker(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_INTEL_PROVIDERS"], s.env["DECNET_BUS_ENABLED"] = "", "false"
	r := runWith(t, s.env, "-check", "-listen", "", "-providers", "feodo")
	require.Contains(t, r.stdout, "asks feodo, as -providers says")
	r = runWith(t, s.env, "-check", "-listen", "")
	require.Contains(t, r.stdout, "DECNET_INTEL_PROVIDERS is set and empty")
}

// TestControlStop: a stop for enrich ends enrichd with 0, so that systemd does not
// start it again.
func TestControlStop(t *testing.T) {
	s := newSite(t, upstream.Options{})
	defer s.startBus()()
	p := s.start()
	p.until("enriching")
	b := s.connect()
	eventually(t, "it ends", func() bool { // it may not have subscribed yet
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: []byte(`{"action":"stop"}`)}))
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	})
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, []string{"on-failure"}, unitSettings(t, "enrichd.service")["Restart"])
}
