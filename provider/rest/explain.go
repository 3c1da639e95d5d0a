package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// explain turns an error of the transport into one that is safe to show. The
// texts of a transport may hold the URL, a proxy's password or bytes of the
// answer. Only texts that are known to hold none of these are passed on, and
// only errors with such texts can be reached by unwrapping.
func explain(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("no answer in time: %w", ctxErr)
	}
	if errors.Is(err, context.DeadlineExceeded) { // a dialer may be a moment early
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		why := "cannot look up the host name"
		switch {
		case dns.IsNotFound:
			why = "no such host"
		case dns.IsTimeout:
			why = "timed out looking up the host name"
		}
		return errors.New(why)
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("certificate not accepted: %w", cert.Err)
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return fmt.Errorf("TLS refused by the server: %w", alert)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New("the server does not speak TLS")
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return fmt.Errorf("cannot connect: %w", no)
		}
		return fmt.Errorf("connection broken: %w", no)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return fmt.Errorf("timed out: %w", os.ErrDeadlineExceeded)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("answer cut off: %w", io.ErrUnexpectedEOF)
	}
	switch text := err.Error(); {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return errors.New("the server does not speak TLS")
	case strings.Contains(text, "malformed HTTP"):
		return errors.New("what answered does not speak HTTP")
	case strings.HasPrefix(text, "tls: "):
		return errors.New("TLS failed")
	}
	return errors.New("the request failed; the reason is not shown, because it may quote the request")
}
