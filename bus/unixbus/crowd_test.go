package unixbus_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crowdOf in the environment makes the test binary a crowd of so many hostile
// clients of the server that the argument names: a process of its own, because
// one process may not have the files for both ends of ten thousand connections.
const crowdOf = "UNIXBUS_TEST_CROWD"

// startCrowd has so many clients connect, and more of them attack until the test
// ends.
func startCrowd(t *testing.T, path string, clients int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), crowdOf+"="+strconv.Itoa(clients))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "here\n", line)
}

// crowd is what the process of a crowd does. It says on standard output when all
// are connected, and stops when standard input ends.
func crowd(path string, clients int) error {
	conns := make([]net.Conn, clients) // kept
	for n := range conns {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		if n%2 == 0 { // the others say nothing
			if _, err := io.WriteString(conn, "PUB a\n\x00\x10\x00\x00{"); err != nil {
				return err
			}
		}
		conns[n] = conn
	}
	fmt.Println("here")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	random := rand.NewChaCha8([32]byte{1})
	tick := time.NewTicker(time.Millisecond)
	for n := 0; ; n++ {
		select {
		case <-ended:
			for _, conn := range conns {
				_ = conn.Close()
			}
			return nil
		case <-tick.C:
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		bad := []byte("PUB a\n\xff\xff\xff\xff{") // 4 GiB are to come
		if n%2 == 0 {
			bad = make([]byte, 100)
			_, _ = random.Read(bad)
		}
		_, _ = conn.Write(bad) // the server may be faster
		_ = conn.Close()
	}
}
