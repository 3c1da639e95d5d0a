package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// commandsOf returns the shell commands on a page, block by block.
func commandsOf(t *testing.T, page string) (blocks []string) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, found := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, found[1])
	}
	return blocks
}

// cowrieLine is a line of Cowrie's log in JSON.
func cowrieLine(ip string, n int) string {
	return fmt.Sprintf(`{"eventid":"cowrie.login.failed","username":"root","password":"%d","message":"login attempt [root/%d] failed",`+
		`"sensor":"honeypot","timestamp":"%s","src_ip":"%s","session":"a1b2c3d4e5%02d","dst_ip":"198.51.100.9"}`+"\n",
		n, n, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), ip, n)
}

// TestCowriePage runs the commands of the page from a Cowrie log to a block list in
// nftables, with nft in a network of its own.
func TestCowriePage(t *testing.T) {
	if out, err := exec.Command("unshare", "-n", "nft", "list", "ruleset").CombinedOutput(); err != nil {
		t.Skipf("nft does not work in a network of its own here: %v: %s", err, out)
	}
	up, err := upstream.Start(upstream.Options{})
	require.NoError(t, err)
	t.Cleanup(up.Close)
	dir := t.TempDir()
	for _, name := range []string{"bin", "log", "lib", "etc"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	var log strings.Builder
	for i := range 5 {
		log.WriteString(cowrieLine(notorious(up, i), i))
	}
	log.WriteString(cowrieLine("10.1.2.3", 6))
	log.WriteString(cowrieLine("8.8.4.4", 7)) // nobody knows anything bad about it
	require.NoError(t, os.WriteFile(filepath.Join(dir, "log", "cowrie.json"), []byte(log.String()), 0o600))

	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	write("enrichd", asProgram+`=1 exec "$PROGRAM" "$@"`)
	write("nft", `exec nsenter -t "$NETWORK" -n "$NFT" "$@"`)
	nft, err := exec.LookPath("nft")
	require.NoError(t, err)
	network := exec.Command("unshare", "-n", "sleep", "600")
	require.NoError(t, network.Start())
	t.Cleanup(func() {
		require.NoError(t, network.Process.Kill())
		_ = network.Wait() // killed
	})
	eventually(t, "the network is there", func() bool {
		here, _ := os.Readlink("/proc/self/ns/net")
		there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", network.Process.Pid))
		return err == nil && here != there
	})

	script := "set -e\n"
	commands := 0
	for _, block := range commandsOf(t, "../../docs/cowrie-to-nftables.md") {
		if strings.Contains(block, "enrichd export") { // a reader takes longer than this script
			script += "until [ \"$(enrichd list -db /var/lib/enrichd/enrich.db -verdict malicious | wc -l)\" = 6 ]; do sleep 0.1; done\n"
		}
		if strings.HasPrefix(block, "enrichd list") {
			script += "until " + strings.TrimSpace(block) + " > /dev/null 2>&1; do sleep 0.1; done\n"
		}
		script += block
		commands++
	}
	script += "\nkill $!\nwait $!\n"
	for from, to := range map[string]string{"/etc/enrichd": "etc", "/var/lib/enrichd": "lib", "/var/log/cowrie": "log"} {
		script = strings.ReplaceAll(script, from, filepath.Join(dir, to))
	}
	// The page's own networks are documentation addresses, and so is the honeypot.
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "PROGRAM=" + os.Args[0], "NFT=" + nft,
		fmt.Sprintf("NETWORK=%d", network.Process.Pid), "DECNET_BUS_ENABLED=false",
	}
	for _, name := range known() {
		prefix := "DECNET_" + strings.ToUpper(name)
		cmd.Env = append(cmd.Env, prefix+"_URL="+up.URL(), prefix+"_API_KEY=key", prefix+"_QUOTA=none")
	}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("%d blocks of commands in %v", commands, time.Since(began))
	require.Contains(t, string(out), "exported 5 addresses of 5 attackers")

	list, err := exec.Command("nsenter", "-t", fmt.Sprint(network.Process.Pid), "-n", nft, "list", "table", "inet", "enrich").CombinedOutput()
	require.NoError(t, err, string(list))
	for i := range 5 {
		require.Contains(t, string(list), notorious(up, i)+" timeout 30d")
	}
	require.Contains(t, string(list), "ip saddr @attackers4 counter")
	require.NotContains(t, string(list), "8.8.4.4")
}

// TestComposeFile: enrichd accepts the arguments in the compose file.
func TestComposeFile(t *testing.T) {
	text, err := os.ReadFile("compose.yaml")
	require.NoError(t, err)
	_, args, found := strings.Cut(string(text), "command:\n")
	require.True(t, found)
	var flags []string
	for line := range strings.Lines(args) {
		flag, ok := strings.CutPrefix(line, "      - ")
		if !ok {
			break
		}
		flags = append(flags, strings.TrimSpace(flag))
	}
	require.Contains(t, flags, "-follow=/cowrie/log/cowrie/cowrie.json")
	_, err = parseFlags(flags)
	require.NoError(t, err)
}
