// Package unixbus is DECNET's bus over a UNIX socket: [Bus] is a client of it,
// [Server] is the server. Both work with those of DECNET itself.
//
// # Wire
//
// Both sides send frames: an ASCII line "VERB argument" of at most 4096 bytes
// that ends with a newline, the length of the body in four bytes, most
// significant first, and the body, at most 1 MiB.
//
//	HELLO name      client: who it is, for the server's log
//	SUB pattern     client: send me what matches, see [bus.Match]; not answered
//	UNSUB pattern   client: no longer
//	PUB topic       client: an event
//	EVT topic       server: an event
//	BYE             both: the connection will be closed
//
// The body of PUB and EVT is an envelope, the JSON object
//
//	{"v":1,"id":"5f0c...","topic":"attacker.observed","type":"","ts":1767225600.25,"payload":{}}
//
// in which "topic" is for the reader's convenience: the one in the first line
// counts. The server passes on "type" and "payload" and gives every event an
// "id" and a "ts" of its own. It sends an event once to each connection with a
// pattern that matches, but never to the connection it came from. A frame that
// is malformed ends the connection that it came on.
//
// Like DECNET's, the server accepts every pattern and topic of printable ASCII, and
// every payload and type that is JSON. What follows a ">" in a pattern does not
// count, and another malformed pattern matches nothing. A payload that is missing,
// false, zero, empty text or an empty list becomes an empty object. A number
// beyond the range of a float64, such as 1E400, is malformed: parsers in other
// languages fail at it. A [Bus] drops events that [bus.Event] cannot hold.
//
// # What the wire cannot do
//
// Nothing is acknowledged. An event that the server has not read when it dies
// is lost, and a subscription exists from when the server has read about it,
// which is a little after Subscribe has returned. Topics and patterns are
// ASCII: others are refused with [bus.ErrInvalid].
//
// Who can open the socket is trusted, and nobody else can: it is open to its
// owner and its group.
package unixbus

import (
	"os"
	"path/filepath"
)

const (
	runtimeDir = "/run/decnet"
	socketName = "bus.sock"
)

// SocketPath returns where DECNET has its socket on this machine: what the
// environment variable DECNET_BUS_SOCKET says; or /run/decnet/bus.sock, if it
// exists or can be made; or .decnet/bus.sock in the home directory.
func SocketPath() string {
	return socketPath(runtimeDir)
}

func socketPath(runtimeDir string) string {
	if path := os.Getenv("DECNET_BUS_SOCKET"); path != "" {
		return path
	}
	path := filepath.Join(runtimeDir, socketName)
	if _, err := os.Stat(path); err == nil || writable(runtimeDir) {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path // and let who uses it say that it is not there
	}
	return filepath.Join(home, ".decnet", socketName)
}
