package provider

import (
	"crypto/tls"
	"errors"
	"net"
)

// Unsent reports whether err shows that the request certainly did not reach the
// source. That is so if an [*Error] in its chain says so, if it is of kind
// [ErrUnsupported] or [ErrConfig] and without a status, and if it wraps an error
// of package net or crypto/tls that comes before the first byte of a request.
// Unsent is false for nil and if in doubt.
func Unsent(err error) bool {
	if err == nil {
		return false
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		switch {
		case e.Unsent:
			return true
		case e.StatusCode != 0:
			return false
		}
	}
	switch Kind(err) {
	case ErrUnsupported, ErrConfig:
		return true
	case ErrUnavailable:
	default: // the source said something
		return false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op != nil && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	_, dns := errors.AsType[*net.DNSError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	return dns || certificate || plain
}
