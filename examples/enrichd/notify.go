package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier tells systemd how the service is, as sd_notify(3) describes it:
// lines NAME=VALUE in a datagram to the socket in NOTIFY_SOCKET. Without that
// variable it tells nobody.
type notifier struct {
	conn     net.Conn
	watchdog time.Duration // how long systemd waits for a sign of life; 0 for ever
}

// newNotifier returns the notifier that the environment asks for.
func newNotifier(lookup lookup) (*notifier, error) {
	n, e := &notifier{}, environment{lookup: lookup}
	socket := e.get("NOTIFY_SOCKET")
	if socket == "" {
		return n, nil
	}
	if pid := e.get("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		usec, _ := strconv.ParseInt(e.get("WATCHDOG_USEC"), 10, 64) // none is 0
		n.watchdog = time.Duration(max(usec, 0)) * time.Microsecond
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	n.conn = conn
	return n, nil
}

func (n *notifier) send(state string) {
	if n.conn != nil {
		_, _ = n.conn.Write([]byte(state)) // systemd, if it has gone, misses nothing
	}
}

func (n *notifier) close() {
	if n.conn != nil {
		_ = n.conn.Close()
	}
}

// watch sends signs of life until ctx is done, as long as the worker gives some:
// it is woken, and has to have looked at the store, or saved something, lately.
func (n *notifier) watch(ctx context.Context, p *pulse, wake func()) {
	if n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.since() < n.watchdog/2 {
			n.send("WATCHDOG=1")
		}
		wake()
	}
}
