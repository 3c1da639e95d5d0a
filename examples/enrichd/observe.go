package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/intel/intake"
	"github.com/decnet/enrich/provider"
)

// observing says where attackers come from besides the database.
type observing struct {
	follow       []string // files
	ingestListen string   // host:port; empty for none
	unknown      bool     // events about addresses that no attacker has
}

func (o *observing) any() bool { return len(o.follow) > 0 || o.ingestListen != "" || o.unknown }

// addFollow adds a file to follow.
func (o *observing) addFollow(path string) error {
	switch {
	case strings.TrimSpace(path) == "":
		return errors.New("it names no file")
	case slices.Contains(o.follow, path):
		return errors.New("that file is followed already")
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	o.follow = append(o.follow, path)
	return nil
}

// setListen reads tcp://HOST:PORT.
func (o *observing) setListen(text string) error {
	address, ok := strings.CutPrefix(text, "tcp://")
	if _, _, err := net.SplitHostPort(address); !ok || err != nil {
		return errors.New("it must have the form tcp://127.0.0.1:4711")
	}
	o.ingestListen = address
	return nil
}

// validate returns an error for each setting that makes no sense with the others.
func (o *observing) validate(once, expose bool) (errs []error) {
	if once && o.any() {
		errs = append(errs, errors.New("-once excludes -follow, -ingest-listen and -adopt-unknown"))
	}
	if o.ingestListen != "" {
		if err := (httpapi.Options{}).CheckListen(o.ingestListen, expose); err != nil {
			errs = append(errs, fmt.Errorf("-ingest-listen: %w (-expose says so)", err))
		}
	}
	return errs
}

// errForeign rejects inputs on DECNET's database.
var errForeign = usageError{errors.New("-follow, -ingest-listen and -adopt-unknown are rejected on DECNET's database: DECNET adds its attackers itself; " +
	"name a database of your own with -db FILE -create")}

// observer takes attackers into the database.
type observer struct {
	daemon  *daemon
	options observing
	// posts answers POST requests once the database is ready; foreign says that it
	// is DECNET's.
	posts   atomic.Pointer[http.Handler]
	foreign atomic.Bool
}

// check returns errForeign if attackers are to be added to DECNET's database. A
// database that does not answer yet is checked again before anything is added.
func (o *observer) check(ctx context.Context) error {
	owns, err := o.daemon.store.OwnsAttackers(ctx)
	if err != nil {
		return err
	}
	o.foreign.Store(!owns)
	if !owns && o.options.any() {
		return errForeign
	}
	return nil
}

// checkEarly is check at the start, when the database may have no tables or not
// answer.
func (o *observer) checkEarly(ctx context.Context) error {
	if o.daemon.database.isMissing() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := o.check(ctx); errors.Is(err, errForeign) {
		return err
	}
	return nil
}

// start begins to take attackers with functions that it passes to run and that
// return when ctx is done. The database has been prepared.
func (o *observer) start(ctx context.Context, run func(func() error)) error {
	if err := o.check(ctx); err != nil {
		return err
	}
	if o.foreign.Load() {
		return nil
	}
	host := ""
	if o.daemon.database.port != "" { // a server, which other machines may use
		host, _ = os.Hostname()
	}
	in, err := intake.New(intake.Options{
		Store: o.daemon.store, Wake: o.daemon.worker.Wake, Host: host, Logger: o.daemon.log,
		Allow: func(addr netip.Addr) bool { return provider.Guard{Own: o.daemon.ownNetworks()}.Allows(addr) },
	})
	if err != nil {
		return err
	}
	posts := in.Observations()
	o.posts.Store(&posts)
	for _, path := range o.options.follow {
		o.daemon.log.Info("following", "file", path)
		run(func() error { return in.Follow(ctx, path) })
	}
	if o.options.ingestListen != "" {
		l, err := listen(ctx, "-ingest-listen", o.options.ingestListen)
		if err != nil {
			return err
		}
		o.daemon.log.Info("listening for attackers", "address", "tcp://"+l.Addr().String())
		run(func() error { return in.Listen(ctx, l) })
	}
	if o.options.unknown {
		run(func() error { return in.Adopt(ctx, o.daemon.events, intel.TopicObserved, intel.TopicScored) })
	}
	return nil
}

// observe answers a request that posts observations and carries the token.
func (o *observer) observe(w http.ResponseWriter, r *http.Request) {
	switch posts := o.posts.Load(); {
	case o.foreign.Load():
		httpapi.Fail(w, r, http.StatusForbidden, "DECNET adds the attackers of its database itself")
	case posts == nil:
		w.Header().Set("Retry-After", "5")
		httpapi.Fail(w, r, http.StatusServiceUnavailable, "The database is not ready")
	default:
		(*posts).ServeHTTP(w, r)
	}
}
