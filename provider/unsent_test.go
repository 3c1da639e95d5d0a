package provider_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestUnsent(t *testing.T) {
	t.Parallel()
	of := func(kind error, status int, err error) error {
		return &provider.Error{Kind: kind, StatusCode: status, Err: err}
	}
	dns := &net.DNSError{Name: "host", IsNotFound: true}
	for name, c := range map[string]struct {
		err    error
		unsent bool
	}{
		"nil":                  {nil, false},
		"any error":            {errors.New("oops"), false},
		"marked":               {fmt.Errorf("x: %w", &provider.Error{Kind: provider.ErrUnavailable, Unsent: true}), true},
		"not marked":           {of(provider.ErrUnavailable, 0, nil), false},
		"no DNS":               {dns, true},
		"no DNS, in a URL":     {&url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: dns}}, true},
		"no DNS, in an Error":  {of(provider.ErrUnavailable, 0, dns), true},
		"no DNS, but a status": {of(provider.ErrUnavailable, 502, dns), false},
		"refused":              {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		"proxy":                {&net.OpError{Op: "proxyconnect", Err: syscall.ECONNREFUSED}, true},
		"reset":                {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, false},
		"certificate":          {&tls.CertificateVerificationError{Err: errors.New("expired")}, true},
		"no TLS":               {tls.RecordHeaderError{Msg: "HTTP"}, true},
		"cut off":              {io.ErrUnexpectedEOF, false},
		"not supported":        {of(provider.ErrUnsupported, 0, nil), true},
		"rejected":             {of(provider.ErrUnsupported, 400, nil), false},
		"no key":               {of(provider.ErrConfig, 0, nil), true},
		"no answer":            {of(provider.ErrBadResponse, 0, dns), false},
	} {
		require.Equal(t, c.unsent, provider.Unsent(c.err), name)
	}
}
