package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// BearerToken returns an [Options.Authorize] that asks for a token: in the header
// "Authorization: Bearer TOKEN" (RFC 6750) or, for a browser without JavaScript and
// for GET and HEAD only, as the password of "Authorization: Basic", whatever the
// user name. Other requests are answered with 401. An empty token lets nobody in.
func BearerToken(token string) func(http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			given, ok := givenToken(r)
			got := sha256.Sum256([]byte(given))
			if !ok || token == "" || subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
				w.Header().Add("WWW-Authenticate", `Bearer realm="enrich"`)
				if mayPrompt(r) {
					w.Header().Add("WWW-Authenticate", `Basic realm="enrich: any user name, the token as password", charset="UTF-8"`)
				}
				Fail(w, r, http.StatusUnauthorized, "Send the token in the header Authorization: Bearer TOKEN")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// mayPrompt reports whether a person may be asked for the token: on a page, or for what
// a page of this server loads. A browser that was given the token for a page sends it
// for /api/ only when it is asked there, too.
func mayPrompt(r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return true
	}
	return r.Header.Get("Sec-Fetch-Site") == "same-origin" && r.Header.Get("Authorization") == ""
}

// givenToken returns the token that a request carries.
func givenToken(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), true
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", false // another site could make a browser send that
	}
	_, token, ok = r.BasicAuth()
	return token, ok
}

// AnyHost in [Options.Hosts] accepts every Host header.
const AnyHost = "*"

// checkHost refuses requests whose Host header names another host than this one.
// It keeps a page in a browser from reaching the server under a name of the page's
// own that resolves to the server's address (DNS rebinding).
func checkHost(hosts []string, next http.Handler) http.Handler {
	if slices.Contains(hosts, AnyHost) {
		return next
	}
	accepted := make(map[string]bool, len(hosts))
	for _, host := range hosts {
		accepted[hostName(host)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if host := hostName(r.Host); ok && !accepted[host] && !isLocal(host, local) {
			Fail(w, r, http.StatusMisdirectedRequest, "This server does not answer under that host name")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostName returns the name or address in a Host header or an address to listen on,
// without the port, in lower case.
func hostName(s string) string {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// isLocal reports whether a host is a name or an address of the loopback network,
// or the address that the connection came in on.
func isLocal(host string, local *net.TCPAddr) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		return true
	}
	return addr == local.AddrPort().Addr().Unmap().WithZone("")
}

// share lets pages of the given origins read the answers (CORS). A browser sends
// credentials only if the page names them itself.
func share(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Vary", varies)
		origin := r.Header.Get("Origin")
		if origin == "" || !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, HEAD")
			h.Set("Access-Control-Allow-Headers", "Authorization, If-None-Match, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
