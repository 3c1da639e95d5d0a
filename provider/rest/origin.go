package rest

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// origin returns the origin that text consists of, without a trailing slash.
// Errors do not repeat text, which may hold a password.
func origin(text string) (string, error) {
	bad := func(why string) (string, error) {
		return "", errors.New("BaseURL " + why + `; give scheme, host and port only, like "https://api.example.com:8443"`)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return bad("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("does not start with http:// or https://")
	case u.User != nil:
		return bad("has a user name")
	case u.Hostname() == "":
		return bad("has no host")
	case strings.Contains(text, "?"):
		return bad("has a query")
	case strings.Contains(text, "#"):
		return bad("has a fragment")
	case u.Path != "" && u.Path != "/":
		return bad("has a path")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad("has a port that is not between 1 and 65535")
		}
	}
	return u.Scheme + "://" + u.Host, nil
}
