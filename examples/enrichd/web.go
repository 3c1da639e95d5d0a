package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/dashboard"
	"github.com/decnet/enrich/intel/httpapi"
)

// tokenVariable is the token that guards what is answered over HTTP.
const tokenVariable = "DECNET_INTEL_TOKEN"

// token reads the token; it is empty if there is none.
func (e *environment) token() string {
	token, err := e.key(tokenVariable)
	switch {
	case err != nil:
		e.errs = append(e.errs, err)
		return ""
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		e.refuse("%s has characters that no header can carry; use letters, digits and punctuation", tokenVariable)
		return ""
	case token != "" && len(token) < 16:
		e.warn("%s is short and can be guessed; openssl rand -hex 32 makes a good one", tokenVariable)
	}
	return token
}

// guardListen refuses to listen where others can reach enrichd without a token,
// unless -expose says so.
func guardListen(o options, token string) error {
	if o.listen == "" {
		return nil
	}
	var guarded httpapi.Options
	if token != "" {
		guarded.Authorize = httpapi.BearerToken(token)
	}
	if err := guarded.CheckListen(o.listen, o.expose); err != nil {
		return fmt.Errorf("-listen: %w (%s adds authentication, -expose says so)", err, tokenVariable)
	}
	return nil
}

// addOrigin checks the origin of a page that may read what enrichd answers.
func (o *options) addOrigin(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || text != u.Scheme+"://"+u.Host {
		return errors.New("it is not an origin, like https://decnet.example")
	}
	o.origins = append(o.origins, strings.ToLower(text))
	return nil
}

// addHost checks a name that enrichd answers under.
func (o *options) addHost(text string) error {
	if text == "" || strings.ContainsAny(text, "/@ ") {
		return errors.New("it is not a host name, like enrich.example")
	}
	o.hosts = append(o.hosts, text)
	return nil
}

// hooks returns what the worker has to call. Metrics and live changes are for those
// who ask over HTTP.
func (d *daemon) hooks() intel.Hooks {
	hooks := d.pulse.hooks()
	if d.listen == "" {
		return hooks
	}
	alive := hooks.Saved
	hooks.Saved = func(info intel.SavedInfo) {
		alive(info)
		d.feed.Saved(info)
	}
	return d.meters.Hooks(hooks)
}

// server returns the server that answers over HTTP.
func (d *daemon) server() *http.Server {
	pages := http.NewServeMux()
	pages.Handle("/", dashboard.New(d.store, dashboard.Options{
		Status: d.workerStatus, Explain: d.worker.ExplainRecord, Feed: d.feed, Logger: d.log,
	}))
	pages.Handle("GET /metrics", d.meters.handler())
	o := httpapi.Options{
		Status:  oneAtATime(d.status),
		Explain: d.worker.ExplainRecord,
		Ready:   func(context.Context) error { return cmp.Or(d.watch.err(), d.pulse.ready()) },
		Feed:    d.feed,
		Pages:   pages,
		Public:  dashboard.Public(),
		Hosts:   append(slices.Clone(d.hosts), d.listen),
		Origins: d.origins,
		Logger:  d.log,
	}
	if d.config.token != "" {
		o.Authorize, o.Observations = httpapi.BearerToken(d.config.token), http.HandlerFunc(d.intake.observe)
	}
	server := httpapi.NewServer(httpapi.New(d.store, o), d.log)
	server.RegisterOnShutdown(d.feed.Close)
	return server
}
