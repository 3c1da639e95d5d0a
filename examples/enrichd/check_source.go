package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// prober asks whether services are there. It follows no redirect, so that a key
// goes nowhere else.
var prober = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	},
}

// check tests the key where that costs no lookup, and otherwise whether the
// service can be reached.
func (s source) check(ctx context.Context) row {
	if s.ping != "" && s.key != "" {
		return s.checkKey(ctx)
	}
	if _, err := s.probe(ctx, http.MethodHead, "/", ""); err != nil {
		return failed(s.name, err)
	}
	switch {
	case s.needsKey:
		return row{s.name, checkNote, "reachable; whether it accepts the key, only a lookup can tell"}
	case s.ping != "":
		return row{s.name, checkNote, "reachable; without a key it answers only a few lookups a week"}
	}
	return row{s.name, checkOK, "reachable; it needs no key"}
}

func (s source) checkKey(ctx context.Context) row {
	status, err := s.probe(ctx, http.MethodGet, s.ping, s.key)
	switch {
	case err != nil:
		return failed(s.name, err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return failed(s.name, fmt.Errorf("the key is refused (HTTP %d); correct %s", status, s.variable("API_KEY")))
	case status/100 == 2:
		return row{s.name, checkOK, "the key is accepted"}
	case status >= 500:
		return failed(s.name, fmt.Errorf("the service fails (HTTP %d)", status))
	}
	return row{s.name, checkNote, fmt.Sprintf("reachable, but it does not say whether it accepts the key (HTTP %d)", status)}
}

// probe makes a request that costs no lookup, and returns the status of the
// answer.
func (s source) probe(ctx context.Context, method, path, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.asked+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible)") // names nobody
	if key != "" {
		req.Header.Set("Key", key)
	}
	resp, err := prober.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return 0, fmt.Errorf("%s cannot be reached: %w", s.asked, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // what it says is not needed
	return resp.StatusCode, nil
}
