package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// wait is how long a test waits for what has to happen.
const wait = 30 * time.Second

// asProgram in the environment makes the test binary run the program.
const asProgram = "BUSD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a run of the program.
type process struct {
	*exec.Cmd
	log   *bufio.Scanner
	ended bool
}

// startBus starts the program on a socket and waits until it listens.
func startBus(t *testing.T, socket string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], append([]string{"-socket", socket}, args...)...)}
	p.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := p.StderrPipe()
	require.NoError(t, err)
	p.log = bufio.NewScanner(stderr)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		if !p.ended {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	p.until(t, "the bus listens")
	return p
}

// until reads the log, a JSON object a line, up to a message, and returns that
// line.
func (p *process) until(t *testing.T, message string) (line map[string]any) {
	t.Helper()
	timer := time.AfterFunc(wait, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	for p.log.Scan() {
		line = nil
		require.NoError(t, json.Unmarshal(p.log.Bytes(), &line), p.log.Text())
		if line["msg"] == message {
			return line
		}
	}
	require.Fail(t, "the program never logged it", message)
	return nil
}

// end sends a signal and returns the exit code.
func (p *process) end(t *testing.T, s os.Signal) int {
	t.Helper()
	require.NoError(t, p.Process.Signal(s))
	timer := time.AfterFunc(wait, func() { _ = p.Process.Kill() })
	defer timer.Stop()
	for p.log.Scan() { // Wait may only be called when all is read
	}
	p.ended = true
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

func client(t *testing.T, socket string) *unixbus.Bus {
	t.Helper()
	b, err := unixbus.New(unixbus.Options{Path: socket})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// passes waits until an event passes from one client to another.
func passes(t *testing.T, from, to *unixbus.Bus) {
	t.Helper()
	var sub bus.Subscription
	for deadline := time.Now().Add(wait); ; {
		require.True(t, time.Now().Before(deadline), "no event passes")
		var err error
		if sub, err = to.Subscribe(t.Context(), "a.*"); err != nil {
			require.ErrorIs(t, err, bus.ErrLost)
			<-time.After(5 * time.Millisecond)
			continue
		}
		_ = from.Publish(t.Context(), bus.Event{Topic: "a.b"})
		select {
		case ev, open := <-sub.Events():
			if open {
				require.Equal(t, "a.b", ev.Topic)
				require.NoError(t, sub.Close())
				return
			}
		case <-time.After(20 * time.Millisecond):
		}
		require.NoError(t, sub.Close())
	}
}

func socketFile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "busd")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "bus.sock")
}

func TestProcess(t *testing.T) {
	socket := socketFile(t)
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := startBus(t, socket, "-name", "mine", "-v")
		one, two := client(t, socket), client(t, socket)
		passes(t, one, two)
		line := p.until(t, "a client has come")
		require.Equal(t, "mine", line["bus"])
		require.Equal(t, "enrich", line["client"])
		sub, err := two.Subscribe(t.Context(), ">")
		require.NoError(t, err)
		require.Equal(t, exitOK, p.end(t, s))
		for range sub.Events() {
		}
		require.ErrorContains(t, sub.Err(), "goodbye")
		require.NoFileExists(t, socket)
	}
}

// TestKilled: a bus that was killed is no obstacle to the next one, and its
// clients come back.
func TestKilled(t *testing.T) {
	socket := socketFile(t)
	p := startBus(t, socket)
	one, two := client(t, socket), client(t, socket)
	passes(t, one, two)
	require.Equal(t, -1, p.end(t, os.Kill))
	require.FileExists(t, socket)
	p = startBus(t, socket)
	passes(t, one, two)

	// One that runs is.
	var stderr bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"-socket", socket}, io.Discard, &stderr))
	require.Contains(t, stderr.String(), "another server listens on this socket")
	passes(t, one, two)
	require.Equal(t, exitOK, p.end(t, syscall.SIGTERM))
}

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"-h"}, &stdout, &stderr))
	require.Equal(t, usage, stdout.String())
	require.Empty(t, stderr.String())
	for _, args := range [][]string{{"-unknown"}, {"-socket"}, {"bus.sock"}, {"--heartbeat", "soon"}, {"--heartbeat", "-1"}, {"--heartbeat", "NaN"}} {
		stderr.Reset()
		require.Equal(t, exitUsage, run(t.Context(), args, io.Discard, &stderr))
		require.True(t, strings.HasPrefix(stderr.String(), "busd: ") && strings.HasSuffix(stderr.String(), "-h for help.\n"), &stderr)
	}
}

// TestLikeDecnet: busd takes the flags of "decnet bus" and publishes its health.
func TestLikeDecnet(t *testing.T) {
	socket := socketFile(t)
	t.Setenv("DECNET_BUS_GROUP", "no-such-group")
	p := startBus(t, "ignored", "-s", socket, "-g", "also-no-group", "--heartbeat", "0.05", "-d")
	b := client(t, socket)
	sub, err := b.Subscribe(t.Context(), "system.*.health")
	require.NoError(t, err)
	for range 2 {
		ev := <-sub.Events()
		require.Equal(t, "system.bus.health", ev.Topic)
		require.Equal(t, "bus.health", ev.Type)
		var payload map[string]float64
		require.NoError(t, json.Unmarshal(ev.Payload, &payload))
		require.Len(t, payload, 3)
		require.EqualValues(t, p.Process.Pid, payload["pid"])
		require.InDelta(t, 15, payload["uptime_sec"], 15)
		require.InDelta(t, time.Now().Unix(), payload["ts"], 30)
	}
	require.Equal(t, exitOK, p.end(t, syscall.SIGTERM))
}

// TestGroup: the group comes from the flag, or else from the variable.
func TestGroup(t *testing.T) {
	for _, c := range []struct {
		variable string
		args     []string
		want     string
	}{
		{"", nil, "group=decnet"}, {"from-variable", nil, "from-variable"}, {"from-variable", []string{"--group", "from-flag"}, "from-flag"},
	} {
		t.Setenv("DECNET_BUS_GROUP", c.variable)
		var stderr bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, exitOK, run(ctx, append(c.args, "-s", socketFile(t), "-v"), io.Discard, &stderr))
		if strings.Contains(stderr.String(), "keeps the group") {
			require.Contains(t, strings.ReplaceAll(stderr.String(), `"group":"`, "group="), c.want)
		}
	}
}

// TestPathLost: a bus whose socket is gone is of no use, and says so.
func TestPathLost(t *testing.T) {
	socket := socketFile(t)
	p := startBus(t, socket)
	require.NoError(t, os.Remove(socket))
	line := p.until(t, "the bus cannot run")
	require.Contains(t, line["error"], socket+" was removed")
	require.Equal(t, exitFailed, p.end(t, syscall.Signal(0)))
}
