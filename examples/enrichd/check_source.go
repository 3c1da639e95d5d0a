package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/decnet/enrich/provider"
	httpjson "github.com/decnet/enrich/provider/rest"
)

// check tests the key where that costs no lookup, and otherwise whether the
// service can be reached.
func (s source) check(ctx context.Context) row {
	if s.ping != "" && s.key != "" {
		return s.checkKey(ctx)
	}
	if _, err := s.probe(ctx, "/", ""); err != nil {
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
	answer, err := s.probe(ctx, s.ping, s.key)
	if err != nil {
		return failed(s.name, err)
	}
	switch refused := answer.StatusError(); {
	case answer.Status/100 == 2:
		return row{s.name, checkOK, "the key is accepted"}
	case errors.Is(refused, provider.ErrUnauthorized):
		return failed(s.name, fmt.Errorf("the key is refused (HTTP %d); correct %s", answer.Status, s.variable("API_KEY")))
	case errors.Is(refused, provider.ErrUnavailable):
		return failed(s.name, fmt.Errorf("the service fails: %w", refused))
	}
	return row{s.name, checkNote, fmt.Sprintf("reachable, but it does not say whether it accepts the key (HTTP %d)", answer.Status)}
}

// probe makes a request that costs no lookup.
func (s source) probe(ctx context.Context, path, key string) (*httpjson.Response, error) {
	client, err := httpjson.New(httpjson.Options{
		Provider: s.name, URL: s.asked, Key: httpjson.Key{Header: "Key", Func: func() string { return key }},
	})
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(ctx, httpjson.Request{Path: path})
	if errors.Is(err, provider.ErrBadResponse) { // too long a page; it is there
		return &httpjson.Response{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached: %w", s.asked, err)
	}
	return answer, nil
}
