package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestCheckInputs: -check looks at whatever attackers come from and events go to, and
// changes nothing.
func TestCheckInputs(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret + "greynoise")})
	s.env["DECNET_BUS_ENABLED"] = "false"
	receiver := newPosted(t)
	dir := t.TempDir()
	log, own := filepath.Join(dir, "cowrie.json"), filepath.Join(dir, "own.db")
	require.NoError(t, os.WriteFile(log, []byte("line\n"), 0o600))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	args := []string{
		"-check", "-listen", "", "-ingest-listen", "tcp://" + freePort(t), "-export-listen", busy.Addr().String(),
		"-webhook", receiver.URL + "/s3cr3t-path", "-webhook-secret-file", secretFile(t), "-webhook-allow-internal",
	}

	r := runWith(t, s.env, append(args, "-db", own, "-create", "-follow", log)...)
	require.Equal(t, exitOK, r.code, r.stdout)
	rows := table(t, r.stdout)
	require.Equal(t, "ok", rows["inputs"][0], r.stdout)
	require.Equal(t, [2]string{"ok", log + ": 5 bytes"}, rows["follow"])
	require.Equal(t, "ok", rows["ingest"][0])
	require.Equal(t, "note", rows["exports"][0])
	require.Contains(t, rows["exports"][1], "-export-listen")
	require.Equal(t, "ok", rows["webhook"][0])
	require.Contains(t, rows["webhook"][1], receiver.URL+" is reachable")
	require.NotContains(t, r.stdout, "s3cr3t")
	require.Empty(t, receiver.events)
	require.NoFileExists(t, own)

	receiver.Close()
	r = runWith(t, s.env, append(args, "-follow", filepath.Join(dir, "absent"))...) // on DECNET's database
	require.Equal(t, exitFailed, r.code, r.stdout)
	rows = table(t, r.stdout)
	require.Equal(t, "FAILED", rows["inputs"][0])
	require.Contains(t, rows["inputs"][1], "rejected on DECNET's database")
	require.Equal(t, "note", rows["follow"][0])
	require.Equal(t, "note", rows["webhook"][0])
	require.Contains(t, rows["webhook"][1], "cannot connect to "+receiver.URL)
	require.NotContains(t, r.stdout, "s3cr3t")
}
