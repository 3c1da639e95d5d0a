package rest

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is a URL in parts.
type endpoint struct {
	origin string // scheme, host and port, without a slash at the end
	path   string // escaped; empty, or with a leading slash
	query  string // encoded, without the question mark
}

// url returns the URL of a request to path and query below e.
func (e endpoint) url(path, query string) string {
	u := e.origin + e.path
	if path != "" {
		u = e.origin + strings.TrimSuffix(e.path, "/") + path
	}
	if e.query != "" && query != "" {
		query = e.query + "&" + query
	} else {
		query = e.query + query
	}
	if query != "" {
		u += "?" + query
	}
	return u
}

// newEndpoint returns where requests go: to base, or to the service's own URL if
// base is empty. If base is only an origin, the path and the query are those of
// own.
func newEndpoint(own, base string) (endpoint, error) {
	e, err := parseURL("URL", own)
	if err != nil || base == "" {
		return e, err
	}
	b, err := parseURL("BaseURL", base)
	if b.path == "" && b.query == "" {
		b.path, b.query = e.path, e.query
	}
	return b, err
}

// parseURL takes the text of an option apart. Errors name the option and do not
// repeat the text, which may hold a password.
func parseURL(option, text string) (endpoint, error) {
	bad := func(why string) (endpoint, error) {
		return endpoint{}, fmt.Errorf(`%s %s; give a URL like "https://api.example.com:8443/v1", or only its scheme, host and port`, option, why)
	}
	u, err := url.Parse(text)
	switch {
	case text == "":
		return endpoint{}, errors.New(option + " is missing")
	case err != nil || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return bad("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("does not start with http:// or https://")
	case u.User != nil:
		return bad("has a user name")
	case u.Hostname() == "":
		return bad("has no host")
	case strings.Contains(text, "#"):
		return bad("has a fragment")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("has a port that is not between 1 and 65535")
		}
	}
	e := endpoint{origin: u.Scheme + "://" + u.Host, path: u.EscapedPath(), query: u.RawQuery}
	if e.path == "/" {
		e.path = ""
	}
	return e, nil
}
