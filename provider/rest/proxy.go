package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// proxyError says that the proxy failed and not the service. Nothing has reached
// the service.
type proxyError struct {
	proxy string // scheme, host and port; empty if the setting is no URL
	why   string
}

func (e *proxyError) Error() string {
	if e.proxy == "" {
		return "the proxy setting " + e.why + "; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
	}
	return "the proxy " + e.proxy + " " + e.why + "; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
}

// proxyFor returns the proxy that transport sends req to, as scheme, host and
// port. It is empty if there is none, or if transport is not an [http.Transport].
func proxyFor(transport http.RoundTripper, req *http.Request) (proxy string, err error) {
	t, ok := transport.(*http.Transport)
	if !ok || t.Proxy == nil {
		return "", nil
	}
	u, err := t.Proxy(req)
	if err != nil { // its text has the setting, and so maybe a password
		return "", &proxyError{why: "is not a URL"}
	}
	return origin(u), nil
}

// origin returns scheme, host and port of u, and "" if u has no host or one that
// no host is called.
func origin(u *url.URL) string {
	if u == nil || u.Host == "" || len(u.Host) > 255 {
		return ""
	}
	if strings.ContainsFunc(u.Scheme+u.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// explainVia is explain for a request that went through a proxy, if that is not
// empty, or through one that only the transport knows. The error names the proxy; it is
// a proxyError if nothing but the proxy can have failed.
func explainVia(ctx context.Context, err error, proxy, scheme string) error {
	explained := explain(ctx, err)
	failed := cmp.Or(proxy, unnamed)
	switch op, isOp := errors.AsType[*net.OpError](err); {
	case ctx.Err() != nil:
	case isOp && strings.HasPrefix(op.Op, "socks") && socksAnswer.MatchString(op.Err.Error()):
		return &proxyError{failed, "answered: " + socksAnswer.FindStringSubmatch(op.Err.Error())[1]}
	case isOp && (op.Op == "proxyconnect" || strings.HasPrefix(op.Op, "socks")):
		return fmt.Errorf("%w: %w", &proxyError{failed, "cannot be used"}, explain(ctx, op.Err))
	case scheme == "https" && errors.Unwrap(err) == nil:
		// A transport that does not use proxyRefused has only the status text of what
		// the proxy answered.
		for status := 300; status < 600; status++ {
			if text := http.StatusText(status); text != "" && text == err.Error() {
				return &proxyError{failed, answered(status)}
			}
		}
	}
	if p, ok := errors.AsType[*proxyError](err); ok && ctx.Err() == nil {
		return p
	}
	if proxy == "" {
		return explained
	}
	return fmt.Errorf("through the proxy %s: %w", proxy, explained)
}

// unnamed stands for a proxy that only the transport knows.
const unnamed = "in between"

// socksAnswer matches what net/http says of a proxy of SOCKS that is not willing to
// connect. It quotes nothing but numbers.
var socksAnswer = regexp.MustCompile("^(?:unknown error )?(no acceptable authentication methods|username/password authentication failed|" +
	"invalid username/password version|general SOCKS server failure|connection not allowed by ruleset|network unreachable|" +
	"host unreachable|connection refused|TTL expired|command not supported|address type not supported|non-zero reserved field|" +
	"(?:unexpected protocol version|unsupported authentication method|unknown address type|unknown code:) [0-9]{1,3})$")

// proxyRefused turns the answer of a proxy that is not willing to connect into an
// error; see http.Transport.OnProxyConnectResponse.
func proxyRefused(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{origin(proxy), answered(resp.StatusCode)}
}

// answered says what a proxy answered.
func answered(status int) string {
	text := fmt.Sprintf("answered %d %s", status, http.StatusText(status))
	if status == http.StatusProxyAuthRequired {
		text += ": it requires a user name and a password"
	}
	return strings.TrimSpace(text)
}
