package httpapi

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// NewServer returns a server for h, which may be what [New] returned or
// something around it, that waits for no client for long and reads no more than
// 16 KiB of headers. It needs an address or a listener. A nil logger means
// slog.Default().
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.Default()
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      MaxTimeout + 15*time.Second, // runs while the request is worked on
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    12 << 10, // the server adds 4 KiB
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// CheckListen returns nil if a server with these options may listen on address,
// which has the form "host:port". That is so if it asks for credentials; if only
// this machine can reach it, which an address can that is of the loopback
// network, or the name localhost; or if exposed says that it is meant to be
// open to others without.
func (o Options) CheckListen(address string, exposed bool) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("httpapi: the address to listen on, %q, is not like 127.0.0.1:8089", address)
	}
	if o.Authorize != nil || exposed || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("httpapi: refusing to listen on %q, where others can reach it, without asking for credentials; "+
		"listen on 127.0.0.1 or ::1, or add authentication, or say explicitly that it is meant to be open", address)
}
