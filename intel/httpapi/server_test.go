package httpapi_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/store/memstore"
)

// pipes is a listener whose connections are in memory, so that their deadlines
// run on the clock of the test.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial() net.Conn {
	here, there := net.Pipe()
	p <- there
	return here
}

// TestServer: a client that is slow, mute or long-winded is cut off.
func TestServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := make(pipes)
		server := httpapi.NewServer(httpapi.New(memstore.New(), httpapi.Options{}), nil)
		served := make(chan error)
		go func() { served <- server.Serve(p) }()

		const get = "GET /healthz HTTP/1.1\r\nHost: a\r\n"
		status := func(conn net.Conn) string {
			line, err := bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err)
			return line
		}
		conn := p.dial()
		_, err := io.WriteString(conn, get+"\r\n")
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 200 OK\r\n", status(conn))
		_ = conn.Close()

		for sent, limit := range map[string]time.Duration{
			"":             5 * time.Second,
			get:            5 * time.Second,
			get + "\r\n":   time.Minute, // idle
			"GET / HTTP/1": 5 * time.Second,
		} {
			conn := p.dial()
			started := time.Now()
			if sent != "" {
				_, err := io.WriteString(conn, sent)
				require.NoError(t, err)
			}
			_, err := io.Copy(io.Discard, conn)
			require.NoError(t, err)
			require.Equal(t, limit, time.Since(started), "%q", sent)
			_ = conn.Close()
		}

		conn = p.dial()
		go func() { _, _ = io.WriteString(conn, get+"X: "+strings.Repeat("x", 20<<10)+"\r\n\r\n") }()
		require.Contains(t, status(conn), "431")
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		_ = conn.Close()

		require.NoError(t, server.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestCheckListen(t *testing.T) {
	open := httpapi.Options{}
	guarded := httpapi.Options{Authorize: func(h http.Handler) http.Handler { return h }}
	for _, address := range []string{
		"127.0.0.1:8089", "127.1.2.3:0", "[::1]:8089", "[::ffff:127.0.0.1]:1", "localhost:65535",
	} {
		require.NoError(t, open.CheckListen(address, false), address)
	}
	for _, address := range []string{
		":8089", "0.0.0.0:8089", "[::]:8089", "192.168.0.1:80", "[fe80::1%eth0]:80", "[::ffff:0.0.0.0]:1", "128.0.0.1:1",
		"example.org:80", "localhost.example.org:80", "127.1:80", "127.0.0.1.example.org:80", "0x7f000001:80", "2130706433:80", "*:80",
	} {
		require.ErrorContains(t, open.CheckListen(address, false), "refusing", address)
		require.NoError(t, open.CheckListen(address, true), address)
		require.NoError(t, guarded.CheckListen(address, false), address)
	}
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "unix:/run/x"} {
		require.ErrorContains(t, guarded.CheckListen(address, true), "not like", address)
	}
}
